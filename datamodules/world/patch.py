"""Small pictures with coverage: put on a picture, or smeared by motion.

Shapes: (H, W) a picture, (h, w) a patch.
"""

from typing import NamedTuple

import cv2
import numpy as np


class Patch(NamedTuple):
    """A small picture with coverage, to be put with its corner at (left, top)."""

    rgb: np.ndarray  # (h, w, 3) uint8
    alpha: np.ndarray  # (h, w) uint8
    left: int
    top: int

    @property
    def mask(self) -> np.ndarray:
        """Pixels that are at least half covered, (h, w) bool."""
        return self.alpha >= 128


def smear(patch: Patch, velocity: np.ndarray) -> Patch:
    """Blur a patch along the way it moves while the shutter is open.

    Args:
        patch: the patch at the middle of the exposure.
        velocity: (2,) pixels to the right and down during the exposure.

    Returns:
        A patch that is larger by the way; the same patch where that is under a pixel and a half.
    """
    kernel = motion_kernel(velocity)
    if kernel is None:
        return patch
    by = kernel.shape[0] // 2
    cover = np.dstack([cv2.multiply(patch.rgb, cv2.merge([patch.alpha] * 3), scale=1 / 255), patch.alpha])
    cover = cv2.copyMakeBorder(cover, by, by, by, by, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    cover = cv2.filter2D(cover.astype(np.float32), -1, kernel, borderType=cv2.BORDER_CONSTANT)
    alpha = cover[..., 3]
    rgb = cover[..., :3] * (255 / np.maximum(alpha, 1))[..., None]
    return Patch(
        np.clip(rgb + 0.5, 0, 255).astype(np.uint8), (alpha + 0.5).astype(np.uint8), patch.left - by, patch.top - by
    )


def motion_kernel(velocity: np.ndarray) -> np.ndarray | None:
    """Draw the blur kernel (odd, odd) float32 of a straight way in pixels, sum 1; None if under a pixel and a half."""
    way = float(np.hypot(*velocity))
    if way < 1.5:
        return None
    by = int(np.ceil(way / 2))
    kernel = np.zeros((2 * by + 1, 2 * by + 1), np.uint8)
    end = (np.asarray(velocity, np.float64) / 2 * 16).round().astype(int)
    cv2.line(kernel, (by * 16 - end[0], by * 16 - end[1]), (by * 16 + end[0], by * 16 + end[1]), 255, 1, cv2.LINE_AA, 4)
    return kernel.astype(np.float32) / kernel.sum()


def paste(picture: np.ndarray, patch: Patch) -> None:
    """Blend a patch into a picture, in place; what lies outside is cut off.

    Args:
        picture: (H, W, 3) uint8.
        patch: any patch, also one wholly outside.
    """
    rows, columns, inner = overlap(patch, picture.shape[:2])
    if inner[0].stop <= inner[0].start or inner[1].stop <= inner[1].start:
        return
    region = picture[rows, columns]
    alpha = cv2.merge([patch.alpha[inner]] * 3)
    cover = cv2.multiply(np.ascontiguousarray(patch.rgb[inner]), alpha, scale=1 / 255)
    region[...] = cv2.add(cv2.multiply(np.ascontiguousarray(region), 255 - alpha, scale=1 / 255), cover)


def overlap(patch: Patch, shape: tuple[int, int]) -> tuple[slice, slice, tuple[slice, slice]]:
    """Find where a patch lies on a picture.

    Args:
        patch: the patch.
        shape: (H, W) of the picture.

    Returns:
        Rows and columns of the picture, and (rows, columns) of the patch; all empty where the two do not meet.
    """
    (h, w), (height, width) = patch.alpha.shape, shape
    top, bottom = max(patch.top, 0), max(min(patch.top + h, height), max(patch.top, 0))
    left, right = max(patch.left, 0), max(min(patch.left + w, width), max(patch.left, 0))
    inner = (slice(top - patch.top, bottom - patch.top), slice(left - patch.left, right - patch.left))
    return slice(top, bottom), slice(left, right), inner
