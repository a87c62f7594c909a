"""Simulated tracking episodes (section 3, algorithm 1): adapt to a first frame, track a few, adapt again, be tested.

Of each clip's T frames the first gives D_init, the last D_test^std, and those between D_on, around the targets that the
adapted model itself finds there. D_test^hard are the targets of the other clips. All clips are simulated at once.

Shapes: P clips, T frames of each, O = T - 2 frames between, S pixels of a scene's side, F features of a sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.metartt.adaptation import Samples
from lightning_fewshot.models.metartt.loss import margin
from lightning_fewshot.models.metartt.network import Head, Network, scene_windows, score
from lightning_fewshot.tracking.candidates.sampling import gaussian_boxes, move_inside, negative_boxes, positive_boxes
from lightning_fewshot.tracking.crops import crop, to_crop

LEAST_FRAMES = 3  # one for each data set; the paper takes 6
BORDER = 0.1  # share of a scene's side, along its border, that no sample's centre lies in; ours


@dataclass(frozen=True)
class EpisodeSettings:
    """How a simulated episode samples.

    Args:
        first: Positive and negative samples of D_init, and of D_test^std.
        frame: Positive and negative samples of each frame of D_on.
        candidates: Boxes that are scored to estimate a target.
        spread: Largest displacement of a candidate, in sides of the target.
        scale: Largest factor of a candidate's size.
    """

    first: tuple[int, int] = (64, 196)
    frame: tuple[int, int] = (32, 96)
    candidates: int = 256
    spread: float = 0.6
    scale: float = 1.05

    def __post_init__(self) -> None:
        counts = {"first": min(self.first), "frame": min(self.frame), "candidates": self.candidates}
        for name, count in counts.items():
            if count < 2:
                raise ValueError(f"episode.{name} is {getattr(self, name)} but must be at least 2")


class Clips(NamedTuple):
    """Frames as the network sees them.

    Args:
        scenes: ``(P, T, 3, S, S)`` in [0, 255].
        windows: ``(P, T, 4)``, what each scene shows of its frame.
        boxes: ``(P, T, 4)`` truth in pixels of the frames.
        limits: ``(P, T, 4)``, where the centre of a negative sample may lie.
    """

    scenes: Tensor
    windows: Tensor
    boxes: Tensor
    limits: Tensor

    def part(self, frames: slice) -> Clips:
        """Return some of the frames of every clip."""
        return Clips(*(field[:, frames] for field in self))


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
        estimated: ``(P, O, 4)`` estimated targets, in pixels of the frames.
        candidates: ``(P, O, n, 4)`` that they were chosen from.
        boxes: ``(P, n, 4)`` samples of D_init, ``(P, O, n, 4)`` of D_on and ``(P, n, 4)`` of D_test^std, in scenes.
    """

    clips: Clips
    initial: Samples
    online: Samples
    test: Samples
    hard: Tensor | None
    after_initial: Head
    after_online: list[Head]
    estimated: Tensor
    candidates: Tensor
    boxes: tuple[Tensor, Tensor, Tensor]


Adapt = Callable[[Head, Samples], list[Head]]


def simulate(
    network: Network,
    clips: Clips,
    settings: EpisodeSettings,
    generator: Generator,
    adapt_initial: Adapt,
    adapt_online: Adapt,
    estimated_targets: bool = True,
    hard_examples: bool = True,
) -> Trajectory:
    """Run algorithm 1, lines 5 to 14, for all clips.

    Args:
        network: theta_init^0.
        clips: Of different videos.
        settings: Numbers of samples.
        generator: On the CPU.
        adapt_initial: Eq. (2): from a head and D_init to the heads after every step.
        adapt_online: Eq. (3).
        estimated_targets: Collect D_on around estimated targets; else around the truth (table 1, row 3).
        hard_examples: Collect D_test^hard (table 1, row 4).

    Raises:
        ValueError: A clip is too short; or hard examples are wanted of a single clip.
    """
    count, frames = clips.scenes.shape[:2]
    if frames < LEAST_FRAMES:
        raise ValueError(f"a simulated episode has {frames} frames but needs at least {LEAST_FRAMES}; the paper has 6")
    if hard_examples and count < 2:
        raise ValueError(
            "hard examples come from other videos, but the episode has 1: set data.batch_size to 2 or more"
        )
    maps = network.shared(clips.scenes.flatten(0, 1)).unflatten(0, (count, frames))
    start, end = clips.part(slice(0, 1)), clips.part(slice(frames - 1, frames))
    initial, first_boxes = collect(network, maps[:, :1], start, start.boxes, settings.first, generator)
    head = adapt_initial(network.head(count), initial)[-1]
    between = clips.part(slice(1, -1))
    found, candidates = estimate_targets(network, maps[:, 1:-1].detach(), between, head, settings, generator)
    targets = found if estimated_targets else between.boxes
    online, online_boxes = collect(network, maps[:, 1:-1], between, targets, settings.frame, generator)
    heads = adapt_online(head, online)
    test, test_boxes = collect(network, maps[:, -1:], end, end.boxes, settings.first, generator)
    hard = hard_features(network, maps, clips) if hard_examples else None
    boxes = (first_boxes[:, 0], online_boxes, test_boxes[:, 0])
    return Trajectory(clips, initial, online, test, hard, head, heads, found, candidates, boxes)


def look(network: Network, examples: list[Examples]) -> Clips:
    """Cut the scenes of one frame or more a clip.

    Args:
        network: Says how large a scene is.
        examples: The first frames of P clips, then further ones, clip by clip: images with one box ``(1, 4)`` each.

    Raises:
        ValueError: Further frames are no multiple of the clips; or a box has no size.
    """
    count = len(examples[0].images)
    order: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(count)]
    for part in examples:
        each, rest = divmod(len(part.images), count)
        if rest:
            raise ValueError(f"{len(part.images)} frames are no multiple of {count} clips")
        for i, (image, boxes) in enumerate(zip(part.images, part.boxes, strict=True)):
            order[i // each].append((image, boxes[0].float()))
    frames = [image for clip in order for image, _ in clip]
    boxes = torch.stack([box.cpu() for clip in order for _, box in clip])
    windows = scene_windows(boxes, network.scene)
    device = network.fc4.weight.device
    scenes = [crop(f.to(device), w[None], network.scene_size) for f, w in zip(frames, windows, strict=True)]
    sizes = torch.tensor([[f.shape[2], f.shape[1]] for f in frames])
    split = (count, len(frames) // count)
    return Clips(
        torch.cat(scenes).to(network.fc4.weight).unflatten(0, split),
        windows.unflatten(0, split),
        boxes.unflatten(0, split),
        centre_limits(windows, sizes).unflatten(0, split),
    )


def centre_limits(windows: Tensor, sizes: Tensor) -> Tensor:
    """Return where centres of samples may lie ``(N, 4)``: in the frame, a tenth of the scene inside its border.

    Args:
        windows: ``(N, 4)`` of the scenes.
        sizes: ``(N, 2)`` width and height of the frames.

    >>> centre_limits(torch.tensor([[-50.0, 0.0, 50.0, 100.0]]), torch.tensor([[200, 80]])).tolist()
    [[0.0, 10.0, 40.0, 80.0]]
    """
    margin_ = BORDER * (windows[:, 2:] - windows[:, :2])
    low = torch.maximum(windows[:, :2] + margin_, torch.zeros(2))
    high = torch.minimum(windows[:, 2:] - margin_, sizes.float())
    middle = (windows[:, :2] + windows[:, 2:]) / 2
    outside = low > high  # the target's neighbourhood lies outside the frame
    return torch.cat((torch.where(outside, middle, low), torch.where(outside, middle, high)), dim=1)


def hard_features(network: Network, maps: Tensor, clips: Clips) -> Tensor:
    """Return D_test^hard ``(P, (P - 1) * T, F)``: the targets of all other clips, by the truth."""
    count = len(maps)
    boxes = in_scenes(clips.boxes[:, :, None], clips.windows[:, :, None], network)
    each = network.describe(maps.flatten(0, 1), boxes.flatten(0, 1)).view(count, -1, network.features)  # (P, T, F)
    others = torch.stack([torch.cat((torch.arange(p), torch.arange(p + 1, count))) for p in range(count)])
    return each[others].flatten(1, 2)


def in_scenes(boxes: Tensor, windows: Tensor, network: Network) -> Tensor:
    """Express boxes of frames in pixels of scenes, on the network's device."""
    return to_crop(boxes, windows, network.scene_size).to(network.fc4.weight.device)


def collect(
    network: Network, maps: Tensor, clips: Clips, targets: Tensor, counts: tuple[int, int], generator: Generator
) -> tuple[Samples, Tensor]:
    """Sample around targets: the data set of one frame or more.

    Args:
        network: Describes the samples.
        maps: ``(P, O, C, h, w)``.
        clips: The same O frames.
        targets: ``(P, O, 4)`` in pixels of the frames.
        counts: Positive and negative samples of each frame.
        generator: On the CPU.

    Returns:
        The samples of all frames of a clip together, and their boxes ``(P, O, n, 4)`` in pixels of the scenes.
    """
    count, frames = targets.shape[:2]
    flat, limits, windows = (part.flatten(0, 1) for part in (targets, clips.limits, clips.windows))
    drawn = (positive_boxes(flat, counts[0], generator), negative_boxes(flat, counts[1], limits, generator))
    boxes = in_scenes(torch.cat(drawn, dim=1), windows[:, None], network)  # (P * O, n, 4)
    features = network.describe(maps.flatten(0, 1), boxes).view(count, frames, -1, network.features)
    samples = Samples(features[:, :, : counts[0]].flatten(1, 2), features[:, :, counts[0] :].flatten(1, 2))
    return samples, boxes.unflatten(0, (count, frames))


@torch.no_grad()
def estimate_targets(
    network: Network, maps: Tensor, clips: Clips, head: Head, settings: EpisodeSettings, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Return the candidates with the largest score ``(P, O, 4)``, drawn around the truth, and all ``(P, O, n, 4)``.

    Args:
        network: The tracker's.
        maps: ``(P, O, C, h, w)``.
        clips: The same O frames.
        head: Scores the candidates.
        settings: Numbers of samples.
        generator: On the CPU.
    """
    count, frames = maps.shape[:2]
    truth, windows, limits = (part.flatten(0, 1) for part in (clips.boxes, clips.windows, clips.limits))
    drawn = gaussian_boxes(truth, settings.candidates, settings.spread, settings.scale, generator)
    drawn = move_inside(drawn, limits)
    features = network.describe(maps.flatten(0, 1), in_scenes(drawn, windows[:, None], network))
    scores = margin(score(head, features.view(count, -1, network.features))).view(count, frames, -1)
    drawn = drawn.unflatten(0, (count, frames))
    best = scores.argmax(dim=2).cpu()[..., None, None].expand(-1, -1, 1, 4)
    return drawn.gather(2, best)[:, :, 0], drawn


def clips_of(network: Network, episode: Episode) -> Clips:
    """Cut all scenes of a training episode: the first frames in support, the others in query."""
    return look(network, [episode.support, episode.query])
