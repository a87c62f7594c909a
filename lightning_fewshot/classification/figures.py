"""Figures of an embedding: RepMet's figure 5 (t-SNE, colored by mode), 6 (a) (attributes) and 6 (d) (representatives).

Shapes: n images, e embedding, N classes, K modes of a class. Pictures are ``(3, H, W)`` uint8 RGB tensors.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from lightning_fewshot.classification.mixtures import ClassMixtures
from lightning_fewshot.drawing import caption
from lightning_fewshot.nn.embedding import squared_distances

SIDE = 160  # pixels of an image among the representatives
PANEL = 4.2  # inches of a panel's side
DPI = 110
INK = (40, 40, 40)


def places(embedded: Tensor, seed: int = 0) -> Tensor:
    """Return a place in the plane for each embedded image, ``(n, 2)``: t-SNE with a fixed seed.

    Raises:
        ValueError: There are fewer than three images.
    """
    from sklearn.manifold import TSNE

    if len(embedded) < 3:
        raise ValueError(f"t-SNE has {len(embedded)} images but needs at least 3")
    perplexity = min(30.0, (len(embedded) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return torch.from_numpy(tsne.fit_transform(embedded.double().cpu().numpy()))


def nearest_modes(embedded: Tensor, labels: Tensor, state: ClassMixtures) -> Tensor:
    """Return the mode of its own class that each image is nearest to, ``(n,)`` in [0, K)."""
    distances = squared_distances(embedded, state.representatives).masked_fill(~state.used, float("inf"))
    return distances[torch.arange(len(labels), device=labels.device), labels].argmin(dim=1)


def nearest_images(embedded: Tensor, state: ClassMixtures) -> Tensor:
    """Return the image that lies nearest to each representative, whatever its class, ``(N, K)`` in [0, n)."""
    return squared_distances(embedded, state.representatives).argmin(dim=0)


def draw_maps(panels: Sequence[tuple[str, Tensor, Tensor, Tensor]], names: Sequence[str]) -> Tensor:
    """Return maps of an embedding side by side: a hue for each class, a shade and a marker for each of its modes.

    Args:
        panels: Title, places ``(n, 2)``, labels ``(n,)`` and modes ``(n,)`` of each.
        names: Names of the classes.
    """
    figure = _figure(len(panels) * PANEL, PANEL + 0.25 * -(-len(names) // 4) + 0.3)
    for number, (title, where, labels, modes) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), number)
        for label, mode in sorted({*zip(labels.tolist(), modes.tolist(), strict=True)}):
            chosen = ((labels == label) & (modes == mode)).cpu()
            axes.scatter(*where[chosen].T, s=18, color=_color(label, mode, len(names)), marker="osD^vPX*"[mode % 8])
        axes.set(title=title, xticks=[], yticks=[])
    handles = [_handle(name, _color(label, 0, len(names))) for label, name in enumerate(names)]
    figure.legend(handles=handles, loc="lower center", ncols=min(4, len(names)), frameon=False, fontsize=9)
    return _picture(figure, bottom=0.25 * -(-len(names) // 4) + 0.15)


def draw_representatives(
    images: Sequence[Tensor], labels: Tensor, nearest: Tensor, used: Tensor, names: Sequence[str]
) -> Tensor:
    """Return a row for each class: the training image nearest to each representative, with that image's own class.

    Args:
        images: n images ``(3, H, W)`` uint8.
        labels: Their classes ``(n,)``.
        nearest: ``(N, K)``, see :func:`nearest_images`.
        used: ``(N, K)`` bool; slots that are not used stay white.
        names: Names of the classes.
    """
    rows = []
    for label, (numbers, slots) in enumerate(zip(nearest.tolist(), used.tolist(), strict=True)):
        cells = [
            _cell(images[n], names, label, int(labels[n])) if slot else None
            for n, slot in zip(numbers, slots, strict=True)
        ]
        height = max(cell.shape[1] for cell in cells if cell is not None)
        rows.append(torch.cat([_padded(cell, height) for cell in cells], dim=2))
    return torch.cat(rows, dim=1)


def draw_curves(curves: Mapping[str, Sequence[float]], sizes: Sequence[int], across: str, up: str) -> Tensor:
    """Return curves over neighbourhood sizes, as in figure 6 (a)."""
    figure = _figure(1.5 * PANEL, PANEL)
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(curves.items()):
        axes.plot(sizes, list(values), marker="osD^vPX*"[number % 8], label=name)
    axes.set(xlabel=across, ylabel=up)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return _picture(figure)


def _cell(image: Tensor, names: Sequence[str], label: int, shown: int) -> Tensor:
    picture = interpolate(image.cpu().expand(3, -1, -1)[None].float(), (SIDE, SIDE), mode="bilinear")[0]
    text = names[shown] if shown == label else f"of {names[label]}: {names[shown]}"
    return caption(picture.round().to(torch.uint8), [(text, INK if shown == label else (200, 0, 0))])


def _padded(cell: Tensor | None, height: int) -> Tensor:
    cell = torch.full((3, height, SIDE), 255, dtype=torch.uint8) if cell is None else cell
    return pad(cell, (0, 6, 0, height - cell.shape[1]), value=255)


def _color(label: int, mode: int, count: int) -> tuple[float, float, float]:
    return colorsys.hls_to_rgb(label / max(count, 1), (0.45, 0.65, 0.3)[mode % 3], 0.8)


def _handle(name: str, color: tuple[float, float, float]) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", marker="o", color=color, label=name)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI)


def _picture(figure: Any, bottom: float = 0.0) -> Tensor:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    figure.tight_layout(rect=(0, bottom / figure.get_figheight(), 1, 1))
    canvas.draw()
    return torch.from_numpy(np.array(canvas.buffer_rgba())[..., :3]).permute(2, 0, 1)
