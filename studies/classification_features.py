"""Features of a frozen efficientnet_lite0 of all images of a data set, computed once and kept in a file.

    FEWSHOT_DATA=/data python studies/classification_features.py cub|grocery|miniimagenet
    FEWSHOT_DATA=/data python studies/classification_features.py cub grocery --views

Heads train on them in seconds. Images are shown as they are evaluated: the middle square, nothing mirrored.
With --views also as they are trained on: N_VIEWS random squares of each image, half of them mirrored.

Shapes: n images, V views, F features.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import datamodules
from datamodules.classification.settings import ImageSettings
from lightning_fewshot.nn.image_encoder import ImageEncoder
from lightning_fewshot.settings import BackboneSettings

FOLDER = Path("runs/studies/classification_features")
BACKBONE = BackboneSettings("efficientnet_lite0", weights="package")
# name: class, side of the images as published, side that the network sees (its weights were trained on 224)
DATA = {"cub": ("CUB", 160, 224), "grocery": ("Grocery", 160, 160), "miniimagenet": ("MiniImageNet", 84, 128)}
BATCH = 64
N_VIEWS = 2
AREA = (0.5, 1.0)  # of a random square, as a share of the image


def features_of(name: str) -> dict[str, Any]:
    """Return ``{"features": (n, F), "names": [...]}`` of a data set, computed where no file holds them."""
    path = FOLDER / f"{name}.pt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        batches, names = _batches(name)
        torch.save({"features": _encode(batches, lambda batch: _scaled(batch, DATA[name][2])), "names": names}, path)
    return torch.load(path, weights_only=True)


def views_of(name: str) -> Tensor:
    """Return features of random views, ``(V, n, F)`` as ``features_of`` orders them, computed where no file is."""
    path = FOLDER / f"{name}_views.pt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        generator, (batches, _) = torch.Generator().manual_seed(0), _batches(name)
        side = DATA[name][2]
        views = [_encode(batches, lambda batch: _random_squares(batch, side, generator)) for _ in range(N_VIEWS)]
        torch.save(torch.stack(views), path)
    return torch.load(path, weights_only=True)


def _batches(name: str) -> tuple[list[Tensor], list[str]]:
    class_name, size, _ = DATA[name]
    data = getattr(datamodules, class_name)(images=ImageSettings(size=size, margin=0.0))
    images, store = data.listed
    batches = [
        torch.stack([store[i] for i in range(first, min(first + BATCH, len(images)))])
        for first in range(0, len(images), BATCH)
    ]
    return batches, [image.name for image in images]


@torch.no_grad()
def _encode(batches: list[Tensor], show: Callable[[Tensor], Tensor]) -> Tensor:
    encoder = ImageEncoder(BACKBONE).eval()
    return torch.cat([encoder(show(batch.float())) for batch in batches])


def _scaled(batch: Tensor, side: int) -> Tensor:
    return torch.nn.functional.interpolate(batch, (side, side), mode="bilinear")


def _random_squares(batch: Tensor, side: int, generator: torch.Generator) -> Tensor:
    return torch.cat([_random_square(image[None], side, generator) for image in batch])


def _random_square(image: Tensor, side: int, generator: torch.Generator) -> Tensor:
    area, across, down, mirror = torch.rand(4, generator=generator).tolist()
    length = round(image.shape[-1] * (AREA[0] + area * (AREA[1] - AREA[0])) ** 0.5)
    spare = image.shape[-1] - length
    top, left = int(down * (spare + 1)), int(across * (spare + 1))
    part = image[..., top : top + length, left : left + length]
    return _scaled(part.flip(-1) if mirror < 0.5 else part, side)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", choices=sorted(DATA))
    parser.add_argument("--views", action="store_true", help="random views too")
    options = parser.parse_args()
    for data_name in options.data:
        print(data_name, tuple(features_of(data_name)["features"].shape))
        if options.views:
            print(data_name, "views", tuple(views_of(data_name).shape))
