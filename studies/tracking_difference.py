"""Two tests of trackers on the same sequences: the paired difference of a metric, with its 95 % interval.

    python studies/tracking_difference.py runs/meta runs/rt

Both runs are of `test`; their results.json hold the metric of every sequence.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from lightning_fewshot.metrics.estimate import mean_interval


def paired(first: dict[str, float], second: dict[str, float]) -> Tensor:
    """Return first minus second ``(N,)`` by sequence.

    Raises:
        ValueError: The runs are of other sequences; names one.

    >>> paired({"a": 1.0, "b": 0.5}, {"b": 0.25, "a": 0.5}).tolist()
    [0.5, 0.25]
    """
    if lone := sorted(first.keys() ^ second.keys()):
        raise ValueError(f"sequence {lone[0]} is in one run alone, but both must be of the same sequences")
    return torch.tensor([first[name] - second[name] for name in first])


def main() -> None:
    """Print the difference."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs=2, type=Path, help="run folders of two tests")
    parser.add_argument("--metric", default="success_auc")
    options = parser.parse_args()
    records = [json.loads((run / "results.json").read_text()) for run in options.runs]
    gain = paired(*(record["per_episode"][options.metric] for record in records))
    estimate = mean_interval(gain)
    print(f"{options.metric}: {estimate.value:+.3f} ± {(estimate.high - estimate.low) / 2:.3f}, {len(gain)} sequences")


if __name__ == "__main__":
    main()
