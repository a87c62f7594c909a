"""What a tracking paper's module is: validated and tested on videos."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_fewshot.episodes import Episode
from lightning_fewshot.metrics.estimate import Estimate
from lightning_fewshot.metrics.one_pass import OnePass
from lightning_fewshot.metrics.vot import EAO_BOUNDS, Supervised
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.tracking.annotate import track_to_files
from lightning_fewshot.tracking.drift import drift, write_report
from lightning_fewshot.tracking.engine import OnnxRuntimeEngine
from lightning_fewshot.tracking.episodes import is_sequence, is_supervised, repeat_of, truth_of
from lightning_fewshot.tracking.files import TrackFiles, fingerprint, sequence_fingerprint
from lightning_fewshot.tracking.loop import Track, track
from lightning_fewshot.tracking.response import ResponseTracker
from lightning_fewshot.tracking.supervised import SupervisedRun, read_run, track_supervised, write_run
from lightning_fewshot.tracking.tracker import Tracker


class TrackingModule(FewShotModule):
    """A paper that tracks.

    The paper writes ``tracker()``. ``adapt`` and ``predict`` stay what they are on crops: a tracker's ``init`` cuts an
    exemplar and adapts, its ``update`` cuts search windows and predicts. Called with an episode that is a video, the
    module tracks it and returns a :class:`~lightning_fewshot.tracking.loop.Track`, or, where its protocol is
    "supervised", a :class:`~lightning_fewshot.tracking.supervised.SupervisedRun`; with any other episode it does what
    FewShotModule does. A test keeps one result file a sequence under ``<run folder>/tracks``, so that a stopped test
    with the same ``--run_dir``, weights, settings and data goes on where it was.
    """

    monitor = "val/success_auc"
    engine: OnnxRuntimeEngine | None = None

    @abstractmethod
    def tracker(self) -> Tracker:
        """Return this paper's tracker with the module's current weights; cheap, no copy.

        Its public attributes of plain data and settings groups tell whose result files may be taken up again.
        """

    def use_engine(self, name: str) -> None:
        """Track with the network run by "torch" or by "onnxruntime"; weights must not change afterwards.

        Raises:
            ValueError: This tracker has no network that onnxruntime could run alone, or onnxruntime is missing.
        """
        if name == "onnxruntime" and not isinstance(self.tracker(), ResponseTracker):
            raise ValueError(f"engine is 'onnxruntime' but {type(self).__name__} learns on the way: use 'torch'")
        self.engine = OnnxRuntimeEngine(self.exportable) if name == "onnxruntime" else None

    def running_tracker(self) -> Tracker:
        """Return ``tracker()`` with the engine that was chosen."""
        tracker = self.tracker()
        if self.engine is not None:
            tracker.predict = self.engine
            tracker.engine = "onnxruntime"  # plain, so part of a result file's fingerprint
        return tracker

    def forward(self, episode: Episode) -> Any:
        """Track a video; adapt and predict on anything else."""
        if not is_sequence(episode):
            return super().forward(episode)
        if is_supervised(episode):
            return track_supervised(self.running_tracker(), episode.query.images, episode.query.boxes[0].cpu())
        box = episode.support.boxes[0][0].cpu()
        return track(self.running_tracker(), episode.query.images, box, truth=truth_of(episode))

    def build_metrics(self) -> Metric:
        """Return what sequences are judged by: one-pass evaluation, or VOT's supervised one."""
        return SequenceMetrics()

    def test_step(self, episode: Episode, batch_idx: int) -> Any:
        """Track one sequence, or take what an earlier run with the same weights, settings and data left."""
        if not is_sequence(episode):
            return super().test_step(episode, batch_idx)
        made_by = f"{self._fingerprint} {sequence_fingerprint(episode)}"
        files = TrackFiles(self._tracks(repeat_of(episode)), made_by)
        frames = episode.query.images
        read, write = (read_run, write_run) if is_supervised(episode) else (TrackFiles.read, TrackFiles.write)
        done = read(files, frames)
        if done is None or len(done.boxes) < min(len(frames), len(episode.query.boxes[0])):
            self._seed_step("test", episode)
            write(files, frames, self(episode))
            done = read(files, frames)  # what is judged is what the files hold, whether it is taken up later or not
        self.metrics["test"].update(done, episode)
        return self._reported(done, episode)

    def _tracks(self, repeat: int = 0) -> Path:
        """Return the folder of the result files of one seed."""
        folder = Path(self.trainer.default_root_dir) / "tracks"
        return folder / f"repeat_{repeat + 1}" if repeat else folder

    def _reported(self, result: Any, episode: Episode) -> Any:
        """Keep a line on a track for the report of the run."""
        if isinstance(result, Track):
            row = {"sequence": episode.query.names[0], "repeat": repeat_of(episode) + 1}
            self._drift.append({**row, **drift(result, episode.query.boxes[0])})
        return result

    def on_test_epoch_end(self) -> None:
        """Compute the metrics, and write ``tracks/report.csv``, which says where each sequence was lost."""
        super().on_test_epoch_end()
        write_report(self._drift, self._tracks() / "report.csv", self.trainer.is_global_zero)

    def on_test_start(self) -> None:
        """Look at weights, settings and seed once, so that no result of others is taken."""
        super().on_test_start()
        self._drift = []
        self._fingerprint = fingerprint(self, self.running_tracker(), self.run_seed)

    def predict_step(self, episode: Episode, batch_idx: int) -> Any:
        """Track a video into ``<run folder>/tracks``: boxes, times and an annotated mp4."""
        if not is_sequence(episode):
            return super().predict_step(episode, batch_idx)
        folder = Path(self.trainer.default_root_dir) / "tracks"
        show = getattr(self.trainer.progress_bar_callback, "show_frames", None)
        boxes = episode.support.boxes[0].cpu()
        record = track_to_files(self.running_tracker(), episode.query.images, boxes, folder, show)
        self.print(
            f"{record['frames']} frames, {record['fps']} frames/s, {record['fps_with_reading']} with reading: "
            f"{record['mot' if len(boxes) > 1 else 'boxes']}, {record['annotated']}"
        )
        return [record]

    def prediction_records(self, episode: Episode, preds: Any) -> list[dict[str, Any]]:
        """Return what predictions.json says about a video."""
        return preds

    def draw(self, episode: Episode, preds: Any) -> Tensor:
        """Return a strip of frames with the truth and what was tracked."""
        from lightning_fewshot.tracking.pictures import draw_track

        return draw_track(episode, preds)


class SequenceMetrics(Metric):
    """One-pass and supervised evaluation side by side: each counts the sequences of its kind.

    Args:
        bounds: Least and greatest length of the EAO.
        kwargs: For ``torchmetrics.Metric``.
    """

    full_state_update = False
    is_supervised: Tensor

    def __init__(self, bounds: tuple[int, int] = EAO_BOUNDS["VOT2015"], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.one_pass = OnePass()
        self.supervised = Supervised(bounds)
        # A process without a sequence must gather the metric that the others gather.
        self.add_state("is_supervised", default=torch.tensor(0), dist_reduce_fx="max")

    def update(self, preds: Track | SupervisedRun, episode: Episode) -> None:
        """Count one sequence."""
        if isinstance(preds, SupervisedRun):
            self.is_supervised = torch.ones_like(self.is_supervised)
            self.supervised.update(preds, episode)
        else:
            self.one_pass.update(preds, episode)

    def compute(self) -> dict[str, Estimate]:
        """Return the estimates of the protocol that was run; of one-pass evaluation where nothing was."""
        return (self.supervised if self.is_supervised else self.one_pass).compute()

    @property
    def curves(self) -> dict[str, list[float]]:
        """The curves of one-pass evaluation, after ``compute``."""
        return {} if self.is_supervised else self.one_pass.curves

    def reset(self) -> None:
        """Forget all sequences."""
        super().reset()
        self.one_pass.reset()
        self.supervised.reset()
