"""Features of a frozen efficientnet_lite0 of all images of a data set, computed once and kept in a file.

    FEWSHOT_DATA=/data python studies/classification_features.py cub|grocery|miniimagenet

Heads train on them in seconds. Images are shown as they are evaluated: the middle square, nothing mirrored.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

import datamodules
from datamodules.classification.settings import ImageSettings
from lightning_fewshot.nn.image_encoder import ImageEncoder
from lightning_fewshot.settings import BackboneSettings

FOLDER = Path("runs/studies/classification_features")
BACKBONE = BackboneSettings("efficientnet_lite0", weights="package")
# name: class, side of the images as published, side that the network sees (its weights were trained on 224)
DATA = {"cub": ("CUB", 160, 224), "grocery": ("Grocery", 160, 160), "miniimagenet": ("MiniImageNet", 84, 128)}
BATCH = 64


def features_of(name: str) -> dict[str, Any]:
    """Return ``{"features": (n, F), "names": [...]}`` of a data set, computed where no file holds them."""
    path = FOLDER / f"{name}.pt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(_compute(name), path)
    return torch.load(path, weights_only=True)


@torch.no_grad()
def _compute(name: str) -> dict[str, Any]:
    class_name, size, shown = DATA[name]
    data = getattr(datamodules, class_name)(images=ImageSettings(size=size, margin=0.0))
    images, store = data.listed
    encoder = ImageEncoder(BACKBONE).eval()
    rows = []
    for first in range(0, len(images), BATCH):
        batch = torch.stack([store[i] for i in range(first, min(first + BATCH, len(images)))]).float()
        rows.append(encoder(torch.nn.functional.interpolate(batch, (shown, shown), mode="bilinear")))
    return {"features": torch.cat(rows), "names": [image.name for image in images]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", choices=sorted(DATA))
    for data_name in parser.parse_args().data:
        print(data_name, tuple(features_of(data_name)["features"].shape))
