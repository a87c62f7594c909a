"""The conditioning branch of OSLSM: ``w, b = g(S)``, eq. (1) and section 4.1.

It looks at the masked support image and gives the parameters of a logistic classifier, which classifies the features of
the segmentation branch, pixel by pixel.

Shapes: S support images, D features of a location, (h, w) locations of a feature map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.ops import masks_to_boxes, roi_align

from lightning_fewshot.models.oslsm.pooling import pooling_weights, prototypes
from lightning_fewshot.models.oslsm.settings import SupportEncoder, check_aligned
from lightning_fewshot.nn.backbones import classifier_network, freeze_batchnorm, input_statistics
from lightning_fewshot.settings import BackboneSettings

CODE = 1000  # outputs of the conditioning network, section 4.1
CHUNK = 16  # images that pass through a branch together outside of training


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


class ConditioningNetwork(nn.Module):
    """A support image and its mask to a code of 1000 numbers.

    Args:
        backbone: Any timm classifier; the paper has VGG-16, up to its 1000 outputs.
        encoder: What it sees of a support image.
        align_corners: Where pooling takes locations to lie, see ``grid.upsampled``.

    Raises:
        ValueError: Pooling with aligned corners at a size whose last pixel is no location.
    """

    def __init__(self, backbone: BackboneSettings, encoder: SupportEncoder, align_corners: bool = False) -> None:
        super().__init__()
        self.body = classifier_network(backbone.name, backbone.weights, CODE, encoder.dropout)
        if encoder.pooling is not None and align_corners:
            stride = self.body.feature_info[-1]["reduction"]
            check_aligned("support encoder's size", encoder.size, "its network's stride", stride)
        self.body.to(memory_format=torch.channels_last)
        self.encoder = encoder
        self.align_corners = align_corners
        self.frozen_batchnorm = backbone.frozen_batchnorm
        if encoder.conditioning == "channel":
            add_input_channel(self.body)
        if encoder.trained == "last":
            self.body.requires_grad_(False)
            self.body.get_classifier().requires_grad_(True)
        mean, std = input_statistics(backbone.name, backbone.weights)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) * 255, persistent=False)
        self.train()

    def train(self, mode: bool = True) -> ConditioningNetwork:
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
        if self.encoder.pooling is not None:
            return self.code(self.pooled(images, objects))
        codes = [self.body(inputs) for inputs in self._scales(images, objects)]
        return torch.stack(codes).mean(0)

    def pooled(self, images: Sequence[Tensor] | Tensor, objects: Sequence[Tensor] | Tensor) -> Tensor:
        """Return what the network's last layers see ``(S, F)``: the mean of its last map, with ``pooling`` prototypes.

        Args:
            images: As above.
            objects: As above.
        """
        return torch.stack([self._pooled(inputs) for inputs in self._scales(images, objects)]).mean(0)

    def code(self, pooled: Tensor) -> Tensor:
        """Return the code ``(S, 1000)`` of what ``pooled`` returned, ``(S, F)``."""
        return self.body.forward_head(pooled[:, :, None, None])  # its own pooling sees one location

    def _pooled(self, inputs: Tensor) -> Tensor:
        if self.encoder.pooling is None:
            return self.body.forward_features(inputs).mean((2, 3))
        maps = self.body.forward_features(inputs[:, :3].contiguous(memory_format=torch.channels_last))
        weights = pooling_weights(inputs[:, 3:], maps.shape[-2:], self.align_corners)
        return prototypes(maps, weights, self.encoder.pooling.background)

    def _scales(self, images: Sequence[Tensor] | Tensor, objects: Sequence[Tensor] | Tensor) -> Iterator[Tensor]:
        """Yield what the network sees of all supports, once for each scale."""
        for scale in self.encoder.scales:
            if isinstance(images, Tensor):
                inputs = self._inputs(images, torch.as_tensor(objects), scale)
            else:
                pairs = zip(images, objects, strict=True)
                inputs = torch.cat([self._inputs(i[None], o[None], scale) for i, o in pairs])
            yield inputs.contiguous(memory_format=torch.channels_last)

    def _inputs(self, images: Tensor, objects: Tensor, scale: float) -> Tensor:
        """Return normalised images with what they carry of the mask, ``(S, 3 to 5, size, size)``."""
        inputs, mask = (images.float() - self.mean.float()) / self.std.float(), objects.float()[:, None]
        if self.encoder.pooling is not None:
            inputs = torch.cat([inputs, mask, 1 - mask], dim=1)
        elif self.encoder.conditioning == "channel":
            inputs = torch.cat([inputs, mask], dim=1)
        else:
            inputs = inputs * mask  # section 4.1: only the target object is seen
        size = self.encoder.size
        if self.encoder.crop:
            seen = roi_align(inputs, list(_squares(objects, scale)[:, None]), size, aligned=True)
        else:
            seen = interpolate(inputs, (size, size), mode="bilinear", antialias=True)
        return seen.to(self.std.dtype)


class ConditioningBranch(nn.Module):
    """The function g of eq. (1): support images and masks to w and b, through a code of 1000 numbers.

    Args:
        backbone: Of its network.
        encoder: What it sees, and how the code becomes (w, b).
        n_features: D.
        align_corners: See ``ConditioningNetwork``.

    Raises:
        ValueError: ``prototype_init`` where the network's last layer does not see D features.
    """

    def __init__(
        self, backbone: BackboneSettings, encoder: SupportEncoder, n_features: int, align_corners: bool = False
    ) -> None:
        super().__init__()
        self.n_features = n_features
        self.network = ConditioningNetwork(backbone, encoder, align_corners)
        self.norm = nn.LayerNorm(CODE, elementwise_affine=False) if encoder.code_norm else nn.Identity()
        n_out = n_features + 1
        self.to_classifier = WeightHashing(CODE, n_out) if encoder.hashing else nn.Linear(CODE, n_out)
        self.bias = nn.Parameter(torch.zeros(1)) if encoder.learned_bias else None
        if encoder.prototype_init:
            self.start_from_prototypes()

    def forward(self, images: Sequence[Tensor] | Tensor, objects: Sequence[Tensor] | Tensor) -> tuple[Tensor, Tensor]:
        """Return w ``(S, D)`` and b ``(S,)`` of S shots, eq. (1); all shots pass through the network together.

        w is scaled by ``1 / sqrt(D)``, so that scores start near 1 whatever the width.
        """
        parts = range(0, len(images), CHUNK)
        codes = torch.cat([self.network(images[i : i + CHUNK], objects[i : i + CHUNK]) for i in parts])
        return self.classifiers(codes)

    def classifiers(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return w ``(S, D)`` and b ``(S,)`` of codes ``(S, 1000)``."""
        outputs = self.to_classifier(self.norm(codes.float()))  # eq. (1)
        bias = outputs[:, -1] if self.bias is None else outputs[:, -1] + self.bias
        return outputs[:, :-1] * self.n_features**-0.5, bias

    @torch.no_grad()
    def start_from_prototypes(self) -> None:
        """Set the network's last layer so that w starts as what the network finds in the support before it.

        The code is ``H+ p``: p are the D pooled features before the last layer and H+ the pseudo-inverse of the hash H.
        So ``w = H H+ p``, the nearest to p that the hash can give, and ``w . F_mn`` compares support and location.
        """
        last = self.network.body.get_classifier()
        if last.in_features != self.n_features:
            raise ValueError(
                f"prototype_init needs features equal to those before the conditioning branch's last layer, "
                f"{last.in_features}, but they are {self.n_features}"
            )
        index, sign = self.to_classifier.index[:-1], self.to_classifier.sign[:-1]
        last.weight.zero_()
        last.weight[index, torch.arange(self.n_features)] = sign / index.bincount()[index]
        last.bias.zero_()


def add_input_channel(body: nn.Module) -> None:
    """Let the first convolution take a fourth channel, in place; it starts without influence."""
    name, first = next((n, m) for n, m in body.named_modules() if isinstance(m, nn.Conv2d))
    parent = body.get_submodule(name.rpartition(".")[0])
    same = {"stride": first.stride, "padding": first.padding, "dilation": first.dilation}
    wide = type(first)(4, first.out_channels, first.kernel_size, bias=first.bias is not None, **same)
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, :3] = first.weight
        if first.bias is not None:
            wide.bias.copy_(first.bias)
    setattr(parent, name.rpartition(".")[2], wide)


def _squares(objects: Tensor, scale: float) -> Tensor:
    """Return the smallest square around each of ``(S, H, W)`` objects, scaled about its centre: ``(S, 4)`` corners."""
    boxes = masks_to_boxes(objects)
    near, far = boxes[:, :2], boxes[:, 2:] + 1  # masks_to_boxes gives the last pixel, not its far edge
    middle, side = (near + far) / 2, (far - near).amax(1, keepdim=True) * scale
    return torch.cat([middle - side / 2, middle + side / 2], dim=1)
