"""What heads say of an episode, what that is worth, and its interval over query photos and episodes.

Shapes: E episodes, B resamples, R proposals of all query images, N classes, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from repmet_bench.regions import BenchEpisode, SupportRows, support_rows
from repmet_bench.training import DML, TrainedHead, first_layer
from torch import Tensor
from torchvision.ops import box_iou

from lightning_fewshot.metrics.detection import mean_average_precision, recall_at
from lightning_fewshot.metrics.detection_matching import match, pool
from lightning_fewshot.metrics.estimate import Estimate, bootstrap_interval, bootstrap_weights
from lightning_fewshot.models.repmet.adaptation import MetricHead, finetune, gather_representatives, imprinted
from lightning_fewshot.models.repmet.plain import PlainDetector
from lightning_fewshot.models.repmet.settings import FineTuning
from lightning_fewshot.nn.detections import DetectionFilter, collect_detections
from lightning_fewshot.nn.embedding import embed

FINETUNED = "baseline-FT"
AUTHORS = {"logits": "scaled", "logit_scale": 15.0, "ranking": "softmax"}
FILTER = DetectionFilter(score_threshold=0.0)
METRICS = ("map_50", "recall_10", "recall_100")
RESAMPLES = 200
GROUPS = 1000  # classes times images whose boxes are suppressed together


@dataclass(frozen=True)
class Asked:
    """Which scores are computed beside eq. (2).

    Args:
        steps: Of fine-tuning of RepMet and baseline-DML on the support (table 3, right half); 0 leaves it out.
        variants: RepMet's features without its last layer, and the authors' ranking.
        known: What the head would have if proposals that are no object scored 0.
    """

    steps: int = 0
    variants: bool = False
    known: bool = False


class Prepared:
    """An episode with what the detector's first layer makes of its regions, computed once for all heads."""

    def __init__(self, detector: PlainDetector, episode: BenchEpisode) -> None:
        self.episode = episode
        self.n_way = len(episode.classes)
        self.pooled = (
            torch.cat([c.pooled[: len(c.proposals)] for c in episode.query]),
            torch.cat([c.pooled for c in episode.support]) if episode.support else None,
        )
        self.first = tuple(None if part is None else first_layer(detector, part) for part in self.pooled)
        pairs = [(c.refined, c.boxes) for c in episode.query]
        self.is_object = torch.cat([box_iou(refined, boxes).amax(1) >= 0.5 for refined, boxes in pairs])
        self._features: tuple[TrainedHead | None, tuple[Tensor, Tensor | None] | None] = None, None

    def features(self, head: TrainedHead) -> tuple[Tensor, Tensor | None]:
        """Return what a head's last layer sees of query and support, ``(R, F)`` each; the last ones are kept."""
        if self._features[0] is not head:
            self._features = head, self._computed(head)
        return self._features[1]

    @torch.no_grad()
    def _computed(self, head: TrainedHead) -> tuple[Tensor, Tensor | None]:
        parts = self.pooled if head.from_pooled else self.first
        return tuple(None if p is None else torch.cat([head.layers(q.float()) for q in p.split(4096)]) for p in parts)


def scores_of(name: str, head: TrainedHead, prepared: Prepared, k_shot: int, asked: Asked) -> dict[str, Tensor]:
    """Return the rows that come of one trained head, and the scores ``(R, N)`` of each."""
    query, support = prepared.features(head)
    rows = support_rows(prepared.episode, k_shot)
    metric = metric_head(head, support, rows, prepared.n_way, k_shot)
    scores = {name: metric.scores(query)}
    certain = support[rows.certain], rows.labels
    if name == DML:
        linear = finetune(imprinted(*certain, prepared.n_way), *certain, FineTuning())
        scores[FINETUNED] = linear.scores(query)
    if asked.steps:
        tuned = finetune(metric, *certain, FineTuning(steps=asked.steps))
        scores[f"{name}, fine-tuned"] = tuned.scores(query)
    if asked.variants and head.mixture.margin and not head.from_pooled and name != DML:
        size = support.shape[1]
        bare = replace(head, last=(torch.eye(size), torch.zeros(size)), trained=None)
        scores[f"{name}, its features"] = metric_head(bare, support, rows, prepared.n_way, k_shot).scores(query)
        ranked = metric._replace(mixture=replace(head.mixture, **AUTHORS))
        scores[f"{name}, authors' ranking"] = ranked.scores(query)
    if asked.known:
        scores[f"{name}, background known"] = scores[name] * prepared.is_object[:, None]
    return {row: part.detach() for row, part in scores.items()}


@torch.no_grad()
def metric_head(head: TrainedHead, support: Tensor, rows: SupportRows, n_way: int, k_shot: int) -> MetricHead:
    """Return the head whose representatives are the embeddings of the support's regions."""
    embedded = embed(support[rows.modes], *head.last)
    slots = max(head.mixture.n_modes, 2 * k_shot)
    return MetricHead(
        *head.last, *gather_representatives(embedded, rows.classes, n_way, slots), head.mixture, head.negatives
    )


def judge(
    episode: BenchEpisode,
    scores: Tensor,
    weights: Tensor,
    limits: DetectionFilter = FILTER,
    thresholds: Sequence[float] = (0.5,),
) -> Tensor:
    """Return mAP at each threshold, Recall@10 and Recall@100 (IoU 0.5) of an episode, ``(T + 2, 1 + B)``.

    Args:
        episode: Its query holds the truth.
        scores: ``(R, N)``.
        weights: ``(1 + B, Q)`` float64, how often each query image counts.
        limits: Which scored boxes are reported.
        thresholds: T of them.
    """
    counts = [len(c.refined) for c in episode.query]
    parts, size = scores.split(counts), max(1, GROUPS // scores.shape[1])
    found = [
        d
        for i in range(0, len(counts), size)
        for d in collect_detections([c.refined for c in episode.query[i : i + size]], list(parts[i : i + size]), limits)
    ]
    target = [(c.boxes, c.labels) for c in episode.query]
    pooled = pool([(d.boxes, d.scores, d.labels) for d in found], target, range(len(target)))
    matches = match(pooled, (*thresholds, 0.5))
    of_map = matches._replace(found=matches.found[:-1], ignored=matches.ignored[:-1])
    of_recall = matches._replace(found=matches.found[-1:], ignored=matches.ignored[-1:])
    recalls = [recall_at(of_recall, k, weights) for k in (10, 100)]
    return torch.cat([mean_average_precision(of_map, weights), *recalls])


class Resamples:
    """Resamples of query photos and of episodes, the same for every head, so that differences are paired.

    Episodes share photos and classes: each resample draws photos and episodes anew, both with replacement. Of a
    table of two crossed factors this gives an interval that is rather too wide than too narrow (Owen 2007).

    Args:
        episodes: All of them.
        seed: Of the draws.
    """

    def __init__(self, names: Sequence[Sequence[str]], seed: int = 0) -> None:
        photos = sorted({name for row in names for name in row})
        places = {name: i for i, name in enumerate(photos)}
        generator = torch.Generator().manual_seed(seed)
        self.n_photos = len(photos)
        self.rows = [torch.tensor([places[name] for name in row]) for row in names]
        self.photos = bootstrap_weights(len(photos), generator, RESAMPLES)
        self.episodes = bootstrap_weights(len(names), generator, RESAMPLES)

    def of_episode(self, index: int) -> Tensor:
        """Return how often each query image of an episode counts, ``(1 + B, Q)``."""
        return self.photos[:, self.rows[index]]

    def estimate(self, values: Tensor, limits: tuple[float, float] = (0.0, 1.0)) -> Estimate:
        """Return the mean over episodes of ``(E, 1 + B)`` values, with its interval."""
        values, known = values.double().T, values.isfinite().T
        weights = self.episodes * known
        means = (values.nan_to_num(0.0) * weights).sum(1) / weights.sum(1)
        return bootstrap_interval(means, self.n_photos, limits)


def show(estimate: Estimate, sign: bool = False) -> str:
    """Return a value and half its interval, in percent.

    >>> show(Estimate(0.2, 0.19, 0.21, 9)), show(Estimate(0.2, 0.19, 0.21, 9), sign=True)
    ('20.0 ± 1.0', '+20.0 ± 1.0')
    """
    return f"{100 * estimate.value:{'+' if sign else ''}.1f} ± {50 * (estimate.high - estimate.low):.1f}"


def table(results: dict[str, Tensor], resamples: Resamples, against: Sequence[str]) -> str:
    """Return rows of values and of paired differences as Markdown.

    Args:
        results: ``(S, 3, E, 1 + B)`` of each row.
        resamples: Of photos and episodes.
        against: Rows to take the difference from.
    """
    columns = ["row", "mAP", *(f"less {name}" for name in against), "single seeds", "Recall@10", "Recall@100"]
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    for row, values in results.items():
        means = values.mean(0)
        cells = [show(resamples.estimate(means[0]))]
        for other in against:
            less = [v - o for v, o in zip(values[:, 0], results[other][:, 0], strict=True)]
            cells.append("-" if row == other else show(resamples.estimate(sum(less) / len(less), (-1, 1)), sign=True))
        cells.append(", ".join(f"{100 * v[0, :, 0].nanmean():.1f}" for v in values))
        cells += [show(resamples.estimate(part)) for part in means[1:]]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
