"""The adapted network as an ordinary FCN: backbone, fc6, fc7, a 1x1 convolution, bilinear upsampling, logical OR."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_fewshot.models.oslsm.classifiers import PixelClassifiers, any_shot, sort_by_class
from lightning_fewshot.models.oslsm.grid import resized
from lightning_fewshot.models.oslsm.segmentation_branch import SegmentationBranch
from lightning_fewshot.models.oslsm.settings import ImageSides


class StaticFCN(nn.Module):
    """phi with (w, b) as its last convolution: no conditioning branch, nothing to adapt.

    Args:
        branch: The trained segmentation branch; it is copied, not changed.
        state: What ``adapt`` returned: S classifiers of N classes.
        align_corners: Where locations lie, see ``grid.upsampled``.

    Raises:
        ValueError: The state holds no (w, b), as that of nearest-neighbour methods.
    """

    def __init__(self, branch: SegmentationBranch, state: PixelClassifiers, align_corners: bool = False) -> None:
        super().__init__()
        if not isinstance(state, PixelClassifiers):
            raise ValueError(f"the state is {type(state).__name__}, but only PixelClassifiers can be exported")
        self.branch = copy.deepcopy(branch)
        self.align_corners = align_corners
        if state.top is not None:
            self.branch.top.load_state_dict({**self.branch.top.state_dict(), **state.top})
        ordered, self.shots = sort_by_class(state)
        self.score = nn.Conv2d(state.weight.shape[1], len(state.classes), 1, device=state.weight.device)
        with torch.no_grad():
            self.score.weight.copy_(ordered.weight[:, :, None, None])
            self.score.bias.copy_(ordered.bias)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Score images ``(B, 3, H, W)`` uint8: logits ``(B, N, H, W)``, above 0 in the class."""
        return self.at_size(images, images.shape[-2:])

    def at_size(self, images: Tensor, size: Sequence[int]) -> Tensor:
        """Return logits of ``size`` (height, width)."""
        logits = self.score(self.branch(images)).transpose(0, 1)  # (S, B, h, w)
        return torch.stack([any_shot(part, size, self.align_corners) for part in logits.split(self.shots)], dim=1)


class StaticSegmenter(nn.Module):
    """Photos of one size to the probability of every class at every pixel: scaling, the FCN, scaling back.

    Args:
        fcn: The adapted network.
        sides: How large images enter it.
        stride: Of its feature map.
    """

    def __init__(self, fcn: StaticFCN, sides: ImageSides, stride: int) -> None:
        super().__init__()
        self.fcn = fcn
        self.sides = sides
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities ``(B, N, H, W)`` of images ``(B, 3, H, W)`` uint8."""
        return self.fcn.at_size(resized(images, self.sides, self.stride), images.shape[-2:]).sigmoid()
