"""Figures of what models see, for notebooks and papers: pictures, embeddings, filters, maps of scores.

Each function draws with matplotlib and returns the figure.

Shapes: n points, e embedding, N classes, S filters, D features, (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100  # pixels of an inch of the screen
LONGEST = 14.0  # inches
SHOWN_FEATURES = 40  # of a filter, those that differ most from shot to shot


def show_picture(picture: Tensor, title: str = "") -> Figure:
    """Show a picture ``(3, H, W)`` uint8, such as ``module.draw`` returns, pixel by pixel where it fits."""
    import matplotlib.pyplot as plt

    height, width = (side / DPI for side in picture.shape[1:])
    scale = min(1.0, LONGEST / max(height, width))
    figure, axes = plt.subplots(figsize=(max(width * scale, 2), max(height * scale, 1) + 0.3 * bool(title)))
    axes.imshow(picture.permute(1, 2, 0).numpy())
    axes.set_title(title)
    axes.axis("off")
    figure.tight_layout()
    return figure


def plane_of(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean ``(e,)`` and the two main directions ``(e, 2)`` of points ``(n, e)``: a PCA.

    >>> mean, axes = plane_of(torch.tensor([[0.0, 0.0, 1.0], [4.0, 0.0, 1.0], [2.0, 1.0, 1.0], [2.0, -1.0, 1.0]]))
    >>> mean.tolist(), axes.abs().round().tolist()
    ([2.0, 0.0, 1.0], [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    """
    mean = points.mean(0)
    _, _, directions = torch.linalg.svd(points - mean, full_matrices=False)
    directions = torch.cat([directions, directions.new_zeros(2, directions.shape[1])])[:2]  # of two points: one
    return mean, directions.T


def show_embeddings(groups: Mapping[str, tuple[Tensor, Tensor]], classes: Sequence[str], title: str = "") -> Figure:
    """Show embeddings on the plane that holds most of their variance, a color for each class.

    Args:
        groups: Points ``(n, e)`` and their classes ``(n,)`` by what they are; the first are drawn as stars.
        classes: Names.
        title: Of the figure.
    """
    import matplotlib.pyplot as plt

    everything = torch.cat([points for points, _ in groups.values()]).float()
    mean, axes_of_plane = plane_of(everything)
    share = ((everything - mean) @ axes_of_plane).square().sum() / (everything - mean).square().sum().clamp(min=1e-12)
    figure, axes = plt.subplots(figsize=(7, 5))
    for (name, (points, labels)), marker in zip(groups.items(), "*o^s", strict=False):
        x, y = ((points.float() - mean) @ axes_of_plane).T.numpy()
        colors = [f"C{label % 10}" for label in labels.tolist()]
        size = 220 if marker == "*" else 30
        axes.scatter(x, y, c=colors, marker=marker, s=size, edgecolors="black", linewidths=0.6, zorder=2)
        axes.scatter([], [], c="white", marker=marker, s=size / 2, edgecolors="black", label=name)
    for i, name in enumerate(classes):
        axes.scatter([], [], c=f"C{i % 10}", marker="s", label=name)
    axes.set_xlabel(f"the plane holds {float(share):.0%} of the variance")
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.tight_layout()
    return figure


def show_filters(weights: Tensor, names: Sequence[str], title: str = "") -> Figure:
    """Show predicted filters ``(S, D)`` as rows, in the features where they differ most; red is positive."""
    import matplotlib.pyplot as plt

    weights = weights.float()
    spread = weights.var(0, correction=0) if len(weights) > 1 else weights[0].abs()
    chosen = spread.topk(min(SHOWN_FEATURES, weights.shape[1])).indices
    chosen = chosen[weights[0, chosen].argsort(descending=True)]
    largest = float(weights[:, chosen].abs().max())
    figure, axes = plt.subplots(figsize=(8, 0.4 * len(weights) + 1.4))
    image = axes.imshow(weights[:, chosen].numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
    axes.set_yticks(range(len(weights)), names)
    axes.set_xlabel(f"{len(chosen)} of {weights.shape[1]} features, those in which the filters differ most")
    axes.set_xticks([])
    axes.set_title(title)
    figure.colorbar(image, pad=0.02)
    figure.tight_layout()
    return figure


def show_maps(pictures: Sequence[Tensor], maps: Sequence[Tensor], titles: Sequence[str], limits=None) -> Figure:
    """Show images ``(3, H, W)`` above, and below each its map ``(h, w)`` laid over it.

    Args:
        pictures: uint8, or float in [0, 255].
        maps: Scores, probabilities or responses.
        titles: One an image.
        limits: Lowest and highest value of the colors; None: of each map its own.
    """
    import matplotlib.pyplot as plt

    size = (2.6 * len(maps), 6.0)
    figure, rows = plt.subplots(2, len(maps), figsize=size, squeeze=False, layout="constrained")
    for column, (picture, values, title) in enumerate(zip(pictures, maps, titles, strict=True)):
        grey = np.asarray(picture.float().mean(0))
        shown = interpolate(values[None, None].float(), grey.shape, mode="bilinear")[0, 0].numpy()
        low, high = limits or (shown.min(), shown.max())
        rows[0, column].imshow(picture.float().clamp(0, 255).byte().permute(1, 2, 0).numpy())
        rows[0, column].set_title(title, fontsize=9)
        rows[1, column].imshow(grey, cmap="gray")
        image = rows[1, column].imshow(shown, cmap="viridis", alpha=0.65, vmin=low, vmax=high)
        figure.colorbar(image, ax=list(rows[:, column]), location="bottom", aspect=25, pad=0.02)
    for axes in rows.flat:
        axes.axis("off")
    return figure
