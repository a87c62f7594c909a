"""Which patches MLT's memory picks: least entropy, eq. (5), against random choice and the highest score.

    python studies/mlt_memory.py runs/matching/checkpoints/best.ckpt --data otb videos

The matching network tracks every sequence from its first frame, as in a test. Of each T frames in a row a rule picks M;
reported is how well their boxes, which the memory would centre its patches on, overlap the truth: the mean IoU, and the
share with IoU below 0.5 (background in the middle of the patch). Beside it stands the share of eq. (5)'s sum that comes
from cells more than two cells from the highest one: of the background. Intervals (95 %) are over sequences; differences
are to random choice, whose expectation is the mean over the T frames.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules import OTB, DAVISVideos, GOT10k
from datamodules.tracking.base import Target, TrackingData
from lightning_fewshot.boxes import iou
from lightning_fewshot.checkpoints import build_module
from lightning_fewshot.metrics.estimate import Estimate, mean_interval
from lightning_fewshot.models.mlt.matching import MatchingTracker
from lightning_fewshot.models.mlt.network import MatchState
from lightning_fewshot.models.mlt.tracking import MatchTracker, response_entropy
from lightning_fewshot.tracking.loop import track
from lightning_fewshot.tracking.response import Following

NEAR = 2.0  # cells: what lies further from the highest response is background
RULES = ("random", "least entropy", "highest score")


class Seen(NamedTuple):
    """What was noted of the frames of one sequence, ``(T,)`` each.

    Args:
        overlap: IoU of box and truth.
        entropy: Eq. (5).
        background: Share of it from the background.
        score: The highest response.
    """

    overlap: Tensor
    entropy: Tensor
    background: Tensor
    score: Tensor


class Noting(MatchTracker):
    """The matching network's tracker, which notes the response of every frame."""

    def __init__(self, module: MatchingTracker) -> None:
        super().__init__(module.network, module.search, module.crops, module.device)
        self.notes: list[tuple[float, float, float]] = []

    def learn(self, state: Following, frame: Tensor, response: Tensor) -> MatchState:
        """Note entropy, its share from the background, and the highest response."""
        entropy = float(response_entropy(response))
        self.notes.append((entropy, background_share(response), float(response.amax())))
        return state.model


def background_share(response: Tensor) -> float:
    """Return the share of eq. (5)'s sum that comes from cells far from the highest of a response ``(R, R)``.

    >>> response = torch.full((9, 9), -2.0)
    >>> response[4, 4] = 2.0
    >>> round(background_share(response), 2)
    0.85
    """
    side = response.shape[-1]
    place = divmod(int(response.argmax()), side)
    line = torch.arange(side, dtype=response.dtype)
    far = ((line[:, None] - place[0]).square() + (line - place[1]).square()).sqrt() > NEAR
    return float(response_entropy(response[far][None]) / response_entropy(response))


@torch.no_grad()
def follow(module: MatchingTracker, target: Target, frames: int) -> Seen:
    """Track a sequence, at most so many frames of it."""
    tracker, boxes = Noting(module), target.boxes()[:frames].float()
    found = track(tracker, target.frames[: len(boxes)], boxes[0]).boxes
    known = boxes[1:].isfinite().all(1)
    overlap = iou(found[1:, None], boxes[1:].nan_to_num(0.0)[:, None])[:, 0, 0]
    return Seen(*(part[known] for part in (overlap, *torch.tensor(tracker.notes).T)))


def picked(seen: Seen, rule: str, every: int, size: int) -> Tensor:
    """Return the overlaps of what a rule picks of each ``every`` frames: ``(blocks, size)``; "random": of all.

    >>> seen = Seen(*torch.tensor([[0.1, 0.2, 0.3, 0.9], [4, 3, 2, 1], [0, 0, 0, 0], [1, 9, 2, 3.0]]))
    >>> [picked(seen, rule, 2, 1).flatten().tolist() for rule in ("least entropy", "highest score")]
    [[0.20000000298023224, 0.8999999761581421], [0.20000000298023224, 0.8999999761581421]]
    """
    count = len(seen.overlap) // every
    blocks = [part[: count * every].view(count, every) for part in seen]
    if rule == "random":
        return blocks[0]
    order = blocks[1] if rule == "least entropy" else -blocks[3]
    return blocks[0].gather(1, order.argsort(1)[:, :size])


def targets_of(name: str) -> list[Target]:
    """Return the sequences of "otb", "davis", or a folder in GOT-10k's layout."""
    data: TrackingData = {"otb": OTB, "davis": DAVISVideos}[name]() if name in ("otb", "davis") else GOT10k(folder=name)
    splits = ("test",) if name in ("otb", "davis") else ("train", "val")
    return [data.target(split, i) for split in splits for i in range(data.count(split))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", help="of a MatchingTracker")
    parser.add_argument("--data", nargs="+", default=["otb", "videos"])
    parser.add_argument("--every", type=int, default=15, help="T")
    parser.add_argument("--size", type=int, default=4, help="M")
    parser.add_argument("--frames", type=int, default=150, help="of a sequence, at most")
    options = parser.parse_args()
    module = build_module(options.checkpoint)
    rows = [follow(module, t, options.frames) for name in options.data for t in targets_of(name)]
    rows = [seen for seen in rows if len(seen.overlap) >= options.every]
    share = mean_interval(torch.stack([seen.background.mean() for seen in rows]))
    print(f"{len(rows)} sequences; share of eq. (5) from the background: {_cell(share)}\n")
    print("| rule | IoU | - random | IoU below 0.5 | - random |\n|---|---:|---:|---:|---:|")
    values = {rule: [picked(seen, rule, options.every, options.size) for seen in rows] for rule in RULES}
    means = {r: torch.tensor([[v.mean(), (v < 0.5).float().mean()] for v in vs]) for r, vs in values.items()}
    for rule, value in means.items():
        cells = [_cell(mean_interval(v)) for i in (0, 1) for v in (value[:, i], value[:, i] - means["random"][:, i])]
        print(f"| {rule} | {' | '.join(cells)} |")


def _cell(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ± {(estimate.high - estimate.low) / 2:.3f}"


if __name__ == "__main__":
    main()
