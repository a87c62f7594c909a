"""Table 4 on heads of one detector: all training classes at once, and few of them by trained or given representatives.

    FEWSHOT_DATA=/data python studies/repmet_seen.py runs/.../checkpoints/last.ckpt CACHE --seeds 3
    FEWSHOT_DATA=/data python studies/repmet_seen.py ... CACHE --way 5 --episodes 50 --seeds 3

The classes are those that the detector and the heads were trained on, the photos were held out. RepMet's trained
representatives take the place of a support's; the plain detector's row is its own linear softmax classifier, trained
for the same steps on the same regions. With `--way 5` the representatives of one shot are asked too (the paper's table
3, last rows). Detections score above 0.01. Intervals are over query photos and episodes.
"""

from __future__ import annotations

import argparse

import torch
from repmet_bench.regions import BenchEpisode
from repmet_bench.scores import Prepared, Resamples, judge, metric_head, show, support_rows
from repmet_bench.training import DML, RECIPES, TrainedHead
from repmet_heads import Trained, add_common_options, bench_of
from torch import Tensor

from lightning_fewshot.models.repmet.adaptation import LinearHead, MetricHead
from lightning_fewshot.nn.detections import DetectionFilter

IOU = (0.7, 0.5, 0.3)
PLAIN = "plain detector"


def of_classes(head: MetricHead | LinearHead, places: Tensor) -> MetricHead | LinearHead:
    """Return the head of some training classes."""
    if isinstance(head, MetricHead):
        return head._replace(representatives=head.representatives[places])
    rows = torch.cat([places.new_zeros(1), places + 1])
    return LinearHead(head.weight[rows], head.bias[rows])


@torch.no_grad()
def scores_of(name: str, head: TrainedHead, prepared: Prepared, places: Tensor) -> dict[str, Tensor]:
    """Return the scores ``(R, N)`` of the trained classes, and of one shot where the episode has a support."""
    query, support = prepared.features(head)
    scores = {name: of_classes(head.trained, places).scores(query)}
    if support is not None and isinstance(head.trained, MetricHead):
        rows = support_rows(prepared.episode, 1)
        scores[f"{name}, one shot"] = metric_head(head, support, rows, len(places), 1).scores(query)
    return scores


def main() -> None:
    """Print mAP at three thresholds of every head."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_common_options(parser)
    parser.add_argument("--recipes", nargs="*", default=["sigma 0.5"], choices=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--way", type=int, default=0, help="training classes of an episode; 0: all")
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--n-query", type=int, default=2, help="query images of a class")
    options = parser.parse_args()
    bench = bench_of(options, "seen", options.way, 1, options.n_query)
    trained, classes = Trained(bench, options), bench.detector.classes
    episodes = [_without_support(episode, options.way) for episode in bench.episodes(options.episodes)]
    resamples = Resamples([[c.name for c in episode.query] for episode in episodes])
    values: dict[str, list[Tensor]] = {}
    for seed in range(options.seeds):
        heads = {PLAIN if name == DML else name: trained.head(name, seed) for name in (DML, *options.recipes)}
        found: dict[str, list[Tensor]] = {}
        for i, episode in enumerate(episodes):
            prepared = Prepared(bench.detector, episode)
            places = torch.tensor([classes.index(name) for name in episode.classes])
            for name, head in heads.items():
                for row, scores in scores_of(name, head, prepared, places).items():
                    worth = judge(episode, scores, resamples.of_episode(i), DetectionFilter(), IOU)
                    found.setdefault(row, []).append(worth)
        for row, parts in found.items():
            values.setdefault(row, []).append(torch.stack(parts, 1))
    print(
        f"{options.data}: {len(episodes[0].classes)}-way, {len(episodes)} episodes, {resamples.n_photos} query photos"
    )
    print("| mAP at IoU | " + " | ".join(map(str, IOU)) + f" | less {PLAIN} at 0.5 |\n|---|" + "---:|" * (len(IOU) + 1))
    for row, parts in values.items():
        mean = sum(parts) / len(parts)
        less = (mean - sum(values[PLAIN]) / len(parts))[IOU.index(0.5)]
        cells = [show(resamples.estimate(mean[t])) for t in range(len(IOU))]
        cells.append("-" if row == PLAIN else show(resamples.estimate(less, (-1, 1)), sign=True))
        print(f"| {row} | " + " | ".join(cells) + " |")


def _without_support(episode: BenchEpisode, way: int) -> BenchEpisode:
    """Drop the support where all classes are asked: nobody looks at it."""
    return episode if way else episode._replace(support=[], shots=[])


if __name__ == "__main__":
    main()
