"""Simulated tracking episodes (section 3, algorithm 1): adapt to a first frame, track a few, adapt again, be tested.

Of each clip's T frames the first gives D_init, the last D_test^std, and those between D_on, around the targets that the
adapted model itself finds there. D_test^hard are the targets of the other clips. All clips are simulated at once.

Shapes: P clips, T frames of each, O = T - 2 frames between, S pixels of a scene's side, F features of a sample.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from lightning_fewshot.models.metartt.settings import SimulatedEpisode
from lightning_fewshot.tracking.candidates.head import Head
from lightning_fewshot.tracking.candidates.network import CandidateNetwork
from lightning_fewshot.tracking.candidates.samples import Samples
from lightning_fewshot.tracking.candidates.sampling import ONLINE_NEGATIVES
from lightning_fewshot.tracking.candidates.scenes import Clips, collect, estimate_targets, in_scenes
from lightning_fewshot.tracking.candidates.settings import TrackerSettings

LEAST_FRAMES = 3  # one for each data set; the paper takes 6

Adapt = Callable[[Head, Samples], list[Head]]


class Trajectory(NamedTuple):
    """tau: the data sets of an episode and the heads after every step; boxes are those of the samples, in scenes.

    Args:
        clips: The frames.
        initial: D_init.
        online: D_on.
        test: D_test^std.
        hard: ``(P, M, F)`` D_test^hard, or None.
        after_initial: theta_init^K.
        after_online: theta_on^1 to theta_on^K.
        estimated: ``(P, O, 4)`` estimated targets, in pixels of the frames; None where the truth is used.
        candidates: ``(P, O, n, 4)`` that they were chosen from, or None.
        boxes: ``(P, n, 4)`` samples of D_init, ``(P, O, n, 4)`` of D_on and ``(P, n, 4)`` of D_test^std, in scenes.
    """

    clips: Clips
    initial: Samples
    online: Samples
    test: Samples
    hard: Tensor | None
    after_initial: Head
    after_online: list[Head]
    estimated: Tensor | None
    candidates: Tensor | None
    boxes: tuple[Tensor, Tensor, Tensor]


def simulate(
    network: CandidateNetwork,
    clips: Clips,
    settings: SimulatedEpisode,
    search: TrackerSettings,
    generator: Generator,
    adapt_initial: Adapt,
    adapt_online: Adapt,
) -> Trajectory:
    """Run algorithm 1, lines 5 to 14, for all clips.

    Args:
        network: theta_init^0.
        clips: Of different videos.
        settings: What is sampled.
        search: How far from a target candidates lie, as in tracking.
        generator: On the CPU.
        adapt_initial: Eq. (2): from a head and D_init to the heads after every step.
        adapt_online: Eq. (3).

    Raises:
        ValueError: A clip is too short; or hard examples are wanted of a single clip.
    """
    count, frames = clips.scenes.shape[:2]
    _check(count, frames, settings)
    maps = clips.maps(network)
    parts = (slice(0, 1), slice(1, -1), slice(frames - 1, frames))
    start, between, end = ((maps[:, part], clips.part(part)) for part in parts)
    initial, first_boxes = collect(network, *start, start[1].boxes, settings.first, generator)  # D_init
    head = adapt_initial(network.head(count), initial)[-1]
    estimated = candidates = None
    if settings.estimated_targets:
        estimated, candidates = estimate_targets(network, between[0].detach(), between[1], head, search, generator)
    targets = between[1].boxes if estimated is None else estimated
    online, online_boxes = collect(network, *between, targets, settings.frame, generator, ONLINE_NEGATIVES)  # D_on
    heads = adapt_online(head, online)
    test, test_boxes = collect(network, *end, end[1].boxes, settings.first, generator)  # D_test^std
    hard = hard_features(network, maps, clips) if settings.hard_examples else None  # D_test^hard
    boxes = (first_boxes[:, 0], online_boxes, test_boxes[:, 0])
    return Trajectory(clips, initial, online, test, hard, head, heads, estimated, candidates, boxes)


def hard_features(network: CandidateNetwork, maps: Tensor, clips: Clips) -> Tensor:
    """Return D_test^hard ``(P, (P - 1) * T, F)``: the targets of all other clips, by the truth."""
    count = len(maps)
    boxes = in_scenes(clips.boxes[:, :, None], clips.windows[:, :, None], network)
    each = network.describe(maps.flatten(0, 1), boxes.flatten(0, 1)).view(count, -1, network.features)  # (P, T, F)
    others = torch.stack([torch.cat((torch.arange(p), torch.arange(p + 1, count))) for p in range(count)])
    return each[others.to(each.device, non_blocking=True)].flatten(1, 2)


def _check(count: int, frames: int, settings: SimulatedEpisode) -> None:
    if frames < LEAST_FRAMES:
        raise ValueError(f"a simulated episode has {frames} frames but needs at least {LEAST_FRAMES}; the paper has 6")
    if settings.hard_examples and count < 2:
        raise ValueError(
            "hard examples come from other videos, but the episode has 1: set data.batch_size to 2 or more"
        )
