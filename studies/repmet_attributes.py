"""Attribute precision over neighbourhood size, figure 6 (a) of RepMet, of runs of experiments/repmet_classifier.yaml.

    python studies/repmet_attributes.py runs/a runs/b --out runs/studies/repmet_attributes

Each run is a folder with checkpoints; the images are those of the first run's test classes, with the attributes that
its data set tells (drawn objects: shape and pattern), which no model was shown. "Chance" takes all other images as
neighbours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml
from jsonargparse import ArgumentParser

from lightning_fewshot import load
from lightning_fewshot.classification.figures import draw_curves
from lightning_fewshot.data import EpisodicDataModule
from lightning_fewshot.drawing import write_png
from lightning_fewshot.metrics.attribute_precision import attribute_precision, attribute_table

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
BATCH = 64


def data_of(run: Path) -> EpisodicDataModule:
    """Return the data of a run as its config has them."""
    parser = ArgumentParser()
    parser.add_argument("--data", type=EpisodicDataModule)
    config = parser.parse_object({"data": yaml.safe_load((run / "config.yaml").read_text())["data"]})
    return parser.instantiate_classes(config).data


@torch.no_grad()
def main(runs: list[Path], out: Path) -> None:
    """Measure the runs, print a table, and draw the curves."""
    data = data_of(runs[0])
    images = data.listed[0]
    numbers = [number for row in data.catalog.items["test"].values() for number in row]
    names, attributes = attribute_table([data.attributes_of(images[number]) for number in numbers])
    shown = data.evaluation_images(numbers)
    sizes = tuple(size for size in SIZES if size < len(numbers))
    curves = {}
    for run in runs:
        module = load(run / "checkpoints/best.ckpt").module.eval()
        embedded = torch.cat([module.embed(part) for part in shown.split(BATCH)])
        curves[run.name] = attribute_precision(embedded, attributes, sizes).tolist()
    chance = attribute_precision(embedded, attributes, (len(numbers) - 1,)).item()
    print(f"{len(numbers)} images, {len(names)} attributes: {', '.join(names)}; chance {100 * chance:.1f} %")
    print("| run |" + "".join(f" {size} |" for size in sizes))
    print("|---|" + "---:|" * len(sizes))
    for name, values in curves.items():
        print(f"| {name} |" + "".join(f" {100 * value:.1f} |" for value in values))
    out.mkdir(parents=True, exist_ok=True)
    write_png(
        draw_curves(curves, sizes, across="neighbours", up="attribute precision"), out / "attribute_precision.png"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/studies/repmet_attributes"))
    options = parser.parse_args()
    main(options.runs, options.out)
