"""Settings of the two-stage detector: frozen, checked when they are made, plain data inside."""

from __future__ import annotations

from dataclasses import dataclass

BODY_STRIDE = 32  # images are padded to a multiple of this: timm's backbones shrink them by as much


@dataclass(frozen=True)
class Pyramid:
    """The size of the images, the maps made from them, and the anchors on these.

    Args:
        strides: Strides of the backbone's maps, in pixels, from fine to coarse.
        anchor_sizes: Side of the anchors on each map, in pixels.
        channels: Channels of every map.
        coarsest: Propose regions also on one map more, of twice the last stride (P6). It needs an anchor size.
        deformable: Deformable convolutions in the backbone's last stage (DCN).
        short_side: Scale images to this shorter side, in pixels; None takes them as they are.

    Raises:
        ValueError: A number out of range, or not one anchor size for each map.
    """

    strides: tuple[int, ...] = (4, 8, 16, 32)
    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256)
    channels: int = 256
    coarsest: bool = False
    deformable: bool = False
    short_side: int | None = None

    def __post_init__(self) -> None:
        if not self.strides or min(self.strides) < 1 or list(self.strides) != sorted(set(self.strides)):
            raise ValueError(f"strides is {self.strides} but must rise from at least 1")
        if len(self.anchor_sizes) != len(self.strides) + self.coarsest:
            maps = f"strides has {len(self.strides)} entries" + " and coarsest adds a map" * self.coarsest
            raise ValueError(f"{maps} but anchor_sizes has {len(self.anchor_sizes)}")
        if min(self.anchor_sizes) < 1:
            raise ValueError(f"anchor_sizes is {self.anchor_sizes} but must be at least 1")
        if self.channels < 1:
            raise ValueError(f"channels is {self.channels} but must be at least 1")
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(f"short_side is {self.short_side} but must be at least 1")

    @property
    def padding(self) -> int:
        """Return what the padded sides of a batch are a multiple of, in pixels."""
        return max(BODY_STRIDE, self.strides[-1] * (2 if self.coarsest else 1))


@dataclass(frozen=True)
class Proposals:
    """How many regions the region proposal network offers.

    Args:
        train: Proposals of an image in training, after non-maximum suppression.
        test: The same in evaluation.
        before_nms: Anchors of each map that enter that suppression; None: as many as leave it.
        nms_iou: IoU above which it drops a proposal, in (0, 1].

    Raises:
        ValueError: A number out of range.
    """

    train: int = 2000
    test: int = 2000
    before_nms: int | None = None
    nms_iou: float = 0.7

    def __post_init__(self) -> None:
        if min(self.train, self.test) < 1:
            raise ValueError(f"train and test are {self.train} and {self.test} but must be at least 1")
        if self.before_nms is not None and self.before_nms < 1:
            raise ValueError(f"before_nms is {self.before_nms} but must be at least 1")
        if not 0 < self.nms_iou <= 1:
            raise ValueError(f"nms_iou is {self.nms_iou} but must be above 0 and at most 1")


@dataclass(frozen=True)
class RoiHead:
    """What is computed from a region of interest, and which regions are trained on.

    Args:
        pool_size: Side of a pooled roi, in cells.
        canonical_scale: Side of the rois that are pooled from the map of stride 16, in pixels; rois of half the side
            are pooled from the next finer map (Lin et al., eq. (1): 224).
        widths: Widths of the fully connected layers on a pooled roi.
        per_image: Rois of an image that are trained on.
        ohem: Train on the rois of highest loss; False samples a quarter of foreground.

    Raises:
        ValueError: A number out of range.
    """

    pool_size: int = 7
    canonical_scale: int = 224
    widths: tuple[int, ...] = (1024, 1024)
    per_image: int = 512
    ohem: bool = True

    def __post_init__(self) -> None:
        for name in ("pool_size", "canonical_scale", "per_image"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)} but must be at least 1")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths is {self.widths} but must hold widths of at least 1")
