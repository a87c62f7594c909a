"""Groups of settings of the segmenters: frozen, checked when they are made, plain data inside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Conditioning = Literal["masked", "channel"]
Reduction = Literal["mean", "sum"]
ShotAggregation = Literal["or", "mean"]
TrainedLayers = Literal["all", "last"]

MIN_SIDE = 32  # pixels; a smaller image is enlarged, so that every backbone has a feature-map location


@dataclass(frozen=True)
class NewLayers:
    """fc6 and fc7 made anew, in place of the layers with which the backbone classifies ImageNet.

    Args:
        features: D, channels of both (4096 in the paper).
        kernel_size: Side of fc6's kernel, odd (7 in the paper); fc7's is 1.
    """

    features: int = 4096
    kernel_size: int = 7

    def __post_init__(self) -> None:
        if self.features < 1:
            raise ValueError(f"features is {self.features} but must be at least 1")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {self.kernel_size} but must be odd")


@dataclass(frozen=True)
class SegmentationBranchSettings:
    """The segmentation branch phi (section 4.2) on top of its backbone.

    Args:
        output_stride: 32 (FCN-32s), or 16 or 8 for the dilated variants (section 7).
        fc: fc6 and fc7 made anew; None: the layers with which the backbone classifies ImageNet, as FCN takes them over
            (a VGG's fully connected ones, the last convolution of an EfficientNet), in their own width.
        dropout: Of fc6 and fc7, in [0, 1) (0.5 in the authors' code).
        feature_norm: Give each channel of fc7 mean 0 and variance 1 over the locations of a batch: an object's
            features differ from the mean of all, where those behind a ReLU point the same way everywhere.
    """

    output_stride: int = 32
    fc: NewLayers | None = None
    dropout: float = 0.5
    feature_norm: bool = False

    def __post_init__(self) -> None:
        if self.output_stride not in (1, 2, 4, 8, 16, 32):
            raise ValueError(f"output_stride is {self.output_stride} but must be a power of two up to 32")
        check_dropout(self.dropout)


@dataclass(frozen=True)
class ImageSides:
    """How large images enter the segmentation branch, and where its feature-map locations lie on them.

    Args:
        query_size: Both sides in pixels, at least 32; None: as they are.
        max_side: Where sides are kept, images whose longer side is above this are scaled down, in pixels; masks keep
            the image's size. With ``align_corners`` a side may be up to a stride larger.
        align_corners: Locations lie from the first pixel to the last: right for networks that pad both sides alike
            (nearly all of timm's), with a ``query_size`` that is a multiple of ``output_stride`` plus 1; where there is
            none, images are scaled to the next such sides. False: each lies in the middle of its pixels (a VGG).
    """

    query_size: int | None = None
    max_side: int = 1024
    align_corners: bool = False

    def __post_init__(self) -> None:
        check_side("max_side", self.max_side)
        if self.query_size is not None:
            check_side("query_size", self.query_size)

    def check_stride(self, output_stride: int) -> None:
        """Refuse a fixed side whose last pixel is no location of a map of ``output_stride``."""
        if self.align_corners and self.query_size is not None:
            check_aligned("query_size", self.query_size, "output_stride", output_stride)


@dataclass(frozen=True)
class Prototypes:
    """A support as the mean feature of its object (Zhang et al., SG-One, 2018), over whole images.

    Args:
        background: Share of the mean over the support's other locations that is taken off, from 0 to 1: what the object
            has in common with its background then counts less.
    """

    background: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.background <= 1:
            raise ValueError(f"background is {self.background} but must be 0 to 1")


@dataclass(frozen=True)
class SupportEncoder:
    """The conditioning branch g (section 4.1): what it sees of a support image, and how it becomes (w, b).

    Args:
        conditioning: "masked": the network sees only the object's pixels; "channel": the mask as a fourth channel
            (section 4.1 rejects it).
        pooling: The network sees the whole image, and its last map is pooled over the object; None: as in the paper.
        prototype_init: Let w start as what g's network finds in the support before its last layer, so that OSLSM
            compares support and query before it has learned anything. Needs ``fc: null`` in the segmentation branch.
        size: Side of support images, in pixels, at least 32 (224 in the paper). With ``pooling`` and
            ``align_corners`` a multiple of the network's stride (32) plus 1.
        crop: See the square around the object, not the whole image: small objects then are as large as others.
        scales: Sides of the squares that are seen with ``crop``, as multiples of the object's: what g makes of them is
            averaged, so that w is of the object at each scale.
        hashing: Weight hashing; False: a fully connected layer from the code to (w, b).
        code_norm: Give each code mean 0 and variance 1 before it is hashed. Without ImageNet weights, codes are too
            small to learn from.
        learned_bias: Add one learned number to every b, which by itself is an entry of the code, as those of w are.
        dropout: Before and between the network's last layers, in [0, 1) (0.5 in the authors' code).
        trained: "all" of g's network, as in the paper, or "last": its last layer alone.
        lr_factor: Learning rate of g, as a multiple (section 4.3: 0.1).
    """

    conditioning: Conditioning = "masked"
    pooling: Prototypes | None = None
    prototype_init: bool = False
    size: int = 224
    crop: bool = False
    scales: tuple[float, ...] = (1.0,)
    hashing: bool = True
    code_norm: bool = False
    learned_bias: bool = False
    dropout: float = 0.0
    trained: TrainedLayers = "all"
    lr_factor: float = 0.1

    def __post_init__(self) -> None:
        check_choice("conditioning", self.conditioning, get_args(Conditioning))
        check_choice("trained", self.trained, get_args(TrainedLayers))
        check_side("support encoder's size", self.size)
        check_dropout(self.dropout)
        if self.pooling is not None and self.conditioning != "masked":
            raise ValueError(
                f"conditioning is {self.conditioning!r} but pooling sees no mask but its own: set one of both"
            )
        object.__setattr__(self, "scales", tuple(self.scales))
        if not self.scales or min(self.scales) < 1:
            raise ValueError(f"scales is {self.scales} but must hold numbers of at least 1: the object's square is 1")
        if self.scales != (1.0,) and not self.crop:
            raise ValueError(f"scales is {self.scales} but needs crop: without it whole images are seen")
        if self.prototype_init and not self.hashing:
            raise ValueError("prototype_init needs hashing: the inverse of the hash is what it sets")
        if self.lr_factor < 0:
            raise ValueError(f"lr_factor is {self.lr_factor} but must be at least 0")


@dataclass(frozen=True)
class PixelLoss:
    """What OSLSM minimises: eq. (3), and shares of two overlap losses that the paper does not have.

    Args:
        reduction: "mean" of the pixels' losses, or "sum", the paper's, whose learning rate of 1e-10 belongs to it.
        positive_weight: Weight of the object's pixels in eq. (3), above 0; above 1 raises recall.
        dice: Share of the soft Dice loss, from 0 (the paper: eq. (3) alone) to 1. Like mean IoU, it rates an unsure
            mask above an empty one.
        contrast: Share of the Dice loss of every pair's class over all query images of the batch, from 0 (the paper:
            each is asked for its own class alone) to 1. What finds any object, whatever the support, has a low one.
    """

    reduction: Reduction = "mean"
    positive_weight: float = 1.0
    dice: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        check_choice("reduction", self.reduction, get_args(Reduction))
        if self.positive_weight <= 0:
            raise ValueError(f"positive_weight is {self.positive_weight} but must be above 0")
        if min(self.dice, self.contrast) < 0 or self.dice + self.contrast > 1:
            both = f"dice and contrast are {self.dice} and {self.contrast}"
            raise ValueError(f"{both} but must be at least 0 and together at most 1: their shares of the loss")


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Refuse a value that is none of those allowed."""
    if value not in (choices := tuple(allowed)):
        raise ValueError(f"{name} is {value!r} but must be one of {', '.join(choices)}")


def check_side(name: str, side: int) -> None:
    """Refuse a side that some backbone would have no feature-map location for."""
    if side < MIN_SIDE:
        raise ValueError(f"{name} is {side} pixels but must be at least {MIN_SIDE}")


def check_aligned(name: str, side: int, stride_name: str, stride: int) -> None:
    """Refuse a side whose last pixel is no location, where corners are aligned.

    >>> check_aligned("size", 64, "stride", 32)
    Traceback (most recent call last):
    ValueError: size is 64 but align_corners needs a multiple of stride, 32, plus 1, such as 65
    """
    if side % stride != 1:
        nearest = max(1, round((side - 1) / stride)) * stride + 1
        raise ValueError(
            f"{name} is {side} but align_corners needs a multiple of {stride_name}, {stride}, plus 1, such as {nearest}"
        )


def check_dropout(rate: float) -> None:
    """Refuse a dropout outside of [0, 1)."""
    if not 0 <= rate < 1:
        raise ValueError(f"dropout is {rate} but must be at least 0 and below 1")
