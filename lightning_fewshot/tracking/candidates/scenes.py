"""Scenes of clips: what the network sees of each frame, and data sets of samples around a target in it.

A scene is the window of a frame around a box, ``scene`` times as large, resampled to S x S pixels.

Shapes: P clips, O frames of each, n samples of a frame, S pixels of a scene's side, F features of a sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.tracking.candidates.head import Head, margin, score
from lightning_fewshot.tracking.candidates.network import CandidateNetwork, scene_windows
from lightning_fewshot.tracking.candidates.samples import Samples
from lightning_fewshot.tracking.candidates.sampling import gaussian_boxes, move_inside, negative_boxes, positive_boxes
from lightning_fewshot.tracking.candidates.settings import TrackerSettings
from lightning_fewshot.tracking.crops import crop, to_crop

BORDER = 0.1  # share of a scene's side, along its border, that no sample's centre lies in; ours


class Clips(NamedTuple):
    """Frames as the network sees them.

    Args:
        scenes: ``(P, O, 3, S, S)`` in [0, 255].
        windows: ``(P, O, 4)``, what each scene shows of its frame.
        boxes: ``(P, O, 4)`` truth in pixels of the frames.
        limits: ``(P, O, 4)``, where the centre of a negative sample may lie.
    """

    scenes: Tensor
    windows: Tensor
    boxes: Tensor
    limits: Tensor

    def part(self, frames: slice) -> Clips:
        """Return some of the frames of every clip."""
        return Clips(*(field[:, frames] for field in self))

    def regrouped(self, count: int) -> Clips:
        """Return the same frames as ``count`` clips."""
        return Clips(*(field.flatten(0, 1).unflatten(0, (count, -1)) for field in self))

    def maps(self, network: CandidateNetwork) -> Tensor:
        """Return the network's maps ``(P, O, C, h, w)`` of all scenes."""
        return network.shared(self.scenes.flatten(0, 1)).unflatten(0, self.scenes.shape[:2])


def clips_of(network: CandidateNetwork, episode: Episode) -> Clips:
    """Cut all scenes of a training episode: the first frames in support, the others in query."""
    return look(network, [episode.support, episode.query])


def look(network: CandidateNetwork, examples: list[Examples]) -> Clips:
    """Cut the scenes of one frame or more a clip.

    Args:
        network: Says how large a scene is.
        examples: The first frames of P clips, then further ones, clip by clip: images with one box ``(1, 4)`` each.

    Raises:
        ValueError: Further frames are no multiple of the clips; or a box has no size.
    """
    count = len(examples[0].images)
    clips = [_split(part, count) for part in examples]
    frames = [image for p in range(count) for part in clips for image, _ in part[p]]
    boxes = torch.stack([box.cpu() for p in range(count) for part in clips for _, box in part[p]])
    windows = scene_windows(boxes, network.scene)
    device = network.fc4.weight.device
    moved = [frame.to(device, non_blocking=True) for frame in frames]
    scenes = [crop(f, w[None], network.scene_size) for f, w in zip(moved, windows, strict=True)]
    sizes = torch.tensor([[f.shape[2], f.shape[1]] for f in frames])
    limits = centre_limits(windows, sizes)
    fields = (torch.cat(scenes).to(network.fc4.weight), windows, boxes, limits)
    return Clips(*(field.unflatten(0, (count, -1)) for field in fields))


def centre_limits(windows: Tensor, sizes: Tensor) -> Tensor:
    """Return where centres of samples may lie ``(N, 4)``: in the frame, a tenth of the scene inside its border.

    Args:
        windows: ``(N, 4)`` of the scenes.
        sizes: ``(N, 2)`` width and height of the frames.

    >>> centre_limits(torch.tensor([[-50.0, 0.0, 50.0, 100.0]]), torch.tensor([[200, 80]])).tolist()
    [[0.0, 10.0, 40.0, 80.0]]
    """
    border = BORDER * (windows[:, 2:] - windows[:, :2])
    low = torch.maximum(windows[:, :2] + border, torch.zeros(2))
    high = torch.minimum(windows[:, 2:] - border, sizes.float())
    middle = (windows[:, :2] + windows[:, 2:]) / 2
    outside = low > high  # the target's neighbourhood lies outside the frame
    return torch.cat((torch.where(outside, middle, low), torch.where(outside, middle, high)), dim=1)


def in_scenes(boxes: Tensor, windows: Tensor, network: CandidateNetwork) -> Tensor:
    """Express boxes of frames in pixels of scenes, on the network's device."""
    return to_crop(boxes, windows, network.scene_size).to(network.fc4.weight.device, non_blocking=True)


def collect(
    network: CandidateNetwork,
    maps: Tensor,
    clips: Clips,
    targets: Tensor,
    counts: tuple[int, int],
    generator: Generator,
    negatives: Mapping[str, float] | None = None,
) -> tuple[Samples, Tensor]:
    """Sample around targets: the data set of one frame or more.

    Args:
        network: Describes the samples.
        maps: ``(P, O, C, h, w)``.
        clips: The same O frames.
        targets: ``(P, O, 4)`` in pixels of the frames.
        counts: Positive and negative samples of each frame.
        generator: On the CPU.
        negatives: How negative samples are drawn, as in :func:`negative_boxes`; None: as in a first frame.

    Returns:
        The samples of all frames of a clip together, and their boxes ``(P, O, n, 4)`` in pixels of the scenes.
    """
    parts = (part.to(targets.device, non_blocking=True) for part in (targets, clips.limits, clips.windows))
    flat, limits, windows = (part.flatten(0, 1) for part in parts)
    away = negative_boxes(flat, counts[1], limits, generator, **(negatives or {}))
    drawn = (positive_boxes(flat, counts[0], generator), away)
    boxes = in_scenes(torch.cat(drawn, dim=1), windows[:, None], network)  # (P * O, n, 4)
    features = network.describe(maps.flatten(0, 1), boxes).unflatten(0, targets.shape[:2])  # (P, O, n, F)
    near, far = features.split((counts[0], boxes.shape[1] - counts[0]), dim=2)
    samples = Samples(near.flatten(1, 2), far.flatten(1, 2))
    return samples, boxes.unflatten(0, targets.shape[:2])


@torch.no_grad()
def estimate_targets(
    network: CandidateNetwork,
    maps: Tensor,
    clips: Clips,
    head: Head,
    settings: TrackerSettings,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """Return the candidates with the largest score ``(P, O, 4)``, drawn around the truth, and all ``(P, O, n, 4)``.

    Both lie on the network's device.

    Args:
        network: The tracker's.
        maps: ``(P, O, C, h, w)``.
        clips: The same O frames.
        head: Scores the candidates.
        settings: How many candidates there are, and how far from a target: as in tracking.
        generator: On the CPU.
    """
    count, frames = maps.shape[:2]
    truth, windows, limits = (part.flatten(0, 1) for part in (clips.boxes, clips.windows, clips.limits))
    drawn = gaussian_boxes(truth, settings.candidates, settings.spread, settings.scale, generator)
    drawn = move_inside(drawn, limits)
    features = network.describe(maps.flatten(0, 1), in_scenes(drawn, windows[:, None], network))
    scores = margin(score(head, features.view(count, -1, network.features))).view(count, frames, -1)
    drawn = drawn.unflatten(0, (count, frames))
    best = scores.argmax(dim=2)[..., None, None].expand(-1, -1, 1, 4)
    drawn = drawn.to(best.device, non_blocking=True)
    return drawn.gather(2, best)[:, :, 0], drawn


def _split(examples: Examples, count: int) -> list[list[tuple[Tensor, Tensor]]]:
    """Return the images and boxes ``(4,)`` of every clip."""
    each, rest = divmod(len(examples.images), count)
    if rest:
        raise ValueError(f"{len(examples.images)} frames are no multiple of {count} clips")
    items = [(image, box[0].float()) for image, box in zip(examples.images, examples.boxes, strict=True)]
    return [items[p * each : (p + 1) * each] for p in range(count)]
