"""One-shot learning for semantic segmentation (Shaban et al., BMVC 2017): the networks of section 4.

``w, b = g(S)`` (eq. 1): the conditioning branch looks at the masked support image and gives the parameters of a
logistic classifier. ``M_mn = sigmoid(w . F_mn + b)`` (eq. 2): the segmentation branch gives the features of the query
image that it classifies, pixel by pixel.

Shapes: S support images, B query images, D features of a cell, (h, w) cells of a feature map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.ops import masks_to_boxes, roi_align

from lightning_fewshot.models.oslsm.masks import OWN_SIDES, Sides, cell_shares, network_size, resized
from lightning_fewshot.nn.backbones import Backbone, Weights, classifier_network, freeze_batchnorm, input_statistics

CODE = 1000  # outputs of the conditioning branch, section 4.1
CHUNK = 16  # images that pass through a branch together outside of training
Conditioning = Literal["masked", "channel", "pooled"]
FullyConnected = Literal["new", "classifier"]
CodeNorm = Literal["none", "layer", "batch"]


class PixelClassifiers(NamedTuple):
    """Logistic classifiers of pixels, and whose they are.

    Args:
        weight: ``(S, D)``, one w for each shot (or each class, where a method joins its shots).
        bias: ``(S,)``.
        classes: ``(S,)`` int64, index into ``Episode.classes``.
        top: Parameters of fc6 and fc7 where an episode has its own (fine-tuning), by name.
    """

    weight: Tensor
    bias: Tensor
    classes: Tensor
    top: Mapping[str, Tensor] | None = None


class WeightHashing(nn.Module):
    """Map a code to more numbers by a fixed signed hash: ``out_i = sign(i) * x[h(i)]`` (Chen et al., ICML 2015).

    Equal to a fully connected layer with fixed weights (section 4.1). The map is drawn from a seed and is stored in the
    checkpoint, so that a model keeps its own.

    Args:
        n_in: Numbers of the code.
        n_out: Numbers to make.
        seed: Of the map.

    >>> WeightHashing(3, 7)(torch.tensor([[1.0, 2.0, 3.0]])).tolist()
    [[3.0, 1.0, 3.0, 1.0, -2.0, -1.0, 2.0]]
    """

    def __init__(self, n_in: int, n_out: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("index", torch.randint(n_in, (n_out,), generator=generator))
        self.register_buffer("sign", 2.0 * torch.randint(2, (n_out,), generator=generator) - 1)

    def forward(self, code: Tensor) -> Tensor:
        """Map ``(S, n_in)`` to ``(S, n_out)``."""
        return code[:, self.index] * self.sign


class ConditioningBranch(nn.Module):
    """The function g of eq. (1): a support image and its mask to a code of 1000 numbers.

    Args:
        name: Any timm classifier; the paper has VGG-16, up to its 1000 outputs.
        weights: ImageNet weights: "none", "timm" or "package".
        conditioning: "masked": the network sees only the object's pixels; "channel": the mask as fourth channel (the
            alternative that section 4.1 rejects); "pooled": it sees the whole image, and its last map is averaged over
            the object's cells (Zhang et al., SG-One, 2018).
        size: Side that support images are scaled to, in pixels.
        frozen_batchnorm: Keep batch normalisation as it is.
        crop: Look at the square around the object alone, not at the whole image.
        align_corners: Where "pooled" takes cells to lie, see ``masks.upsampled``.
        channels_last: Store the network's maps pixel by pixel.
        background: Share of the mean of the background's cells that "pooled" takes off the object's.
    """

    def __init__(
        self,
        name: str,
        weights: Weights,
        conditioning: Conditioning,
        size: int,
        frozen_batchnorm: bool = False,
        crop: bool = False,
        align_corners: bool = False,
        channels_last: bool = False,
        background: float = 0.0,
    ) -> None:
        super().__init__()
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.body = classifier_network(name, weights, CODE).to(memory_format=self.memory_format)
        self.conditioning, self.size, self.frozen_batchnorm = conditioning, size, frozen_batchnorm
        self.crop, self.align_corners, self.background = crop, align_corners, background
        if conditioning == "channel":
            _add_input_channel(self.body)
        mean, std = input_statistics(name, weights)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) * 255, persistent=False)
        self.train()

    def train(self, mode: bool = True) -> ConditioningBranch:
        """Keep frozen batch normalisations in evaluation mode."""
        super().train(mode)
        if self.frozen_batchnorm:
            freeze_batchnorm(self.body)
        return self

    def forward(self, images: Sequence[Tensor] | Tensor, objects: Sequence[Tensor] | Tensor) -> Tensor:
        """Return the code ``(S, 1000)``.

        Args:
            images: ``(S, 3, H, W)`` in [0, 255], or a list of ``(3, H, W)``.
            objects: ``(S, H, W)`` bool, or a list of ``(H, W)``: the pixels of the object.
        """
        if isinstance(images, Tensor):
            inputs = self._inputs(images, torch.as_tensor(objects))
        else:
            inputs = torch.cat([self._inputs(i[None], o[None]) for i, o in zip(images, objects, strict=True)])
        if self.conditioning != "pooled":
            return self.body(inputs.contiguous(memory_format=self.memory_format))
        maps = self.body.forward_features(inputs[:, :3].contiguous(memory_format=self.memory_format))
        share = cell_shares(inputs[:, 3:], maps.shape[-2:], self.align_corners)  # (S, 2, h, w): object and background
        share = share * (share >= share.amax((2, 3), keepdim=True).clamp(max=0.5))
        means = torch.einsum("schw,skhw->ksc", maps, share) / share.sum((2, 3)).clamp(min=1e-6).T[..., None]
        found = means[0] - self.background * means[1]
        return self.body.forward_head(found[:, :, None, None])  # its own pooling finds one cell

    def _inputs(self, images: Tensor, objects: Tensor) -> Tensor:
        inputs, mask = (images.float() - self.mean.float()) / self.std.float(), objects.float()[:, None]
        more = {"masked": [], "channel": [mask], "pooled": [mask, 1 - mask]}[self.conditioning]
        inputs = torch.cat([inputs, *more], dim=1) if more else inputs * mask
        if self.crop:
            seen = roi_align(inputs, list(_squares(objects)[:, None]), self.size, aligned=True)
        else:
            seen = interpolate(inputs, (self.size, self.size), mode="bilinear", antialias=True)
        return seen.to(self.std.dtype)


class SegmentationBranch(nn.Module):
    """The function phi of section 4.2: an FCN up to conv-fc7.

    Args:
        name: Any timm backbone; the paper has VGG-16.
        weights: ImageNet weights: "none", "timm" or "package".
        output_stride: 32 (FCN-32s), or less for the dilated variant (8 in section 7).
        features: D, channels of fc6 and fc7 (4096 in the paper).
        fc6_size: Side of fc6's kernel (7 for VGG-16).
        fc: "classifier": the layers with which the network classifies ImageNet, as FCN takes them: a VGG's fully
            connected ones, or the last convolution of an EfficientNet or a MobileNetV2. "new": fc6 and fc7 made anew.
        frozen_stages: First stages of the backbone that are not trained.
        frozen_batchnorm: Keep the backbone's batch normalisation as it is.
        channels_last: Store the backbone's maps pixel by pixel.
        dropout: Of fc6 and fc7 (0.5 in the authors' code).
        feature_norm: Give each channel of fc7 mean 0 and variance 1 over the cells of a batch (in training; over those
            of the training later).

    Raises:
        ValueError: ``fc`` is "classifier" but the network has no such layers, or others than ``features`` and
            ``fc6_size`` say.
    """

    def __init__(
        self,
        name: str,
        weights: Weights,
        output_stride: int,
        features: int,
        fc6_size: int,
        fc: FullyConnected = "new",
        frozen_stages: int = 0,
        frozen_batchnorm: bool = False,
        channels_last: bool = False,
        dropout: float = 0.5,
        feature_norm: bool = False,
    ) -> None:
        super().__init__()
        self.body = Backbone(
            name, (output_stride,), weights, frozen_batchnorm, frozen_stages, False, channels_last, output_stride
        )
        layers = [] if fc == "new" or name.startswith("vgg") else _last_convolution(name, weights)
        if not layers:
            rate = max(1, 32 // output_stride) if fc6_size > 1 else 1
            pad = rate * (fc6_size // 2)
            layers = [
                nn.Conv2d(self.body.channels[0], features, fc6_size, padding=pad, dilation=rate),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Conv2d(features, features, 1),
                nn.ReLU(),
            ]
            for layer in (layers[0], layers[3]):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        norm = [nn.BatchNorm2d(features, affine=False)] if feature_norm else []
        self.top = nn.Sequential(*layers, *norm, nn.Dropout(dropout))
        if fc == "classifier":
            self._check_width(name, features, fc6_size)
            if name.startswith("vgg") and weights != "none":
                _copy_fully_connected(self.top, name, weights)
        self.train()

    def _check_width(self, name: str, features: int, fc6_size: int) -> None:
        own = [layer for layer in self.top if isinstance(layer, nn.Conv2d)]
        wanted = (4096, 7) if name.startswith("vgg") else (own[-1].out_channels, own[0].kernel_size[0])
        if (features, fc6_size) != wanted:
            raise ValueError(
                f"fc is 'classifier' and features, fc6_size are {features}, {fc6_size}, "
                f"but {name} classifies with {wanted[0]}, {wanted[1]}"
            )

    def train(self, mode: bool = True) -> SegmentationBranch:
        """Keep frozen batch normalisations in evaluation mode, that of a pretrained fc6 too."""
        super().train(mode)
        if self.body.frozen_batchnorm:
            freeze_batchnorm(self.top[:2])
        return self

    def maps(self, images: Tensor) -> Tensor:
        """Return what fc6 sees, ``(B, C, h, w)``, of ``(B, 3, H, W)`` images in [0, 255]."""
        return self.body(images)[0]

    def forward(self, images: Tensor) -> Tensor:
        """Return conv-fc7, ``(B, D, h, w)``."""
        return self.top(self.maps(images))


class OSLSMNetwork(nn.Module):
    """Both branches, and the heads of the baselines.

    Args:
        segmentation: phi.
        conditioning: g, or None for a baseline.
        features: D.
        hashing: Weight hashing from g to (w, b); False: a fully connected layer (ablation of section 4.1).
        hash_seed: Seed of the hash.
        code_norm: Give codes mean 0 and variance 1 before they are hashed: "layer", each over its numbers; "batch",
            each number over the supports of a batch (in training; over those of the training later); "none".
        prototype_init: Let w start as the mean feature of the masked support, see ``start_from_prototypes``.
        sides: How large images enter the segmentation branch.
        siamese: Make the learned similarity of the siamese baseline.
    """

    def __init__(
        self,
        segmentation: SegmentationBranch,
        conditioning: ConditioningBranch | None,
        features: int,
        hashing: bool = True,
        hash_seed: int = 0,
        code_norm: CodeNorm = "none",
        prototype_init: bool = False,
        sides: Sides = OWN_SIDES,
        siamese: bool = False,
    ) -> None:
        super().__init__()
        self.segmentation, self.conditioning, self.n_features = segmentation, conditioning, features
        self.sides = sides
        self.norm = _code_norm(code_norm)
        if conditioning is not None:
            self.to_classifier = (
                WeightHashing(CODE, features + 1, hash_seed) if hashing else nn.Linear(CODE, features + 1)
            )
            if prototype_init:
                self.start_from_prototypes()
        self.similarity = nn.Parameter(torch.zeros(features + 1)) if siamese else None
        self.classify: nn.Conv2d | None = None

    @property
    def n_classes(self) -> int | None:
        """Training classes of the base classifier, once they are known."""
        return None if self.classify is None else self.classify.out_channels - 1

    def set_classes(self, n_classes: int) -> None:
        """Make the base classifier's last layer: background and the training classes (section 6)."""
        self.classify = nn.Conv2d(self.n_features, 1 + n_classes, 1)

    @torch.no_grad()
    def start_from_prototypes(self) -> None:
        """Set g's last layer so that w starts as what g's own network finds in the masked support.

        The code is ``H+ p``: p are the D pooled features before g's last layer and H+ the pseudo-inverse of the hash H.
        So ``w = H H+ p``, the nearest to p that the hash can give, and ``w . F_mn`` compares support and cell.

        Raises:
            ValueError: g's last layer does not see D features, or the code is not hashed.
        """
        last = self.conditioning.body.get_classifier()
        if not isinstance(self.to_classifier, WeightHashing):
            raise ValueError("prototype_init needs hashing: the inverse of the hash is what it sets")
        if last.in_features != self.n_features:
            raise ValueError(
                f"prototype_init needs features equal to those before the conditioning branch's last layer, "
                f"{last.in_features}, but features is {self.n_features}"
            )
        index, sign = self.to_classifier.index[:-1], self.to_classifier.sign[:-1]
        last.weight.zero_()
        last.weight[index, torch.arange(self.n_features)] = sign / index.bincount()[index]
        last.bias.zero_()

    def classifiers(
        self, images: Sequence[Tensor] | Tensor, objects: Sequence[Tensor] | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return w ``(S, D)`` and b ``(S,)`` of S shots, eq. (1); all shots pass through g together.

        w is scaled by ``1 / sqrt(D)``, so that scores start near 1 whatever the width.

        Raises:
            ValueError: One shot alone in training, where codes are normalised over a batch.
        """
        if self.training and isinstance(self.norm, nn.BatchNorm1d) and len(images) < 2:
            raise ValueError("code_norm 'batch' needs two supports in a training batch: raise data.batch_size above 1")
        codes = [self.conditioning(images[i : i + CHUNK], objects[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
        both = self.to_classifier(self.norm(torch.cat(codes).float()))  # eq. (1)
        return both[:, :-1] * self.n_features**-0.5, both[:, -1]

    def features(self, images: Sequence[Tensor] | Tensor, maps_only: bool = False) -> list[Tensor]:
        """Return conv-fc7 of every image, each ``(D, h, w)`` float32; images of one size pass together.

        Args:
            images: ``(B, 3, H, W)`` in [0, 255], or a list of ``(3, H, W)``.
            maps_only: Return what fc6 sees instead.
        """
        sizes = [network_size(image.shape[-2:], self.sides) for image in images]
        if len(set(sizes)) == 1:
            batches = [images[i : i + CHUNK] for i in range(0, len(images), CHUNK)]
        else:
            batches = [images[i : i + 1] for i in range(len(images))]
        run = self.segmentation.maps if maps_only else self.segmentation
        return [f for batch in batches for f in run(resized(batch, self.sides)).float()]


def mean_classifiers(state: PixelClassifiers) -> PixelClassifiers:
    """Return one classifier for each class, the mean of its shots' (w, b): its scores are the mean of theirs."""
    classes, place, shots = state.classes.unique(return_inverse=True, return_counts=True)
    weight = state.weight.new_zeros(len(classes), state.weight.shape[1]).index_add(0, place, state.weight)
    bias = state.bias.new_zeros(len(classes)).index_add(0, place, state.bias)
    return PixelClassifiers(weight / shots[:, None], bias / shots, classes)


def pixel_logits(state: PixelClassifiers, features: Tensor) -> Tensor:
    """Return ``w . F_mn + b`` of every classifier at every cell, eq. (2) before its sigmoid.

    Args:
        state: S classifiers.
        features: ``(D, h, w)``, or ``(B, D, h, w)``.

    Returns:
        ``(S, h, w)``, or ``(B, S, h, w)``.
    """
    weight = state.weight.to(features.dtype)
    return torch.einsum("sd,...dhw->...shw", weight, features) + state.bias[:, None, None]  # eq. (2)


def _add_input_channel(body: nn.Module) -> None:
    """Let the first convolution take a fourth channel, in place; it starts without influence."""
    name, first = next((n, m) for n, m in body.named_modules() if isinstance(m, nn.Conv2d))
    parent = body.get_submodule(name.rpartition(".")[0])
    wide = type(first)(
        4,
        first.out_channels,
        first.kernel_size,
        stride=first.stride,
        padding=first.padding,
        dilation=first.dilation,
        bias=first.bias is not None,
    )
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, :3] = first.weight
        if first.bias is not None:
            wide.bias.copy_(first.bias)
    setattr(parent, name.rpartition(".")[2], wide)


def _squares(objects: Tensor) -> Tensor:
    """Return the smallest square around each of ``(S, H, W)`` objects, centred on it: ``(S, 4)`` corners in pixels."""
    boxes = masks_to_boxes(objects)
    near, far = boxes[:, :2], boxes[:, 2:] + 1  # masks_to_boxes gives the last pixel, not its far edge
    middle, side = (near + far) / 2, (far - near).amax(1, keepdim=True)
    return torch.cat([middle - side / 2, middle + side / 2], dim=1)


def _code_norm(kind: CodeNorm) -> nn.Module:
    if kind == "layer":
        return nn.LayerNorm(CODE, elementwise_affine=False)
    return nn.BatchNorm1d(CODE, affine=False) if kind == "batch" else nn.Identity()


def _last_convolution(name: str, weights: Weights) -> list[nn.Module]:
    """Return the layers of an EfficientNet between its last map and its pooling."""
    network = classifier_network(name, weights)
    if not (hasattr(network, "conv_head") and hasattr(network, "bn2")):
        raise ValueError(f"fc is 'classifier' but {name} has no convolution before its pooling; use fc: new")
    return [network.conv_head, network.bn2]


def _copy_fully_connected(top: nn.Sequential, name: str, weights: Weights) -> None:
    """Start fc6 and fc7 from the fully connected layers of a VGG, as FCN does (Long et al., CVPR 2015)."""
    full = classifier_network(name, weights).pre_logits
    top[0].load_state_dict(full.fc1.state_dict())
    top[3].load_state_dict(full.fc2.state_dict())
