"""A video as an Episode, for ``test`` and ``predict``; and how training episodes of tracking papers look.

A *sequence* (validation, test, predict) is one object in one video:

- ``support``: ``images`` is ``frames[:1]`` (a ``Frames`` of one), ``boxes`` a list of one ``(1, 4)``, or ``(A, 4)``
  where ``predict`` follows A objects.
- ``query``: ``images`` is the whole video as a ``Frames``, not decoded; ``boxes`` a list of one ``(T', 4)``, the truth,
  NaN where the object is absent, T' <= T where a benchmark annotates fewer frames, or None where nothing is known;
  ``(T', 8)`` where it is polygons;
  ``names`` holds the name of the sequence.
- ``class_ids``: None; or, where a sequence is tracked with several seeds, its number and the number of the seed.

An episode says by its ``protocol`` which of these it is:

- ``"one_pass"``: a sequence, tracked once from its first frame.
- ``"supervised"``: a sequence whose truth is polygons, by VOT's protocol, which starts a lost tracker again.
- ``"pairs"`` (Learnet, section 3.3): ``support.images`` ``(B, 3, 127, 127)`` uint8 exemplars; ``query.images``
  ``(B, 3, 255, 255)`` search patches; ``query.labels`` ``(B,)`` int64, 1 for the same object and 0 for another one;
  ``boxes`` lists of B ``(1, 4)``, the object in the crop; ``support.query_index`` the patch of each exemplar.
- ``"clips"`` (MLT, section 3.2.2): ``support`` exemplars as above; ``query.images`` ``(B * T, 3, 255, 255)``, the T
  context patches of the first exemplar's object, then those of the second; labels all 1.
- ``"frames"`` (MetaRTT, section 3): whole frames. ``support.images`` list of B ``(3, H, W)``, the first frame of each
  clip; ``query.images`` list of ``B * (T - 1)``, clip by clip; ``boxes`` lists of ``(1, 4)``;
  ``class_ids`` the numbers of the B videos, which differ where there are enough (each other's hard negatives).

The last three are training episodes, made by ``datamodules.tracking.training``; boxes are in pixels of their image.
"""

from __future__ import annotations

from torch import Tensor

from lightning_fewshot.boxes import polygon_boxes
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.tracking.frames import Frames

SEQUENCES = ("one_pass", "supervised")  # protocols of an episode that is a video


def sequence_episode(
    frames: Frames, boxes: Tensor, index: int = 0, truth: bool = True, supervised: bool = False
) -> Episode:
    """Return one object's video as an episode.

    Args:
        frames: The video.
        boxes: ``(T', 4)`` boxes or ``(T', 8)`` polygons; the first is where the tracker starts, others may be NaN.
        index: Number of the sequence in its split.
        truth: Whether all of ``boxes`` is known; else the first alone is.
        supervised: Ask for VOT's protocol, which needs polygons; with boxes the sequence is tracked in one pass.
    """
    names, polygons = (frames.name,), boxes.shape[1] == 8
    support = Examples(frames[:1], boxes=[polygon_boxes(boxes[:1]) if polygons else boxes[:1]], names=names)
    query = Examples(frames, boxes=[boxes] if truth else None, names=names)
    protocol = "supervised" if supervised and truth and polygons else "one_pass"
    return Episode(support, query, ("object",), index, protocol=protocol)


def as_repeat(episode: Episode, index: int, repeat: int, inner_repeats: int = 1) -> Episode:
    """Return a sequence to be tracked again with another seed, which follows from ``index``.

    Args:
        episode: The sequence; itself a repeat where the test set of another set has repeats of its own.
        index: Number of the episode in the test.
        repeat: Number of the seed, from 0.
        inner_repeats: Seeds of that other set.
    """
    sequence = episode.class_ids[0] if episode.class_ids else episode.index
    inner = episode.class_ids[1] if episode.class_ids else 0
    return episode._replace(index=index, class_ids=(sequence, repeat * inner_repeats + inner))


def repeat_of(episode: Episode) -> int:
    """Return the number of the seed that a sequence is tracked with, from 0."""
    return episode.class_ids[1] if episode.class_ids else 0


def truth_of(episode: Episode) -> Tensor | None:
    """Return where a sequence's object is ``(T', 4)``, on the CPU; around polygons their box. None: it is not known."""
    if not episode.query.boxes:
        return None
    truth = episode.query.boxes[0].cpu()
    return polygon_boxes(truth) if truth.shape[1] == 8 else truth


def is_sequence(episode: Episode) -> bool:
    """Tell a video from a training episode."""
    return episode.protocol in SEQUENCES


def is_supervised(episode: Episode) -> bool:
    """Tell a sequence for VOT's supervised protocol."""
    return episode.protocol == "supervised"
