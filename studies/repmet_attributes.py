"""Attribute precision over neighbourhood size, figure 6 (a) of RepMet: are images of one attribute neighbours?

    python studies/repmet_attributes.py runs/a runs/b            # runs of experiments/repmet_classifier.yaml
    FEWSHOT_DATA=/data python studies/repmet_attributes.py --heads cub    # or grocery; heads on cached features

Of runs (folders with checkpoints) the images are those of the first run's test classes, with the attributes that its
data set tells (drawn objects: shape and pattern). Of heads they are the test images of the closed set, and an
attribute is the kind that several classes share (warblers; apples), mean of three seeds with default settings. No model
was shown the attributes. "Chance" takes all other images as neighbours.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml
from classification_cached import CLOSED, Cached, groups_of
from classification_features import DATA
from jsonargparse import ArgumentParser
from repmet_classification import METHODS, RECIPES, SEEDS, UNTRAINED, train
from torch import Tensor

import datamodules
from lightning_fewshot import load
from lightning_fewshot.classification.figures import draw_curves
from lightning_fewshot.data import EpisodicDataModule
from lightning_fewshot.drawing import write_png
from lightning_fewshot.metrics.attribute_precision import attribute_precision, attribute_table

SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
BATCH = 64
HEADS = ("RepMet K=3", "Magnet", "triplet", "softmax", UNTRAINED)
FOLDER = Path("runs/studies/repmet_attributes")
Embeddings = dict[str, list[Tensor]]  # of each row, one a seed


def data_of(run: Path) -> EpisodicDataModule:
    """Return the data of a run as its config has them."""
    parser = ArgumentParser()
    parser.add_argument("--data", type=EpisodicDataModule)
    config = parser.parse_object({"data": yaml.safe_load((run / "config.yaml").read_text())["data"]})
    return parser.instantiate_classes(config).data


@torch.no_grad()
def of_runs(runs: list[Path]) -> tuple[Embeddings, list[set[str]]]:
    """Return the embedding of each run, and the attributes of the images."""
    data = data_of(runs[0])
    images = data.listed[0]
    numbers = [number for row in data.catalog.items["test"].values() for number in row]
    shown, found = data.evaluation_images(numbers), {}
    for run in runs:
        module = load(run / "checkpoints/best.ckpt").module.eval()
        found[run.name] = [torch.cat([module.embed(part) for part in shown.split(BATCH)])]
    return found, [set(data.attributes_of(images[number])) for number in numbers]


def of_heads(name: str) -> tuple[Embeddings, list[set[str]]]:
    """Train heads; return the embedding of the test images by each, and their kinds as attributes."""
    data, recipe = Cached(name, closed=True), RECIPES["plain"]
    kinds = groups_of(data.classes, getattr(datamodules, DATA[name][0])(splits=CLOSED[name]), "families")
    shared = {kind for kind in kinds.values() if list(kinds.values()).count(kind) > 1}
    batch, found = data.batch("test"), {}
    for method in HEADS:
        seeds = SEEDS[:1] if method == UNTRAINED else SEEDS
        models = [
            train(method, data, recipe, recipe.rates[0], METHODS[method].settings[0], "both", seed) for seed in seeds
        ]
        found[method] = [model.embed(batch.query.images).detach() for model in models]
    return found, [{kinds[data.classes[label]]} & shared for label in batch.query.labels.tolist()]


def main(found: Embeddings, attributes: list[set[str]], out: Path) -> None:
    """Print a table, and draw the curves."""
    names, table = attribute_table(attributes)
    sizes = tuple(size for size in SIZES if size < len(table))
    curves = {
        name: torch.stack([attribute_precision(embedded, table, sizes) for embedded in seeds]).mean(dim=0).tolist()
        for name, seeds in found.items()
    }
    any_embedding = next(iter(found.values()))[0]
    chance = attribute_precision(any_embedding, table, (len(table) - 1,)).item()
    print(f"{len(table)} images, {len(names)} attributes: {', '.join(names)}; chance {100 * chance:.1f} %")
    print("| neighbours |" + "".join(f" {size} |" for size in sizes))
    print("|---|" + "---:|" * len(sizes))
    for name, values in curves.items():
        print(f"| {name} |" + "".join(f" {100 * value:.1f} |" for value in values))
    out.mkdir(parents=True, exist_ok=True)
    picture = draw_curves(curves, sizes, across="neighbours", up="attribute precision")
    write_png(picture, out / "attribute_precision.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of runs")
    parser.add_argument("--heads", choices=sorted(CLOSED), help="heads on cached features in place of runs")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    if bool(options.runs) == bool(options.heads):
        parser.error("give folders of runs, or --heads")
    main(*(of_heads(options.heads) if options.heads else of_runs(options.runs)), options.out)
