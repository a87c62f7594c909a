"""Trackers that read a response map: an exemplar is matched with search windows at several scales.

What Learnet (section 3.3, "described in more detail in Bertinetto et al. 2016") and MLT (sections 3.1.2 and 4.1) share:
the windows, the penalty of a change of scale, the cosine window, the damped size. A paper writes what happens on crops,
``adapt`` and ``respond``, and where it learns on the way, ``learn``.

Shapes: N scales, R cells of a response's side, S pixels of a crop's side.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lightning_fewshot.tracking.crops import (
    CropSettings,
    centres,
    crop,
    exemplar_windows,
    mean_color,
    search_windows,
)
from lightning_fewshot.tracking.response_maps import cosine_window, finer, response_at
from lightning_fewshot.tracking.tracker import LookingTracker

SIZE_LIMITS = (0.2, 5.0)  # of the first size (Bertinetto et al. 2016, their code)


@dataclass(frozen=True)
class Search:
    """How response maps become a box; the defaults are SiamFC's for three scales (Bertinetto et al. 2016, their code).

    Args:
        scales: Number of scales, odd: the middle one is the present size.
        step: Ratio of neighbouring scales.
        penalty: Factor on the responses of every scale but the middle one.
        damping: Share of a change of size that is taken over.
        window: With "add": weight of the cosine window. With "multiply": 1 is the plain product, 0 no window.
        rule: "add" mixes the response, scaled to a sum of 1, with the window; "multiply" is MLT's product, for
            responses that are logits.
        upsample: Finer cells of a response, bicubic; 1 leaves it as it is.

    Raises:
        ValueError: A number is out of range.
    """

    scales: int = 3
    step: float = 1.0375
    penalty: float = 0.9745
    damping: float = 0.59
    window: float = 0.176
    rule: Literal["add", "multiply"] = "add"
    upsample: int = 16

    def __post_init__(self) -> None:
        """Check every number."""
        if self.scales < 1 or self.scales % 2 == 0:
            raise ValueError(f"scales is {self.scales} but must be odd: the middle one is the present size")
        if self.step < 1 or self.upsample < 1:
            raise ValueError(f"step and upsample must be at least 1, got {self.step} and {self.upsample}")
        for name in ("penalty", "damping", "window"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)} but must be in [0, 1]")
        if self.rule not in ("add", "multiply"):
            raise ValueError(f"rule is {self.rule!r} but must be 'add' or 'multiply'")

    def factors(self) -> Tensor:
        """Return the scales ``(N,)``, from small to large.

        >>> Search(scales=3, step=1.25).factors().tolist()
        [0.800000011920929, 1.0, 1.25]
        """
        half = self.scales // 2
        return torch.tensor([self.step**i for i in range(-half, half + 1)], dtype=torch.float32)


class Peak(NamedTuple):
    """Where a response is highest.

    Args:
        scale: Index of the scale.
        offset: ``(2,)`` (x, y) from the middle of the response, in cells.
        score: The response there, before penalty and window.
    """

    scale: int
    offset: Tensor
    score: float


class Following(NamedTuple):
    """State of a tracker that follows one object.

    Args:
        model: What ``adapt`` returned, or what became of it.
        box: ``(4,)`` where the object was last, in pixels of the frame.
        size: ``(2,)`` its first width and height.
        fill: ``(3,)`` color of what is outside the frame.
    """

    model: Any
    box: Tensor
    size: Tensor
    fill: Tensor


class View(NamedTuple):
    """What is seen of a frame: windows in its pixels, their crops, and the responses, float32 on the CPU."""

    frame: Tensor  # (3, H, W) on the tracker's device
    windows: Tensor  # (N, 4)
    crops: Tensor  # (N, 3, S, S)
    responses: Tensor  # (N, R, R)


class ResponseTracker(LookingTracker):
    """A tracker whose model answers search crops with response maps.

    Args:
        search: How responses become a box.
        crops: Which crops are cut.
        stride: Pixels of a search crop from cell to cell of a response.
        device: Where crops are cut and matched.

    Attributes:
        predict: The network's, from the model's state and crops to responses ``(1, N, R, R)``; or another engine's.
        settings: The numbers of ``search`` and ``crops``; public and plain, so part of a result file's fingerprint.
    """

    predict: Callable[[Any, Tensor], Tensor]

    def __init__(
        self,
        search: Search,
        crops: CropSettings = CropSettings(),
        stride: int = 8,
        device: torch.device | str = "cpu",
    ) -> None:
        self.settings = (*astuple(search), *astuple(crops))
        self.stride = stride
        self.search = search
        self.crops = crops
        self._device = torch.device(device)
        self._scales = search.factors()

    @abstractmethod
    def adapt(self, exemplar: Tensor) -> Any:
        """Look at an exemplar crop ``(1, 3, S, S)`` float32 in [0, 255]."""

    @abstractmethod
    def respond(self, model: Any, crops: Tensor) -> Tensor:
        """Return responses ``(N, R, R)`` to search crops ``(N, 3, S, S)`` float32 in [0, 255]."""

    def learn(self, state: Following, frame: Tensor, response: Tensor) -> Any:
        """Return the model for the next frame; ``state.box`` is where the object was just found.

        Args:
            state: With the model that found it.
            frame: ``(3, H, W)`` on the tracker's device.
            response: ``(R, R)`` float32 on the CPU, of the chosen scale.
        """
        return state.model

    def init(self, frame: Tensor, box: Tensor) -> Following:
        """Cut the exemplar and adapt to it."""
        frame = frame.to(self._device)
        fill = mean_color(frame)
        exemplar = crop(frame, exemplar_windows(box, self.crops.context)[None], self.crops.exemplar, fill)
        return Following(self.adapt(exemplar), box, box[2:] - box[:2], fill)

    def look(self, state: Following, frame: Tensor) -> View:
        """Match search windows around the last box."""
        frame = frame.to(self._device)
        windows = search_windows(state.box, self._scales, self.crops.context, self.crops.ratio)
        crops = crop(frame, windows, self.crops.search, state.fill)
        return View(frame, windows, crops, self.respond(state.model, crops).float().cpu())

    def decide(self, state: Following, view: View) -> tuple[Following, Tensor, float]:
        """Move the box to the highest response."""
        frame, windows, _, responses = view
        peak = locate(responses, self.search)
        box = self.moved_box(state, peak, window=windows[peak.scale], frame_size=frame.shape[1:])
        state = state._replace(box=box)
        return state._replace(model=self.learn(state, frame, responses[peak.scale])), box, peak.score

    def box_score(self, state: Following, view: View, box: Tensor) -> float:
        """Return the response, before penalty and window, at a box's centre and at the scale nearest to its size."""
        growth = ((box[2:] - box[:2]) / (state.box[2:] - state.box[:2])).log().mean()
        scale = int((self._scales.log() - growth).abs().argmin())
        window = view.windows[scale]
        cell = self.stride * (window[2:] - window[:2]) / self.crops.search  # pixels of the frame
        return response_at(view.responses[scale], (centres(box) - centres(window)) / cell)

    def moved_box(self, state: Following, peak: Peak, window: Tensor, frame_size: tuple[int, int]) -> Tensor:
        """Return the box ``(4,)`` after a peak in the response of ``window``.

        The centre stays in the frame; the size changes by a damped share, within ``SIZE_LIMITS`` of the first size.

        Args:
            state: Last box and first size.
            peak: From :func:`locate`.
            window: ``(4,)`` the search window of the chosen scale.
            frame_size: (height, width) of the frame.
        """
        height, width = frame_size
        pixels = (window[2:] - window[:2]) / self.crops.search  # of the frame, for a pixel of the crop
        limit = window.new_tensor([width, height])
        centre = torch.minimum((centres(window) + peak.offset * self.stride * pixels).clamp(min=0), limit)
        factor = 1 - self.search.damping + self.search.damping * float(self._scales[peak.scale])
        size = (state.box[2:] - state.box[:2]) * factor
        low, high = (state.size * share for share in SIZE_LIMITS)
        half = torch.minimum(torch.maximum(size, low), high) / 2
        return torch.cat((centre - half, centre + half))


def locate(responses: Tensor, search: Search) -> Peak:
    """Choose a scale, then a place.

    Responses are made positive, so that a factor below 1 is a penalty whatever their sign: by their minimum with
    "add"; with "multiply" by a softplus, which leaves what matches as it is and pushes the rest to 0.

    Args:
        responses: ``(N, R, R)`` float32.
        search: Penalty, cosine window, finer cells.

    Raises:
        FloatingPointError: A response is not finite.

    >>> responses = torch.zeros(3, 5, 5)
    >>> responses[1, 2, 3], responses[2, 0, 0] = 1.0, 1.01
    >>> peak = locate(responses, Search(window=0, upsample=1))
    >>> peak.scale, peak.offset.tolist(), peak.score
    (1, [1.0, 0.0], 1.0)
    """
    lifted = softplus(responses) if search.rule == "multiply" else responses - responses.amin()
    peaks = lifted.amax((1, 2))
    if not bool(peaks.isfinite().all()):
        raise FloatingPointError("a response is not finite: the weights are damaged, or the precision is too low")
    middle = len(responses) // 2
    penalties = torch.full_like(peaks, search.penalty)
    penalties[middle] = 1.0
    scale = int((peaks * penalties).argmax())
    fine = _windowed(finer(lifted[scale], search.upsample), search)
    side = fine.shape[1]
    row, column = divmod(int(fine.argmax()), side)
    offset = (torch.tensor([column, row], dtype=torch.float32) + 0.5 - side / 2) / search.upsample
    return Peak(scale, offset, float(responses[scale].amax()))


_cosine_window = lru_cache(8)(cosine_window)  # of a few sizes, never changed


def _windowed(response: Tensor, search: Search) -> Tensor:
    if search.window == 0:
        return response
    window = _cosine_window(response.shape[1])
    if search.rule == "multiply":
        return response * (1 - search.window + search.window * window / window.amax())
    return (1 - search.window) * response / response.sum().clamp(min=1e-12) + search.window * window
