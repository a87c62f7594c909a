"""Let other toolkits run our trackers: got10k, pytracking, and vot-toolkit through the TraX protocol. All are optional.

Neither is installed with this package. ``pip install got10k`` serves :func:`got10k_tracker`. For VOT, ``pip install
vot-trax`` on the side of the tracker. The toolkit that works on Python 3.11 is ``pip install vot-toolkit==0.7.3
attributee==0.1.9``: with attributee 0.1.10 no vot-toolkit imports, and 0.9.0 refuses single-object trackers in the
supervised experiment. The tracker's entry in its ``trackers.ini`` is::

    [LightningFewshot]
    protocol = trax
    command = python -c "from my_tracker import tracker; from lightning_fewshot.tracking.adapters import serve_trax;
              serve_trax(tracker)"
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_fewshot.boxes import polygon_boxes, xywh_to_xyxy, xyxy_to_xywh
from lightning_fewshot.tracking.loop import check_box
from lightning_fewshot.tracking.reading import read_frame, to_frame
from lightning_fewshot.tracking.tracker import Tracker


class Session:
    """A tracker with its state and images of numpy, which is what toolkits call.

    Args:
        tracker: Any tracker.
        origin: Coordinate of the first pixel's edge in the toolkit's boxes: 1 for OTB's files, 0 for VOT's.
    """

    def __init__(self, tracker: Tracker, origin: float = 0.0) -> None:
        self.tracker, self.shift = tracker, torch.tensor([origin, origin, 0.0, 0.0])
        self._state: Any = None

    @torch.no_grad()
    def init(self, frame: Tensor, box_xywh: Any) -> None:
        """Look at the object once: a frame ``(3, H, W)`` and ``x, y, w, h``."""
        box = xywh_to_xyxy(torch.as_tensor(np.asarray(box_xywh), dtype=torch.float32) - self.shift)
        self._state = self.tracker.init(frame, check_box(box, frame, "the toolkit"))

    @torch.no_grad()
    def update(self, frame: Tensor) -> tuple[np.ndarray, float]:
        """Return ``x, y, w, h`` as float64 ``(4,)``, and the score."""
        self._state, box, score = self.tracker.update(self._state, frame)
        return (xyxy_to_xywh(box.detach().float().cpu()) + self.shift).double().numpy(), float(score)


def got10k_tracker(tracker: Tracker, name: str, origin: float = 1.0, is_deterministic: bool = True) -> Any:
    """Return a tracker that ``got10k.experiments`` can run: ``ExperimentOTB(root).run(got10k_tracker(t, "Ours"))``.

    Args:
        tracker: Any tracker.
        name: Of its result folder.
        origin: See :class:`Session`; got10k passes on a data set's own coordinates, which count from 1 in OTB.
        is_deterministic: Whether one run is enough.

    Raises:
        ImportError: got10k is not installed.
    """
    from got10k.trackers import Tracker as Got10kTracker

    class Adapter(Got10kTracker):
        """Turns PIL images into frames."""

        def __init__(self) -> None:
            super().__init__(name, is_deterministic)
            self.session = Session(tracker, origin)

        def init(self, image: Any, box: Any) -> None:
            self.session.init(to_frame(np.asarray(image)), box)

        def update(self, image: Any) -> np.ndarray:
            return self.session.update(to_frame(np.asarray(image)))[0]

    return Adapter()


class PytrackingTracker:
    """A tracker in the shape of pytracking: ``initialize(image, info)``, then ``track(image, info)`` for each frame.

    One object. For several, pytracking makes a tracker for each with ``multiobj_mode = "parallel"``. Its own
    evaluation calls ``tracker_class(params)`` and reads ``params`` and ``visdom`` of what that returns: set both there.

    Args:
        tracker: Any tracker.
        origin: See :class:`Session`; pytracking passes on a data set's own coordinates.

    >>> from lightning_fewshot.tracking.tracker import IdentityTracker
    >>> tracker, image = PytrackingTracker(IdentityTracker()), np.zeros((40, 60, 3), np.uint8)
    >>> _ = tracker.initialize(image, {"init_bbox": [5, 6, 10, 8]})
    >>> tracker.track(image)
    {'target_bbox': [5.0, 6.0, 10.0, 8.0], 'object_presence_score': 1.0}
    """

    def __init__(self, tracker: Tracker, origin: float = 0.0) -> None:
        self._session = Session(tracker, origin)

    def initialize(self, image: np.ndarray, info: dict[str, Any]) -> dict[str, Any]:
        """Look at the object once.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            info: ``init_bbox``: x, y, width, height.

        Returns:
            ``time``: seconds.

        Raises:
            ValueError: There is no box or a box for each of several objects, or it is empty or outside the image.
        """
        if info.get("init_bbox") is None or isinstance(info["init_bbox"], dict):
            raise ValueError("info must hold init_bbox, the box of one object: x, y, width, height")
        began = time.perf_counter()
        self._session.init(to_frame(np.asarray(image)), info["init_bbox"])
        return {"time": time.perf_counter() - began}

    def track(self, image: np.ndarray, info: dict[str, Any] | None = None) -> dict[str, Any]:
        """Find the object in the next image.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            info: Not used; pytracking hands on the output of the frame before.

        Returns:
            ``target_bbox``: x, y, width, height, and ``object_presence_score``: the tracker's score.
        """
        box, score = self._session.update(to_frame(np.asarray(image)))
        return {"target_bbox": box.tolist(), "object_presence_score": score}


def serve_trax(tracker: Tracker, origin: float = 0.0) -> int:
    """Answer a TraX client, such as vot-toolkit, until it says goodbye; return the number of frames that were tracked.

    Args:
        tracker: Any tracker.
        origin: See :class:`Session`.

    Raises:
        ImportError: vot-trax is not installed.
    """
    import trax

    session, count = Session(tracker, origin), 0
    with trax.Server(
        [trax.Region.RECTANGLE, trax.Region.POLYGON], [trax.Image.PATH], ["color"], "lightning_fewshot"
    ) as server:
        while True:
            request = server.wait()
            if request.type == trax.TraxStatus.QUIT:
                return count
            frame = read_frame(request.image["color"].path())
            if request.type == trax.TraxStatus.INITIALIZE:
                region, _ = request.objects[0]
                session.init(frame, _start(region, trax))
                server.status([(region, {})])
            else:
                box, score = session.update(frame)
                server.status([(trax.Rectangle.create(*box.tolist()), {"confidence": score})])
            count += 1


def _start(region: Any, trax: Any) -> list[float]:
    """Return ``x, y, w, h`` of a client's region; of a polygon, the box that ``track_supervised`` starts from."""
    if region.type != trax.Region.POLYGON:
        return list(region.bounds())
    points = torch.tensor([list(point) for point in region], dtype=torch.float32)
    if points.shape != (4, 2):
        low, high = points.amin(0), points.amax(0)
        return [*low.tolist(), *(high - low).tolist()]
    return xyxy_to_xywh(polygon_boxes(points.reshape(1, 8)))[0].tolist()
