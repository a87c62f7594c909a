"""What a tracker trains on, cut from a video's frames: exemplars, search patches, whole frames; and their augmentation.

Every function returns an image ``(3, H, W)`` uint8 and the object's box ``(1, 4)`` in its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datamodules.images.augmentation import jitter_colors
from lightning_fewshot.boxes import scale
from lightning_fewshot.tracking.crops import CropSettings, centres, crop, mean_color, search_windows, to_crop


@dataclass(frozen=True)
class TrainingCrops(CropSettings):
    """How exemplars and search patches are cut to train on.

    Args:
        exemplar: Side of an exemplar, in pixels.
        search: Side of a search patch, in pixels, at the exemplar's scale.
        context: Margin of the exemplar, as a share of width plus height.
        shift: Move a search patch by up to so many of its pixels (0: the object is at its centre, as in section 3.3 of
            Learnet).
        stretch: Scale a search patch by up to this share, 0.05 is five percent.
    """

    shift: float = 0.0
    stretch: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shift < 0:
            raise ValueError(f"shift is {self.shift} but must be at least 0")
        if not 0 <= self.stretch < 1:
            raise ValueError(f"stretch is {self.stretch} but must be at least 0 and below 1")


@dataclass(frozen=True)
class VideoAugmentation:
    """How training images are varied.

    Args:
        mirror: Mirror a training item, all its images, with probability one half.
        color: Vary the color of each image.
    """

    mirror: bool = False
    color: bool = False

    def draw_flip(self, rng: np.random.Generator) -> bool:
        """Draw whether an item is mirrored."""
        return self.mirror and bool(rng.random() < 0.5)

    def __call__(self, image: Tensor, box: Tensor, rng: np.random.Generator, flip: bool) -> tuple[Tensor, Tensor]:
        """Return an image ``(3, H, W)`` and its box ``(1, 4)``, varied."""
        if self.color:
            pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
            image = torch.from_numpy(jitter_colors(pixels, rng)).permute(2, 0, 1)
        if flip:
            width = image.shape[2]
            box = torch.stack((width - box[:, 2], box[:, 1], width - box[:, 0], box[:, 3]), dim=1)
            image = image.flip(2)
        return image.contiguous(), box


def cut_exemplar(frame: Tensor, box: Tensor, crops: CropSettings) -> tuple[Tensor, Tensor]:
    """Cut the exemplar of an object with a box ``(4,)`` in a frame ``(3, H, W)``."""
    return _cut(frame, box, search_windows(box, 1.0, crops.context, 1.0), crops.exemplar)


def cut_search(frame: Tensor, box: Tensor, crops: TrainingCrops, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Cut a search patch around an object with a box ``(4,)``, moved and scaled where that is asked for."""
    window = search_windows(box, 1.0, crops.context, crops.search / crops.exemplar)
    if crops.shift or crops.stretch:
        window = _move(window, rng, crops.shift / crops.search, crops.stretch)
    return _cut(frame, box, window, crops.search)


def reduce_frame(frame: Tensor, box: Tensor, max_side: int | None) -> tuple[Tensor, Tensor]:
    """Return a whole frame ``(3, H, W)``, reduced to a longer side of ``max_side`` pixels; None keeps it as it is."""
    longer = max(frame.shape[1:])
    if max_side is None or longer <= max_side:
        return frame, box[None]
    size = [max(1, round(side * max_side / longer)) for side in frame.shape[1:]]
    reduced = torch.nn.functional.interpolate(frame[None].float(), size, mode="bilinear", antialias=True)[0]
    return _to_uint8(reduced), scale(box[None], size[0] / frame.shape[1], size[1] / frame.shape[2])


def _cut(frame: Tensor, box: Tensor, window: Tensor, size: int) -> tuple[Tensor, Tensor]:
    image = crop(frame, window[None], size, mean_color(frame))[0]
    return _to_uint8(image), to_crop(box, window, size)[None]


def _move(window: Tensor, rng: np.random.Generator, shift: float, stretch: float) -> Tensor:
    """Move a window ``(4,)`` by up to ``shift`` of its side along each axis and scale it by up to ``stretch``."""
    side = window[2:] - window[:2]
    centre = centres(window) + side * torch.from_numpy(rng.uniform(-shift, shift, 2)).float()
    half = side / 2 * float(1 + rng.uniform(-stretch, stretch))
    return torch.cat((centre - half, centre + half))


def _to_uint8(image: Tensor) -> Tensor:
    return image.round().clamp(0, 255).to(torch.uint8)
