"""RT-MDNet's loop over frames: score candidates, adapt on what was found, refine boxes (the tracker of the engine).

What differs between RT-MDNet and MetaRTT is how the head is adapted: two functions that the module passes in.

Shapes: J scenes of the first frame, n samples, F features.
"""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from lightning_fewshot.tracking.candidates.head import Head, margin, score
from lightning_fewshot.tracking.candidates.network import CandidateNetwork, scene_windows
from lightning_fewshot.tracking.candidates.regression import Ridge, fit_regression, regress
from lightning_fewshot.tracking.candidates.samples import Samples
from lightning_fewshot.tracking.candidates.sampling import (
    ONLINE_NEGATIVES,
    gaussian_boxes,
    move_inside,
    negative_boxes,
    overlapping_boxes,
    positive_boxes,
)
from lightning_fewshot.tracking.candidates.scenes import centre_limits, in_scenes
from lightning_fewshot.tracking.candidates.settings import TrackerSettings
from lightning_fewshot.tracking.candidates.strategy import SmallerNetwork, Strategy, TrackState, View
from lightning_fewshot.tracking.crops import centres, crop, from_crop, mean_color, to_crop
from lightning_fewshot.tracking.tracker import LookingTracker

SHIFTS, SCALES = 4.0, 1.1  # jittered scenes of the first frame: pixels of the scene, powers of the size
LEAST_SIDE = 4.0  # pixels: a box never shrinks below


class Sight(NamedTuple):
    """What is seen of a frame.

    Args:
        frame: ``(3, H, W)``.
        window: ``(1, 4)``, the part of it that the scene shows.
        maps: ``(1, C, h, w)`` of the scene.
    """

    frame: Tensor
    window: Tensor
    maps: Tensor


class CandidateTracker(LookingTracker):
    """The tracker of the engine.

    Args:
        network: Shared network; not changed.
        strategy: How heads are adapted.
        settings: Numbers.
        adaptation: The settings of the strategy. Like ``settings`` it is a public attribute of plain data, so that
            result files are taken up again only where both are equal.
    """

    def __init__(
        self,
        network: CandidateNetwork,
        strategy: Strategy,
        settings: TrackerSettings,
        adaptation: dict[str, Any] | None = None,
    ) -> None:
        self.settings = settings
        self.adaptation = adaptation or {}
        self._network = network
        self._strategy = strategy

    def init(self, frame: Tensor, box: Tensor) -> TrackState:
        """Adapt to the first frame, prune for it, and learn to refine boxes."""
        network, pruned, fill = self._network, None, mean_color(frame)
        windows, boxes, counts = self._first_samples(frame, box)
        scenes = self._scenes(frame, windows, fill)
        data = _features(network, scenes, boxes, counts)
        head = self._strategy.first(self._strategy.start(), data)
        if self._strategy.prune is not None:
            pruned = self._strategy.prune(View(scenes[None], boxes[None], head), counts[0])
            network, head = pruned.network, pruned.cut(head)
            data = _features(network, scenes, boxes, counts)
        return TrackState(
            box=box,
            t=0,
            found=True,
            network=network,
            threshold=self._threshold(head, data, pruned),
            initial=head,
            head=head,
            pruned=pruned,
            ridge=self._learn_regression(network, scenes[:1], windows[:1], box),
            positives=(data.positives[0, : self.settings.frame[0]],),
            negatives=(data.negatives[0, : self.settings.frame[1]],),
            fill=fill,
        )

    def look(self, state: TrackState, frame: Tensor) -> Sight:
        """Return the map of the scene around the last box."""
        window = scene_windows(state.box, state.network.scene)[None]
        return Sight(frame, window, state.network.shared(self._scenes(frame, window, state.fill)))

    def decide(self, state: TrackState, view: Sight) -> tuple[TrackState, Tensor, float]:
        """Find the target, remember what it looks like, and adapt every T frames and when it was not found.

        As in MDNet, the refined box is the result alone: the next search starts at the box before refinement, so that
        an error of the regression does not grow from frame to frame.
        """
        box, refined, value = self._find(state, view)
        state = state._replace(box=box, t=state.t + 1, found=value > state.threshold)
        if state.found:
            state = self._remember(state, view)
        if not state.found or state.t % self.settings.every == 0:
            state = state._replace(head=self._adapted(state))
        return state, refined, value

    def box_score(self, state: TrackState, view: Sight, box: Tensor) -> float:
        """Return what a box would score as a candidate; minus infinity where no candidate may lie."""
        limits, centre = _limits(view.frame, view.window)[0], centres(box)
        if not bool(((limits[:2] <= centre) & (centre <= limits[2:])).all()):
            return -inf
        return self._scored(state, view, box[None, None])[1].item()

    def found(self, state: TrackState) -> bool:
        """Tell whether the score was above the threshold."""
        return state.found

    def _find(self, state: TrackState, sight: Sight) -> tuple[Tensor, Tensor, float]:
        """Return the mean of the best candidates; the same refined, where the target was found; their mean score."""
        options = self.settings
        spread = options.spread if state.found else options.lost_spread
        drawn = gaussian_boxes(state.box[None], options.candidates, spread, options.scale, torch.default_generator)
        drawn = move_inside(drawn, _limits(sight.frame, sight.window))
        features, scores = self._scored(state, sight, drawn)
        best = scores.topk(options.best)
        value, chosen = best.values.mean().item(), drawn[0, best.indices.cpu()]
        box = refined = _sound(chosen.mean(0), sight.frame)
        if value > state.threshold and state.ridge is not None:
            chosen = self._refine(state, features[0, best.indices], chosen, sight.window)
            refined = _sound(chosen.mean(0), sight.frame)
        return box, refined, value

    def _scored(self, state: TrackState, sight: Sight, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``(1, n, F)`` and scores ``(n,)`` of boxes ``(1, n, 4)`` in pixels of the frame."""
        features = state.network.describe(sight.maps, in_scenes(boxes, sight.window[:, None], state.network))
        return features, margin(score(state.head, features, state.masks))[0]

    def _threshold(self, head: Head, data: Samples, pruned: SmallerNetwork | None) -> float:
        masks = None if pruned is None else pruned.scales
        share = self.settings.found_share
        return 0.0 if share is None else found_threshold(*(margin(score(head, d, masks)) for d in data), share)

    def _refine(self, state: TrackState, features: Tensor, boxes: Tensor, window: Tensor) -> Tensor:
        size = state.network.scene_size
        inside = to_crop(boxes, window, size).to(features.device)
        return from_crop(regress(state.ridge, features, inside).cpu(), window, size)

    def _remember(self, state: TrackState, sight: Sight) -> TrackState:
        """Add the samples of a frame where the target was found."""
        options, box, generator = self.settings, state.box[None], torch.default_generator
        near = positive_boxes(box, options.frame[0], generator)
        limits = _limits(sight.frame, sight.window)
        away = negative_boxes(box, options.frame[1], limits, generator, **ONLINE_NEGATIVES)
        boxes = in_scenes(torch.cat((near, away), dim=1), sight.window[:, None], state.network)
        positives, negatives = state.network.describe(sight.maps, boxes)[0].split(options.frame)
        return state._replace(
            positives=(*state.positives, positives)[-options.positive_memory :],
            negatives=(*state.negatives, negatives)[-options.negative_memory :],
        )

    def _adapted(self, state: TrackState) -> Head:
        """Return the head after a long-term update, or after a short-term one where the target was not found."""
        recent = state.positives if state.found else state.positives[-self.settings.negative_memory :]
        data = Samples(torch.cat(recent)[None], torch.cat(state.negatives)[None])
        return self._strategy.online(state.initial, state.head, data, state.pruned)

    def _first_samples(self, frame: Tensor, box: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Return windows ``(J, 4)``, samples ``(J, n, 4)`` in scenes, positive ones first, and both numbers of them."""
        network, generator, count = self._network, torch.default_generator, self.settings.first_scenes
        windows = jittered_windows(scene_windows(box, network.scene), count, network.scene_size, generator)
        counts = tuple(-(-total // count) for total in self.settings.first)
        boxes, limits = box.expand(count, 4), _limits(frame, windows)
        drawn = (positive_boxes(boxes, counts[0], generator), negative_boxes(boxes, counts[1], limits, generator))
        return windows, in_scenes(torch.cat(drawn, dim=1), windows[:, None], network), counts

    def _learn_regression(self, network: CandidateNetwork, scene: Tensor, window: Tensor, box: Tensor) -> Ridge | None:
        options = self.settings
        if not options.box_regression:
            return None
        areas = options.regression_areas
        drawn = overlapping_boxes(box[None], options.regression_samples, areas, torch.default_generator)
        boxes = in_scenes(drawn, window[:, None], network)
        target = in_scenes(box[None, None], window[:, None], network)[0, 0]
        features = network.describe(network.shared(scene), boxes)[0]
        return fit_regression(features, boxes[0], target, areas=areas)

    def _scenes(self, frame: Tensor, windows: Tensor, fill: Tensor) -> Tensor:
        network = self._network
        return crop(frame.to(network.fc4.weight.device), windows, network.scene_size, fill)


def found_threshold(positives: Tensor, negatives: Tensor, share: float) -> float:
    """Return the score a share of the way from the median negative to the median positive score of a first frame.

    Scores of later frames are lower: the head has seen one appearance of the target, and many negatives.

    >>> found_threshold(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([-4.0]), 0.5)
    -1.0
    """
    low, high = negatives.median().item(), positives.median().item()
    return low + share * (high - low)


def jittered_windows(window: Tensor, count: int, size: int, generator: Generator) -> Tensor:
    """Return a window ``(4,)`` and ``count - 1`` shifted and resized ones, ``(count, 4)``.

    Shifts are up to 4 pixels of the scene's ``size``; sizes are 1.1 to the powers -2, -1, 1, 2, in turn.
    """
    side, centre = window[2:] - window[:2], (window[:2] + window[2:]) / 2
    noise = 2 * torch.rand(count, 2, generator=generator) - 1
    powers = torch.tensor([1.0, -1.0, 2.0, -2.0]).repeat(-(-count // 4))[:count].roll(1)
    noise[0], powers[0] = 0, 0
    centres = centre + noise * SHIFTS * side / size
    half = side / 2 * SCALES ** powers[:, None]
    return torch.cat((centres - half, centres + half), dim=1)


def _features(network: CandidateNetwork, scenes: Tensor, boxes: Tensor, counts: tuple[int, int]) -> Samples:
    """Return the samples ``(J, n, 4)`` of J scenes as one data set."""
    positives, negatives = network.describe(network.shared(scenes), boxes).split(counts, dim=1)
    return Samples(positives.flatten(0, 1)[None], negatives.flatten(0, 1)[None])


def _limits(frame: Tensor, windows: Tensor) -> Tensor:
    return centre_limits(windows, torch.tensor([[frame.shape[2], frame.shape[1]]]).expand(len(windows), 2))


def _sound(box: Tensor, frame: Tensor) -> Tensor:
    """Return a box ``(4,)`` with its centre in the frame, and sides between a few pixels and the frame's."""
    limit = torch.tensor([frame.shape[2], frame.shape[1]], dtype=box.dtype)
    centre = torch.minimum(((box[:2] + box[2:]) / 2).clamp(min=0), limit)
    half = torch.minimum((box[2:] - box[:2]).clamp(min=LEAST_SIDE), limit) / 2
    return torch.cat((centre - half, centre + half))
