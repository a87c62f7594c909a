"""The adapted network as an ordinary FCN: backbone, fc6, fc7, a 1x1 convolution, bilinear upsampling, logical OR."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from lightning_fewshot.models.oslsm.masks import upsampled
from lightning_fewshot.models.oslsm.network import PixelClassifiers, SegmentationBranch


class StaticFCN(nn.Module):
    """phi with (w, b) as its last convolution: no conditioning branch, nothing to adapt.

    Args:
        branch: The trained segmentation branch; it is copied, not changed.
        state: What ``adapt`` returned: S classifiers of N classes.
        align_corners: Where cells lie, see ``masks.upsampled``.

    Raises:
        ValueError: The state holds no (w, b), as that of nearest-neighbour methods.
    """

    def __init__(self, branch: SegmentationBranch, state: PixelClassifiers, align_corners: bool = False) -> None:
        super().__init__()
        if not isinstance(state, PixelClassifiers):
            raise ValueError(f"the state is {type(state).__name__}, but only PixelClassifiers can be exported")
        self.branch, self.align_corners = copy.deepcopy(branch), align_corners
        if state.top is not None:
            self.branch.top.load_state_dict({**self.branch.top.state_dict(), **state.top})
        order = state.classes.argsort(stable=True)
        self.shots = state.classes.unique(return_counts=True)[1].tolist()  # of each class, in order
        self.score = nn.Conv2d(state.weight.shape[1], len(order), 1, device=state.weight.device)
        with torch.no_grad():
            self.score.weight.copy_(state.weight[order][:, :, None, None])
            self.score.bias.copy_(state.bias[order])
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Score images ``(B, 3, H, W)`` uint8: logits ``(B, N, H, W)``, above 0 in the class."""
        scores = upsampled(self.score(self.branch(images)), images.shape[-2:], self.align_corners)
        return torch.stack([part.amax(1) for part in scores.split(self.shots, dim=1)], dim=1)
