"""How far targets move from frame to frame: what the spread of a tracker's candidates must cover.

    python studies/tracking_motion.py --data videos videos-2

Displacements are the larger of both axes, in mean sides of the target; sizes are ratios of the square roots of areas.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from datamodules import GOT10k
from lightning_fewshot.boxes import valid

QUANTILES = (0.5, 0.9, 0.95, 0.99)


def motion(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return displacements and ratios of sizes of the frames whose box, and the one before, are known.

    >>> shift, ratio = motion(torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 2.0, 15.0, 12.0], [5.0, 2.0, 25.0, 22.0]]))
    >>> shift.tolist(), ratio.round(decimals=2).tolist()
    ([0.5, 0.5], [1.0, 2.0])
    """
    known = valid(boxes)
    both = known[1:] & known[:-1]
    before, after = boxes[:-1][both], boxes[1:][both]
    sizes = [b[:, 2:] - b[:, :2] for b in (before, after)]
    apart = (after[:, :2] + after[:, 2:] - before[:, :2] - before[:, 2:]).abs().amax(1) / 2
    ratio = (sizes[1].prod(1) / sizes[0].prod(1)).sqrt()
    return apart / sizes[0].mean(1), torch.maximum(ratio, 1 / ratio)


def main() -> None:
    """Print the quantiles of every folder of videos."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=["videos", "videos-2"], help="folders in GOT-10k's layout")
    for name in parser.parse_args().data:
        data = GOT10k(folder=name)
        videos = [motion(data.target(s, i).boxes().float()) for s in ("train", "val") for i in range(data.count(s))]
        for title, parts in zip(("displacement", "size"), zip(*videos, strict=True), strict=True):
            values = torch.cat(parts)
            shown = ", ".join(f"{q:.0%} {values.quantile(q):.3f}" for q in QUANTILES)
            print(f"{name}, {len(values)} frames, {title}: {shown}")


if __name__ == "__main__":
    main()
