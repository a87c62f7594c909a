"""Which head names the regions of one and the same detector best: RepMet's by several recipes, or baseline-DML?

    FEWSHOT_DATA=/data python studies/repmet_heads.py runs/.../checkpoints/last.ckpt CACHE                 # validation
    FEWSHOT_DATA=/data python studies/repmet_heads.py runs/.../checkpoints/last.ckpt CACHE --test "sigma 0.5"  # once

CACHE is a folder; what is in it already (regions of a batch or an episode, results of a head) is not computed again.

The checkpoint is a PlainDetector's. What its first fully connected layer gives of regions (true boxes and proposals of
Tiny-ImageNet mosaics) is computed once. Every head starts from the detector's second layer and trains for the same
steps on the same regions; all are asked the same questions, so that differences are paired, episode by
episode. Scores are those of eq. (2) alone: no objectness, no foreground exponent.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.ops import box_iou

from datamodules.detection.tiny_imagenet import Mosaic, TinyImageNetMosaics
from lightning_fewshot.checkpoints import build_module
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.metrics.detection import DetectionMetrics
from lightning_fewshot.metrics.estimate import Estimate, mean_interval
from lightning_fewshot.models.repmet.adaptation import MetricHead, gather_representatives, support_rois
from lightning_fewshot.models.repmet.head import Representatives
from lightning_fewshot.models.repmet.plain import PlainDetector
from lightning_fewshot.models.repmet.settings import Mixture
from lightning_fewshot.nn.detections import DetectionFilter, collect_detections
from lightning_fewshot.nn.embedding import embed
from lightning_fewshot.nn.rois import label_rois

BATCH = 256  # regions of a step, half of them objects
FIRST = 3  # modules of the detector's first fully connected layer: linear, normalisation, ReLU
EMBEDDING = 256
REPRESENTATIVES_LR = 5.0
LR = 1e-3
FILTER = DetectionFilter(score_threshold=0.0)
HEADS = {
    "sigma 0.5": Mixture(),
    "sigma 0.4": Mixture(sigma=0.4),
    "sigma 0.3": Mixture(sigma=0.3),
    "sigma 0.5, squared": Mixture(margin_unit="squared"),
    "sigma 0.3, squared": Mixture(sigma=0.3, margin_unit="squared"),
    "sigma 0.5, background": Mixture(background_margin=True),
    "sigma 0.5, negatives": Mixture(negatives=20),
    "sigma 0.3, squared, background": Mixture(sigma=0.3, margin_unit="squared", background_margin=True),
    "sigma 0.3, squared, background, negatives": Mixture(
        sigma=0.3, margin_unit="squared", background_margin=True, negatives=20
    ),
}
DML = "baseline-DML"
AUTHORS = {"logits": "scaled", "logit_scale": 15.0, "ranking": "softmax"}


@dataclass
class CachedEpisode:
    """What any head needs of an episode.

    Args:
        episode: Its truth; no images.
        support: ``(S, F)`` regions of the support.
        classes: ``(S,)``.
        query: ``(R, F)`` proposals of all query images.
        boxes: ``(R, 4)`` of every image, refined by the detector.
    """

    episode: Episode
    support: Tensor
    classes: Tensor
    query: Tensor
    boxes: list[Tensor]


@dataclass
class TrainedHead:
    """Layers to features, a last layer to the embedding, and constants."""

    layers: nn.Module
    last: tuple[Tensor, Tensor]
    mixture: Mixture
    negatives: Tensor | None = None


def inputs(detector: PlainDetector, pooled: Tensor) -> Tensor:
    """Return what all heads share of pooled regions, ``(R, F)`` in half precision."""
    return detector.network.head[:FIRST](pooled).half()


def remembered(path: Path, make: Callable[[], Any]) -> Any:
    """Return what a file holds, or make it and write the file."""
    if not path.is_file():
        torch.save(make(), path)
    with torch.serialization.safe_globals([CachedEpisode, Episode, Examples]):  # what a cache holds beside tensors
        return torch.load(path, weights_only=True)


@torch.no_grad()
def training_regions(detector: PlainDetector, episode: Episode) -> tuple[Tensor, Tensor]:
    """Return regions ``(R, F)`` of a batch and labels: all objects, and three of the background to each at most."""
    network, query = detector.network, episode.query
    maps = network.maps(query.images)
    boxes = maps.scaled(query.boxes)
    rois = [torch.cat(pair) for pair in zip(network.propose(maps).boxes, boxes, strict=True)]
    labels = torch.cat([label_rois(r, b, n)[0] for r, b, n in zip(rois, boxes, query.labels, strict=True)])
    objects, ground = (labels > 0).nonzero()[:, 0], (labels == 0).nonzero()[:, 0]
    order = torch.randperm(len(ground), generator=torch.Generator().manual_seed(episode.index))
    kept = torch.cat([objects, ground[order][: 3 * len(objects)]])
    return inputs(detector, network.pooled(maps, rois)[kept]), labels[kept]


@torch.no_grad()
def cached(detector: PlainDetector, episode: Episode, modes: int = 5) -> CachedEpisode:
    """Compute the regions of an episode once; the support's as in section 5.2."""
    network, regions = detector.network, detector.support_regions(episode.support)
    slots = max(modes, 2 * regions.k_shot)
    per_box = -(-slots // regions.k_shot)
    chosen = [support_rois(p, b, per_box) for p, b in zip(regions.proposals, regions.boxes, strict=True)]
    classes = torch.cat([n[box] for n, (_, box) in zip(regions.labels, chosen, strict=True)])
    support = network.pooled(regions.maps, [roi for roi, _ in chosen])
    maps = network.maps(episode.query.images)
    found = network.propose(maps).boxes
    query = network.pooled(maps, found)
    boxes = network._refine(maps, found, network.head(query).float())
    bare = episode._replace(support=None, query=episode.query._replace(images=episode.query.images[:0]))
    return CachedEpisode(bare, inputs(detector, support), classes, inputs(detector, query), boxes)


def batches(pooled: Tensor, labels: Tensor, steps: int):
    """Draw the same regions for every head."""
    generator = torch.Generator().manual_seed(1)
    objects, ground = (labels > 0).nonzero()[:, 0], (labels == 0).nonzero()[:, 0]
    for _ in range(steps):
        drawn = torch.randint(len(objects), (BATCH // 2,), generator=generator)
        rest = torch.randint(len(ground), (BATCH - BATCH // 2,), generator=generator)
        kept = torch.cat([objects[drawn], ground[rest]])
        yield pooled[kept].float(), labels[kept]


def train(detector: PlainDetector, regions: tuple[Tensor, Tensor], mixture: Mixture | None, steps: int) -> TrainedHead:
    """Train a head; without a mixture, baseline-DML's linear softmax classifier on its embedding."""
    torch.manual_seed(0)
    n_classes, size = len(detector.classes), detector.network.n_features
    layers, last = copy.deepcopy(detector.network.head[FIRST:]).train(), nn.Linear(size, EMBEDDING)
    learned = Representatives(n_classes, 5, EMBEDDING) if mixture else copy.deepcopy(detector.classify)
    negatives = Representatives(1, mixture.negatives, EMBEDDING) if mixture and mixture.negatives else None
    groups = [
        {"params": [*layers.parameters(), *(last.parameters() if mixture else ())]},
        {"params": list(learned.parameters()), "lr": LR * (REPRESENTATIVES_LR if mixture else 1)},
        {"params": list(negatives.parameters()) if negatives else [], "lr": LR * REPRESENTATIVES_LR},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for pooled, labels in batches(*regions, steps):
        features = layers(pooled)
        if mixture:
            ground = None if negatives is None else negatives.weight[0]
            head = MetricHead(last.weight, last.bias, learned.weight, None, mixture, ground)
            loss = head.losses(features, labels).mean()
        else:
            loss = cross_entropy(learned(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    layer = (last.weight.detach(), last.bias.detach()) if mixture else (torch.eye(size), torch.zeros(size))
    ground = None if negatives is None else negatives()[0].detach()
    return TrainedHead(layers.eval(), layer, mixture or Mixture(), ground)


@torch.no_grad()
def average_precision(head: TrainedHead, item: CachedEpisode, known_background: bool = False) -> float:
    """Return mAP at IoU 0.5 of one episode; with ``known_background`` proposals that are no object score 0."""
    embedded = embed(head.layers(item.support.float()), *head.last)
    n_way, slots = len(item.episode.classes), max(5, 2 * int(torch.bincount(item.classes).max()))
    representatives = gather_representatives(embedded, item.classes, n_way, slots)
    metric_head = MetricHead(*head.last, *representatives, head.mixture, head.negatives)
    scores = metric_head.scores(head.layers(item.query.float()))
    if known_background:
        pairs = zip(item.boxes, item.episode.query.boxes, strict=True)
        scores = scores * torch.cat([box_iou(boxes, truth).amax(1) >= 0.5 for boxes, truth in pairs])[:, None]
    preds = collect_detections(item.boxes, list(scores.split([len(b) for b in item.boxes])), FILTER)
    metric = DetectionMetrics(resamples=0, pooled=False, recall_at=())
    metric.update(preds, item.episode)
    return metric.compute()["map_50"].value


def show(estimate: Estimate) -> str:
    """Return a value and half its interval, in percent."""
    return f"{100 * estimate.value:.1f} ± {50 * (estimate.high - estimate.low):.1f}"


def measured(
    detector: PlainDetector, name: str, regions: tuple[Tensor, Tensor], items: list[CachedEpisode], steps: int
):
    """Return mAP of every episode, ``(E,)``, of a head and of what comes with it without training of its own."""
    mixture, size = None if name == DML else HEADS[name], detector.network.n_features
    head = train(detector, regions, mixture, steps)
    heads = {name: head}
    if mixture is not None:
        heads[f"{name}, its features"] = replace(head, last=(torch.eye(size), torch.zeros(size)), negatives=None)
        heads[f"{name}, authors' ranking"] = replace(head, mixture=replace(mixture, **AUTHORS))
    rows = {row: torch.tensor([average_precision(h, item) for item in items]) for row, h in heads.items()}
    oracle = torch.tensor([average_precision(head, item, known_background=True) for item in items])
    return rows | {f"{name}, background known": oracle}


def main() -> None:
    """Print mAP of every head, and its paired difference from baseline-DML."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("cache", help="folder of what was computed before")
    parser.add_argument("--heads", nargs="*", default=list(HEADS), choices=list(HEADS))
    parser.add_argument("--batches", type=int, default=120, help="training batches of 8 mosaics")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--test", choices=list(HEADS), help="ask the test classes, with this head and baseline-DML")
    options = parser.parse_args()
    split = "test" if options.test else "val"
    counts = EpisodeCounts(1, options.episodes, options.episodes)
    data = TinyImageNetMosaics(
        batch_size=8, mosaic=Mosaic(distractors=0), k_shot=options.shots, n_query=10, episodes=counts, num_workers=0
    )
    data.setup("fit")
    data.setup("test")
    detector, cache = build_module(options.checkpoint).eval(), Path(options.cache)
    cache.mkdir(parents=True, exist_ok=True)
    parts = [
        remembered(cache / f"train{i}.pt", lambda i=i: training_regions(detector, data.episode("train", i)))
        for i in range(options.batches)
    ]
    regions = torch.cat([p for p, _ in parts]), torch.cat([n for _, n in parts])
    items = [
        remembered(cache / f"{split}{i}x{options.shots}.pt", lambda i=i: cached(detector, data.episode(split, i)))
        for i in range(options.episodes)
    ]
    queries = sum(len(item.boxes) for item in items)
    print(f"{len(regions[1])} training regions; {split}: {len(items)} episodes, {queries} query mosaics", flush=True)
    plain: Tensor | None = None
    for name in [DML, *([options.test] if options.test else options.heads)]:
        sizes = f"{options.batches}-{options.episodes}-{options.steps}"
        path = cache / f"{split}x{options.shots} {name} {sizes}.result"
        rows = remembered(path, lambda name=name: measured(detector, name, regions, items, options.steps))
        plain = rows[name] if plain is None else plain
        for row, values in rows.items():
            print(f"| {row} | {show(mean_interval(values))} | {show(mean_interval(values - plain))} |", flush=True)


if __name__ == "__main__":
    main()
