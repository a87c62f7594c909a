"""What a frozen detector says of an image once, for every head that is trained or asked on it afterwards.

Shapes: P proposals and M true boxes of one image, R regions, F pooled values of a region.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_iou

from lightning_fewshot.episodes import Episode
from lightning_fewshot.models.repmet.adaptation import support_rois
from lightning_fewshot.models.repmet.detector import touches
from lightning_fewshot.models.repmet.plain import PlainDetector
from lightning_fewshot.models.repmet.settings import FineTuning
from lightning_fewshot.nn.rois import label_rois

CHUNK = 20  # images that are computed together


class Canvas(NamedTuple):
    """Regions of one image; boxes are in pixels of the image as the detector sees it.

    Args:
        pooled: ``(P + M, F)`` half precision: proposals, then true boxes.
        proposals: ``(P, 4)``, by falling objectness.
        objectness: ``(P,)``.
        refined: ``(P, 4)``, the proposals moved by the detector's box regression.
        boxes: ``(M, 4)``, the truth.
        labels: ``(M,)``.
        name: Of the photo whose objects are asked for.
    """

    pooled: Tensor
    proposals: Tensor
    objectness: Tensor
    refined: Tensor
    boxes: Tensor
    labels: Tensor
    name: str

    def of_objects(self, rows: Tensor, labels: Tensor) -> Canvas:
        """Return the image with only these of its true boxes, under other labels."""
        kept = torch.cat([torch.arange(len(self.proposals)), len(self.proposals) + rows])
        return self._replace(pooled=self.pooled[kept], boxes=self.boxes[rows], labels=labels)


class BenchEpisode(NamedTuple):
    """An episode for any number of shots: those of one shot are among those of five.

    Args:
        classes: Names.
        support: Images.
        shots: Of each, ``(M,)``: the number of an object among the shots of its class, from 0.
        query: Images.
    """

    classes: tuple[str, ...]
    support: list[Canvas]
    shots: list[Tensor]
    query: list[Canvas]


class SupportRows(NamedTuple):
    """Regions of a support with k shots; rows count all regions of all its images, one after the other.

    Args:
        modes: ``(S,)`` rows that become representatives (section 5.2).
        classes: ``(S,)`` their classes.
        certain: Rows to fine-tune on: no proposals that may be objects which nobody labelled.
        labels: Of these, 0 is background.
    """

    modes: Tensor
    classes: Tensor
    certain: Tensor
    labels: Tensor


def remembered(path: Path, make: Callable[[], Any]) -> Any:
    """Return what a file holds, or make it and write the file."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(make(), path)
    with torch.serialization.safe_globals([Canvas, BenchEpisode]):
        return torch.load(path, weights_only=True)


@torch.no_grad()
def canvases(
    detector: PlainDetector,
    images: Tensor | list[Tensor],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    names: Sequence[str],
) -> list[Canvas]:
    """Return the regions of labelled images."""
    found = []
    for i in range(0, len(images), CHUNK):
        part = slice(i, i + CHUNK)
        found += _canvases(detector, images[part], boxes[part], labels[part], names[part])
    return found


def _canvases(detector: PlainDetector, images: Any, boxes: Any, labels: Any, names: Any) -> list[Canvas]:
    network = detector.network
    maps = network.maps(images)
    if not torch.equal(maps.scale, torch.ones_like(maps.scale)):
        raise ValueError("the detector enlarges images; scale them in the data (images.short_side) instead")
    regions = network.propose(maps)
    rois = [torch.cat(pair) for pair in zip(regions.boxes, boxes, strict=True)]
    pooled = network.pooled(maps, rois).split([len(r) for r in rois])
    proposed = [p[: len(r)] for p, r in zip(pooled, regions.boxes, strict=True)]
    refined = network._refine(maps, regions.boxes, network.head(torch.cat(proposed)).float())
    rows = zip(pooled, regions.boxes, regions.objectness, refined, boxes, labels, names, strict=True)
    return [Canvas(p.half(), *rest) for p, *rest in rows]


@torch.no_grad()
def training_regions(detector: PlainDetector, episode: Episode) -> tuple[Tensor, Tensor]:
    """Return pooled regions ``(R, F)`` of a batch and labels: all objects, three of the background to each at most."""
    network, query = detector.network, episode.query
    maps = network.maps(query.images)
    boxes = maps.scaled(query.boxes)
    rois = [torch.cat(pair) for pair in zip(network.propose(maps).boxes, boxes, strict=True)]
    labels = torch.cat([label_rois(r, b, n)[0] for r, b, n in zip(rois, boxes, query.labels, strict=True)])
    objects, ground = (labels > 0).nonzero()[:, 0], (labels == 0).nonzero()[:, 0]
    order = torch.randperm(len(ground), generator=torch.Generator().manual_seed(episode.index))
    kept = torch.cat([objects, ground[order][: 3 * len(objects)]])
    return network.pooled(maps, rois)[kept].half(), labels[kept]


def support_rows(episode: BenchEpisode, k_shot: int, n_modes: int = 5) -> SupportRows:
    """Return what a support of k shots is: representatives' regions as RepMet's detector chooses them, and the rest."""
    modes, classes, certain, labels, start = [], [], [], [], 0
    per_box = -(-max(n_modes, 2 * k_shot) // k_shot)
    for canvas, shots in zip(episode.support, episode.shots, strict=True):
        shown = shots < k_shot
        if shown.any():
            boxes, named, n = canvas.boxes[shown], canvas.labels[shown], len(canvas.proposals)
            rois = torch.cat([canvas.proposals, boxes])
            rows = start + torch.cat([torch.arange(n), n + shown.nonzero()[:, 0]])
            chosen, of_box = support_rois(canvas.proposals, boxes, per_box)
            modes.append(rows[(chosen[:, None] == rois).all(-1).int().argmax(1)])
            classes.append(named[of_box])
            near = touches(canvas.proposals, boxes)
            sure = torch.cat([(canvas.objectness < FineTuning().unlabelled) | near, torch.ones(len(boxes)).bool()])
            certain.append(rows[sure])
            labels.append(label_rois(rois, boxes, named)[0][sure])
        start += len(canvas.pooled)
    return SupportRows(*(torch.cat(part) for part in (modes, classes, certain, labels)))


def proposal_recall(episodes: Sequence[BenchEpisode], counts: Sequence[int]) -> dict[int, float]:
    """Return which share of all true boxes of the query has a proposal at IoU 0.5, among the N likeliest of an image.

    >>> box = torch.tensor([[0.0, 0, 9, 9]])
    >>> canvas = Canvas(box, torch.cat([box + 20, box]), torch.tensor([0.9, 0.8]), box, box, torch.tensor([0]), "a")
    >>> proposal_recall([BenchEpisode(("a",), [], [], [canvas])], [1, 2])
    {1: 0.0, 2: 1.0}
    """
    ious = [box_iou(c.boxes, c.proposals) for episode in episodes for c in episode.query]
    return {n: torch.cat([iou[:, :n].amax(1) >= 0.5 for iou in ious]).float().mean().item() for n in counts}
