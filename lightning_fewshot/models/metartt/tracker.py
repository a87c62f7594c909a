"""RT-MDNet's loop over frames: score candidates, adapt on what was found, refine boxes (the tracker of the engine).

What differs between RT-MDNet and MetaRTT is how the head is adapted: two functions that the module passes in.

Shapes: J scenes of the first frame, n samples, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from lightning_fewshot.models.metartt.adaptation import Samples
from lightning_fewshot.models.metartt.loss import margin
from lightning_fewshot.models.metartt.network import Head, Network, scene_windows, score
from lightning_fewshot.models.metartt.pruning import Pruned, View
from lightning_fewshot.models.metartt.simulation import centre_limits
from lightning_fewshot.tracking.candidates.regression import AREAS, Ridge, fit_regression, regress
from lightning_fewshot.tracking.candidates.sampling import (
    gaussian_boxes,
    move_inside,
    negative_boxes,
    overlapping_boxes,
    positive_boxes,
)
from lightning_fewshot.tracking.crops import crop, from_crop, mean_color, to_crop

SHIFTS, SCALES = 4.0, 1.1  # jittered scenes of the first frame: pixels of the scene, powers of the size
LEAST_SIDE = 4.0  # pixels: a box never shrinks below


@dataclass(frozen=True)
class TrackerSettings:
    """RT-MDNet's options.

    Args:
        candidates: Boxes scored in every frame.
        best: The result is the mean of so many best ones.
        spread: Largest displacement of a candidate, in sides of the target.
        lost_spread: The same after a frame where the target was not found.
        scale: Largest factor of a candidate's size.
        first: Positive and negative samples of the first frame.
        first_scenes: Scenes of the first frame, all but one slightly shifted and resized.
        frame: Positive and negative samples of every frame where the target was found.
        positive_memory: Frames whose positive samples a long-term update sees.
        negative_memory: Frames whose negative samples every update, and positive ones a short-term update, sees.
        every: Frames between two long-term updates (T).
        box_regression: Refine boxes by ridge regression.
        regression_samples: Samples that it is learned from.
        regression_areas: Their areas, as multiples of the target's; from 1 on, boxes are only ever made smaller.
    """

    candidates: int = 256
    best: int = 5
    spread: float = 0.6
    lost_spread: float = 1.4
    scale: float = 1.05
    first: tuple[int, int] = (500, 5000)
    first_scenes: int = 7
    frame: tuple[int, int] = (50, 200)
    positive_memory: int = 100
    negative_memory: int = 20
    every: int = 10
    box_regression: bool = True
    regression_samples: int = 1000
    regression_areas: tuple[float, float] = AREAS

    def __post_init__(self) -> None:
        least = {"candidates": self.best, "best": 1, "first_scenes": 1, "every": 1, "regression_samples": 2}
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise ValueError(f"tracking.{name} is {getattr(self, name)} but must be at least {limit}")
        if not 0 < self.regression_areas[0] <= 1 <= self.regression_areas[1]:
            raise ValueError(f"tracking.regression_areas is {self.regression_areas} but must be positive and hold 1")
        for name in ("first", "frame"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"tracking.{name} is {getattr(self, name)} but both numbers must be at least 1")


class Strategy(NamedTuple):
    """How a head is adapted.

    Args:
        start: Returns theta_init^0, one head.
        first: From a head and D_init to the head after the initial adaptation.
        online: From the head after the initial adaptation, the present one, D_on and the pruning to the next one.
        prune: From D_init, whose first so many boxes of each scene are positive, and the adapted head to a smaller
            network; None: the network stays whole.
    """

    start: Callable[[], Head]
    first: Callable[[Head, Samples], Head]
    online: Callable[[Head, Head, Samples, Pruned | None], Head]
    prune: Callable[[View, int], Pruned] | None = None


class TrackState(NamedTuple):
    """What is known about a target. Nothing in it is changed in place.

    Args:
        box: ``(4,)`` in pixels of the frame, before refinement.
        t: Number of the frame.
        found: Whether the target was found there.
        network: The shared network, pruned for this video or not.
        initial: Head after the initial adaptation.
        head: The present head.
        pruned: What was pruned, or None.
        ridge: Box regression, or None.
        positives: Features ``(n, F)`` of positive samples, one tensor a remembered frame.
        negatives: The same of negative ones.
        fill: ``(3,)`` colour around the frame.
    """

    box: Tensor
    t: int
    found: bool
    network: Network
    initial: Head
    head: Head
    pruned: Pruned | None
    ridge: Ridge | None
    positives: tuple[Tensor, ...]
    negatives: tuple[Tensor, ...]
    fill: Tensor

    @property
    def masks(self) -> Head | None:
        """What multiplies fc4 and fc5."""
        return None if self.pruned is None else self.pruned.scales


class CandidateTracker:
    """The tracker of the engine.

    Args:
        network: Shared network; not changed.
        strategy: How heads are adapted.
        settings: Numbers. They are attributes, so that result files are taken up only with equal ones.
        more: Further settings that tell results apart.
    """

    def __init__(self, network: Network, strategy: Strategy, settings: TrackerSettings, **more: object) -> None:
        self.__dict__.update(asdict(settings), **more)
        self._network, self._strategy, self._settings = network, strategy, settings

    def init(self, frame: Tensor, box: Tensor) -> TrackState:
        """Adapt to the first frame, prune for it, and learn to refine boxes."""
        network, generator = self._network, torch.default_generator
        fill = mean_color(frame)
        windows, boxes, counts = self._first_samples(frame, box, generator)
        scenes = self._scenes(frame, windows, fill)
        pruned = None
        data = self._features(network, scenes, boxes, counts)
        head = self._strategy.first(self._strategy.start(), data)
        if self._strategy.prune is not None:
            pruned = self._strategy.prune(View(scenes[None], boxes[None], head), counts[0])
            network, head = pruned.network, pruned.cut(head)
            data = self._features(network, scenes, boxes, counts)
        kept = [part[0, :n] for part, n in zip(data, self._settings.frame, strict=True)]
        ridge = self._learn_regression(network, scenes[:1], windows[:1], box, generator)
        return TrackState(box, 0, True, network, head, head, pruned, ridge, (kept[0],), (kept[1],), fill)

    def update(self, state: TrackState, frame: Tensor) -> tuple[TrackState, Tensor, float]:
        """Find the target, remember what it looks like, and adapt every T frames and when it was not found.

        As in MDNet, the refined box is the result alone: the next search starts at the box before refinement, so that
        an error of the regression does not grow from frame to frame.
        """
        options, generator = self._settings, torch.default_generator
        window = scene_windows(state.box, state.network.scene)[None]
        maps = state.network.shared(self._scenes(frame, window, state.fill))
        box, refined, value = self._find(state, maps, window, frame, generator)
        state = state._replace(box=box, t=state.t + 1, found=value > 0)
        if state.found:
            state = self._remember(state, maps, window, frame, generator)
        if not state.found or state.t % options.every == 0:
            recent = state.positives if state.found else state.positives[-options.negative_memory :]
            data = Samples(torch.cat(recent)[None], torch.cat(state.negatives)[None])
            state = state._replace(head=self._strategy.online(state.initial, state.head, data, state.pruned))
        return state, refined, value

    def _find(
        self, state: TrackState, maps: Tensor, window: Tensor, frame: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor, float]:
        """Return the mean of the best candidates; the same refined, where the target was found; their mean score."""
        options, network = self._settings, state.network
        spread = options.spread if state.found else options.lost_spread
        drawn = gaussian_boxes(state.box[None], options.candidates, spread, options.scale, generator)
        drawn = move_inside(drawn, self._limits(frame, window))
        features = network.describe(maps, self._in_scene(network, drawn, window))
        scores = margin(score(state.head, features, state.masks))[0]
        best = scores.topk(options.best)
        value, chosen = best.values.mean().item(), drawn[0, best.indices.cpu()]
        box = refined = _sound(chosen.mean(0), frame)
        if value > 0 and state.ridge is not None:
            chosen = self._refine(network, state.ridge, features[0, best.indices], chosen, window)
            refined = _sound(chosen.mean(0), frame)
        return box, refined, value

    def _remember(
        self, state: TrackState, maps: Tensor, window: Tensor, frame: Tensor, generator: Generator
    ) -> TrackState:
        options, box = self._settings, state.box[None]
        positives, negatives = options.frame
        drawn = positive_boxes(box, positives, generator)
        limits = self._limits(frame, window)
        away = negative_boxes(box, negatives, limits, generator, spread=1.5, scale=1.2, aspect=1.0, overlap=0.3)
        boxes = self._in_scene(state.network, torch.cat((drawn, away), dim=1), window)
        features = state.network.describe(maps, boxes)[0]
        return state._replace(
            positives=(*state.positives, features[:positives])[-options.positive_memory :],
            negatives=(*state.negatives, features[positives:])[-options.negative_memory :],
        )

    def _first_samples(
        self, frame: Tensor, box: Tensor, generator: Generator
    ) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Return windows ``(J, 4)``, samples ``(J, n, 4)`` in scenes, positive ones first, and both numbers of them."""
        options, network = self._settings, self._network
        count = options.first_scenes
        windows = jittered_windows(scene_windows(box, network.scene), count, network.scene_size, generator)
        counts = tuple(-(-total // count) for total in options.first)
        each = box.expand(count, 4)
        limits = self._limits(frame, windows)
        drawn = (positive_boxes(each, counts[0], generator), negative_boxes(each, counts[1], limits, generator))
        return windows, self._in_scene(network, torch.cat(drawn, dim=1), windows), counts

    def _features(self, network: Network, scenes: Tensor, boxes: Tensor, counts: tuple[int, int]) -> Samples:
        features = network.describe(network.shared(scenes), boxes)
        positives, negatives = features.split(counts, dim=1)
        return Samples(positives.flatten(0, 1)[None], negatives.flatten(0, 1)[None])

    def _learn_regression(
        self, network: Network, scene: Tensor, window: Tensor, box: Tensor, generator: Generator
    ) -> Ridge | None:
        options = self._settings
        if not options.box_regression:
            return None
        drawn = overlapping_boxes(box[None], options.regression_samples, options.regression_areas, generator)
        boxes = self._in_scene(network, drawn, window)
        target = self._in_scene(network, box[None, None], window)[0, 0]
        features = network.describe(network.shared(scene), boxes)[0]
        return fit_regression(features, boxes[0], target, areas=options.regression_areas)

    def _refine(self, network: Network, ridge: Ridge, features: Tensor, boxes: Tensor, window: Tensor) -> Tensor:
        inside = to_crop(boxes, window, network.scene_size).to(features.device)
        return from_crop(regress(ridge, features, inside).cpu(), window, network.scene_size)

    def _scenes(self, frame: Tensor, windows: Tensor, fill: Tensor) -> Tensor:
        network = self._network
        return crop(frame.to(network.fc4.weight.device), windows, network.scene_size, fill)

    def _in_scene(self, network: Network, boxes: Tensor, windows: Tensor) -> Tensor:
        return to_crop(boxes, windows[:, None], network.scene_size).to(self._network.fc4.weight.device)

    def _limits(self, frame: Tensor, windows: Tensor) -> Tensor:
        return centre_limits(windows, torch.tensor([[frame.shape[2], frame.shape[1]]]).expand(len(windows), 2))


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


def _sound(box: Tensor, frame: Tensor) -> Tensor:
    """Return a box ``(4,)`` with its centre in the frame, and sides between a few pixels and the frame's."""
    limit = torch.tensor([frame.shape[2], frame.shape[1]], dtype=box.dtype)
    centre = torch.minimum(((box[:2] + box[2:]) / 2).clamp(min=0), limit)
    half = torch.minimum((box[2:] - box[:2]).clamp(min=LEAST_SIDE), limit) / 2
    return torch.cat((centre - half, centre + half))
