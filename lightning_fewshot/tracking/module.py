"""What a paper's module inherits, before FewShotModule, to be validated and tested on videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchmetrics import Metric

from lightning_fewshot.episodes import Episode
from lightning_fewshot.metrics.one_pass import OnePass
from lightning_fewshot.tracking.episodes import is_sequence
from lightning_fewshot.tracking.files import TrackFiles, fingerprint
from lightning_fewshot.tracking.loop import Track, track
from lightning_fewshot.tracking.tracker import Tracker


class TracksVideos:
    """Mixin: ``class SiameseTracker(TracksVideos, FewShotModule)``.

    The paper writes ``tracker()``. ``adapt`` and ``predict`` stay what they are on crops: a tracker's ``init`` cuts an
    exemplar and adapts, its ``update`` cuts search windows and predicts. Called with an episode that is a video, the
    module tracks it and returns a :class:`~lightning_fewshot.tracking.loop.Track`; with any other episode it does what
    FewShotModule does. A test keeps one result file a sequence under ``<run folder>/tracks``, so that a stopped test
    with the same ``--run_dir``, weights and settings goes on where it was.
    """

    def tracker(self) -> Tracker:
        """Return this paper's tracker with the module's current weights; cheap, no copy."""
        raise NotImplementedError

    def forward(self, episode: Episode) -> Any:
        """Track a video; adapt and predict on anything else."""
        if not is_sequence(episode):
            return super().forward(episode)
        return track(self.tracker(), episode.query.images, episode.support.boxes[0][0].cpu())

    def build_metrics(self) -> Metric:
        """Return success, precision and normalised precision of one-pass evaluation."""
        return OnePass()

    def test_step(self, episode: Episode, batch_idx: int) -> Any:
        """Track one sequence, or take what an earlier run with the same weights left."""
        if not is_sequence(episode):
            return super().test_step(episode, batch_idx)
        files = self._files()
        done = files.read(episode.query.images)
        if done is not None:
            self.metrics["test"].update(done, episode)
            return done
        result = super().test_step(episode, batch_idx)
        files.write(episode.query.images, result)
        return result

    def on_test_start(self) -> None:
        """Look at the weights once, so that no result of other weights is taken."""
        super().on_test_start()
        self._fingerprint = fingerprint(self, self.tracker())

    def draw(self, episode: Episode, preds: Any) -> Any:
        """Return a strip of frames with the truth and what was tracked."""
        from lightning_fewshot.tracking.pictures import draw_track

        return draw_track(episode, preds)

    def _files(self) -> TrackFiles:
        return TrackFiles(Path(self.trainer.default_root_dir) / "tracks", self._fingerprint)


__all__ = ["Track", "TracksVideos"]
