"""Trackers one frame at a time: search around the true previous box, on thousands of pairs of frames, paired.

    python studies/tracking_bench.py --data videos davis otb drawn --methods identity untrained runs/a/best.ckpt

A tracker is started on the first frame of a sequence. Then, at frames spread over the sequence, it is put onto the true
box of the frame before and asked for the next box. Nothing drifts, so every pair of frames counts; what a tracker
learns on the way it keeps, and its updates count the frames that it is asked. A *hit* has its centre within a quarter
of the target's mean side of the true centre, two cells of a siamese tracker's response; the IoU is that of the box.
Both are averaged within a sequence, then over sequences; intervals (95 %) are over sequences, and differences are
paired by sequence with the method named first.

A method is "identity" (the box stays where it was), "untrained" (the matching network of mlt/matching.yaml as
initialised), or a checkpoint. Some checkpoints bring controls along. Learnet's tracker whose filters are predicted:
w(z) replaced by its mean over all exemplars, and by that of the next sequence's exemplar. MLT: the same network without
updates, and with the M patches of an update chosen at random or by their highest response.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datamodules import OTB, DAVISVideos, DrawnVideos, GOT10k
from datamodules.tracking.base import Target, TrackingData
from lightning_fewshot.boxes import iou, valid
from lightning_fewshot.checkpoints import build_module
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.metrics.estimate import Estimate, mean_interval
from lightning_fewshot.models.learnet.tracking.module import SiameseTracker
from lightning_fewshot.models.learnet.tracking.network import TemplateState
from lightning_fewshot.models.mlt import MatchingTracker, MetaLearnerTracker
from lightning_fewshot.models.mlt.settings import MatchingSettings
from lightning_fewshot.tracking.crops import crop, exemplar_windows
from lightning_fewshot.tracking.module import TrackingModule
from lightning_fewshot.tracking.tracker import Tracker

NEAR = 0.25  # of the target's mean side: a hit
LEAST_SIDE = 4.0  # pixels of a box that is judged
MEMORIES: dict[str, dict[str, Any]] = {
    "no updates": {"update_every": 0},
    "random patches": {"choice": "random"},
    "highest scores": {"choice": "score"},
}
UNTRAINED = MatchingSettings((32, 64, 96, 96), 48)  # experiments/mlt/matching.yaml
MEASURES = ("hit", "iou")
TrackerOf = Callable[[int], Tracker | None]


class Clip(NamedTuple):
    """One target and the frames at which trackers are asked.

    Args:
        data: Name of its data set.
        target: Frames and boxes.
        times: Frames t: t and the one before show the target, and so does the first.
    """

    data: str
    target: Target
    times: tuple[int, ...]


class ReplacedFilters(SiameseTracker):
    """Learnet's tracker with given filters in place of w(z)."""

    def __init__(self, module: TrackingModule, filters: Tensor) -> None:
        super().__init__(module.network, module.search, module.crops, module.device)
        self._filters = filters

    def adapt(self, exemplar: Tensor) -> TemplateState:
        """Describe the exemplar with the given filters."""
        z = self._network.stream.pixels(exemplar)
        return TemplateState(self._network.stream(z, self._filters), self._filters)


def read_clips(name: str, per_sequence: int, drawn: int) -> list[Clip]:
    """Return the sequences of a data set: "otb", "davis", "drawn", or a folder in GOT-10k's layout."""
    if name == "drawn":
        data, splits = DrawnVideos(episodes=EpisodeCounts(1, 1, drawn)), ("test",)
    elif name in ("otb", "davis"):
        data, splits = {"otb": OTB, "davis": DAVISVideos}[name](), ("test",)
    else:
        data, splits = GOT10k(folder=name), ("train", "val")
    clips = []
    for split in splits:
        found = (_clip(name, data, split, i, per_sequence) for i in range(data.count(split)))
        clips += [clip for clip in found if clip.times]
    return clips


def _clip(name: str, data: TrackingData, split: str, number: int, per_sequence: int) -> Clip:
    target = data.target(split, number)
    seen = valid(target.boxes()[: len(target)], LEAST_SIDE)
    times = (seen[1:] & seen[:-1]).nonzero()[:, 0] + 1 if bool(seen[0]) else torch.empty(0, dtype=torch.long)
    chosen = torch.linspace(0, len(times) - 1, min(per_sequence, len(times))).round().long()
    return Clip(name, target, tuple(times[chosen].tolist()))


def methods_of(name: str, clips: Sequence[Clip]) -> dict[str, TrackerOf]:
    """Return the trackers that a method's name stands for, each a function of the clip's number; None: identity."""
    if name == "identity":
        return {name: lambda i: None}
    if name == "untrained":
        torch.manual_seed(0)
        untrained = MatchingTracker(UNTRAINED).eval().tracker()
        return {name: lambda i: untrained}
    label, _, path = name.rpartition("=")
    module = build_module(path)
    label = label or f"{type(module).__name__} {Path(path).parent.parent.name}"
    found: dict[str, TrackerOf] = {label: lambda i, tracker=module.tracker(): tracker}
    if isinstance(module, MetaLearnerTracker):
        memory = module.memory
        for control, change in MEMORIES.items():
            module.memory = replace(memory, **change)
            found[f"{label}, {control}"] = lambda i, tracker=module.tracker(): tracker
    if getattr(module.network, "learnet", None) is not None:
        filters = predicted_filters(module, clips)
        mean, swapped = filters.mean(0, keepdim=True), filters.roll(-1, 0)
        found[f"{label}, mean w(z)"] = lambda i: ReplacedFilters(module, mean)
        found[f"{label}, another's w(z)"] = lambda i: ReplacedFilters(module, swapped[i : i + 1])
    return found


@torch.no_grad()
def predicted_filters(module: TrackingModule, clips: Sequence[Clip]) -> Tensor:
    """Return w(z) of every clip's first frame, ``(N, D, F, F)``."""
    rows = []
    for clip in clips:
        window = exemplar_windows(clip.target.box(0).float(), module.crops.context)
        z = crop(clip.target.frames[0], window[None], module.crops.exemplar)
        rows.append(module.network.learnet(module.network.stream.pixels(z)))
    return torch.cat(rows)


@torch.no_grad()
def judge(clip: Clip, tracker: Tracker | None) -> dict[str, float]:
    """Return the mean of every measure over the pairs of a clip."""
    boxes = clip.target.boxes().float()
    state = None if tracker is None else tracker.init(clip.target.frames[0], boxes[0])
    found = []
    for t in clip.times:
        state, box = _next_box(state, tracker, clip, boxes[t - 1], t)
        found.append(box)
    truth = boxes[list(clip.times)]
    return {name: float(value.mean()) for name, value in measures(torch.stack(found), truth).items()}


def _next_box(state: Any, tracker: Tracker | None, clip: Clip, before: Tensor, t: int) -> tuple[Any, Tensor]:
    if tracker is None:
        return state, before
    placed = state._replace(box=before, **({"found": True} if hasattr(state, "found") else {}))
    return tracker.update(placed, clip.target.frames[t])[:2]


def measures(found: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Return hits and IoU ``(n,)`` of boxes ``(n, 4)``.

    >>> boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [4.0, 0.0, 12.0, 8.0]])
    >>> {k: v.mul(3).round().tolist() for k, v in measures(boxes, boxes[:1].expand(2, 4)).items()}
    {'hit': [3.0, 0.0], 'iou': [3.0, 1.0]}
    """
    apart = ((found[:, :2] + found[:, 2:] - truth[:, :2] - truth[:, 2:]) / 2).norm(dim=1)
    side = (truth[:, 2:] - truth[:, :2]).mean(1)
    return {"hit": (apart <= NEAR * side).float(), "iou": iou(found[:, None], truth[:, None])[:, 0, 0]}


def run(clips: Sequence[Clip], names: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """Return, by method, every measure of all clips ``(N,)``."""
    results = {}
    for name in names:
        for label, tracker_of in methods_of(name, clips).items():
            start, rows = time.perf_counter(), []
            for i, clip in enumerate(clips):
                torch.manual_seed(i)
                rows.append(judge(clip, tracker_of(i)))
            results[label] = {m: torch.tensor([row[m] for row in rows]) for m in MEASURES}
            print(f"{label}: {time.perf_counter() - start:.0f} s", flush=True)
    return results


def table(results: dict[str, dict[str, Tensor]], chosen: Tensor) -> list[str]:
    """Return the rows of a markdown table over the chosen clips, ``(N,)`` bool."""
    rows = ["| method | hits | difference | IoU | difference |", "|---|---:|---:|---:|---:|"]
    first = next(iter(results.values()))
    for label, values in results.items():
        cells = [label]
        for measure in MEASURES:
            value, reference = values[measure][chosen], first[measure][chosen]
            cells += [_cell(mean_interval(value)), "" if values is first else _cell(mean_interval(value - reference))]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _cell(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ± {(estimate.high - estimate.low) / 2:.3f}"


def main() -> None:
    """Run the bench and print one table a data set and one over all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=["videos", "videos-2", "davis", "otb", "drawn"])
    parser.add_argument("--methods", nargs="+", default=["identity", "untrained"], help="or label=checkpoint")
    parser.add_argument("--per_sequence", type=int, default=40, help="pairs of frames of a sequence, at most")
    parser.add_argument("--drawn", type=int, default=400, help="drawn videos")
    parser.add_argument("--out", type=Path, help="a json file with the numbers of every sequence")
    options = parser.parse_args()
    clips = [clip for name in options.data for clip in read_clips(name, options.per_sequence, options.drawn)]
    results = run(clips, options.methods)
    for name in (*options.data, "all"):
        chosen = torch.tensor([name in (clip.data, "all") for clip in clips])
        pairs = sum(len(clip.times) for clip in clips if name in (clip.data, "all"))
        print(f"\n{name}: {int(chosen.sum())} sequences, {pairs} pairs\n")
        print("\n".join(table(results, chosen)))
    if options.out:
        sequences = [{"data": c.data, "name": c.target.frames.name, "pairs": len(c.times)} for c in clips]
        numbers = {label: {m: v.tolist() for m, v in values.items()} for label, values in results.items()}
        options.out.write_text(json.dumps({"sequences": sequences, "results": numbers}, indent=1))


if __name__ == "__main__":
    main()
