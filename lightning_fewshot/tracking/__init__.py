"""Single-object tracking: what a tracker is, the loop over frames, crops, result files and protocols.

- ``tracker``: the :class:`~lightning_fewshot.tracking.tracker.Tracker` protocol and the smallest tracker.
- ``frames``: where frames come from: a folder, a video file, an array; decoded ahead in a thread.
- ``loop``: ``follow`` and ``track``, which own the first-frame rule and the clock.
- ``crops``: exemplars and search windows, all scales in one operation.
- ``episodes``: a video as an Episode.
- ``module``: what a paper's module inherits to be tested on videos.
- ``files``: one result file a sequence, with resume.
- ``response``: what trackers share that search by a response map.
- ``drift``: the report of a test: where each sequence was lost, and what the tracker knew.
- ``supervised``: VOT's protocol, which starts a lost tracker again.
- ``benchmarks``: the test sets as they lie on disk.
- ``score``, ``score_plots``: the command that scores anybody's result files.
- ``annotate``, ``pictures``: a user's video with its boxes; a strip of frames for the run folder.
- ``adapters``: got10k and vot-toolkit run our trackers.
"""

from lightning_fewshot.tracking.identity import IdentityTracking

__all__ = ["IdentityTracking"]
