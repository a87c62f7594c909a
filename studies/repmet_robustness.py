"""RepMet and Magnet over K, depth and width of the embedding: figures 5 (d), 6 (b) and 6 (c) of RepMet.

    FEWSHOT_DATA=/data python studies/repmet_robustness.py modes          # K = 1 to 8
    FEWSHOT_DATA=/data python studies/repmet_robustness.py architectures  # 1 to 3 layers of 3 widths

Heads on cached features of CUB's closed set, as in repmet_classification.py, with default settings: nothing is chosen.
Error of the test images at a number of steps, and its standard deviation over K, or over the nine architectures.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from pathlib import Path

import torch
from classification_cached import Cached
from classification_tables import half
from repmet_classification import BACKBONE, BATCHES, NARROW, SEEDS, closed_set, training_steps
from torch import Tensor

from datamodules.classification.training import ClassBatch, ClusterBatch
from lightning_fewshot import MagnetClassifier, RepMetClassifier
from lightning_fewshot.classification.figures import draw_curves
from lightning_fewshot.classification.module import ClassifierModule
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.drawing import write_png
from lightning_fewshot.models.repmet.classifier_settings import ClassMixture
from lightning_fewshot.settings import Optimization

STEPS = (25, 50, 100, 150, 200, 300, 400)
MODES = range(1, 9)
WIDTHS, DEPTHS = (256, 512, 1024), (1, 2, 3)
OPTIMIZATION = Optimization("AdamW", lr=1e-3, weight_decay=1e-2)
FOLDER = Path("runs/studies/repmet_robustness")
Make = Callable[[EmbeddingHead, int], ClassifierModule]
METHODS: dict[str, tuple[Make, ClassBatch]] = {
    "RepMet": (lambda h, k: RepMetClassifier(BACKBONE, h, ClassMixture(k), OPTIMIZATION), BATCHES),
    "Magnet": (lambda h, k: MagnetClassifier(BACKBONE, h, n_modes=k, optimization=OPTIMIZATION), ClusterBatch()),
}


def variants(what: str) -> dict[str, tuple[EmbeddingHead, int]]:
    """Return the layers and K of each variant."""
    if what == "modes":
        return {f"K = {k}": (NARROW, k) for k in MODES}
    return {f"{d} x {w}": (EmbeddingHead((w,) * (d - 1), w), 3) for d in DEPTHS for w in WIDTHS}


def indexed(model: ClassifierModule, data: Cached) -> ClassifierModule:
    """Return a copy with the training classes as they are now; the model that trains keeps its clusters."""
    probe = copy.deepcopy(model).eval()
    if probe.keeps_training_classes:
        probe.index_classes([data.batch("both")])
    return probe


def measure(method: str, head: EmbeddingHead, n_modes: int, data: Cached) -> Tensor:
    """Return whether each test image is classified right after each number of steps, ``(seeds, steps, Q)``."""
    make, training = METHODS[method]
    rows = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model, found = make(head, n_modes), []
        for step in training_steps(model, data, training, STEPS[-1], "both", seed):
            if step in STEPS:
                found.append(closed_set(indexed(model, data), data, "test")["closed"])
        rows.append(torch.stack(found))
    return torch.stack(rows)


def main(what: str) -> None:
    """Measure all variants of both methods; print the tables and draw the deviation over the steps."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    data = Cached("cub", closed=True)
    spread = {}
    for method in METHODS:
        errors = []
        print(f"\n### {method}: error of CUB's test images after {STEPS[-1]} steps\n\n| | % | seeds |\n|---|---:|---|")
        for name, (head, n_modes) in variants(what).items():
            right = measure(method, head, n_modes, data)
            last = 100 * (1 - right[:, -1])
            seeds = ", ".join(f"{value:.1f}" for value in last.mean(dim=1).tolist())
            print(f"| {name} | {float(last.mean()):.1f} ± {half(last.mean(dim=0)):.1f} | {seeds} |", flush=True)
            errors.append(100 * (1 - right.mean(dim=2)))  # (seeds, steps)
        spread[method] = torch.stack(errors).std(dim=0).mean(dim=0).tolist()
    print(f"\n### Standard deviation of the error over {what}, mean of {len(SEEDS)} seeds\n")
    print("| steps |" + "".join(f" {step} |" for step in STEPS) + "\n|---|" + "---:|" * len(STEPS))
    for method, values in spread.items():
        print(f"| {method} |" + "".join(f" {value:.1f} |" for value in values))
    (FOLDER / f"{what}.json").write_text(json.dumps(spread))
    write_png(draw_curves(spread, STEPS, across="steps", up="deviation of the error, %"), FOLDER / f"{what}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("modes", "architectures"))
    main(parser.parse_args().what)
