"""Pairs of PASCAL-5i and COCO as OSLSM's last layers see them, computed once, for studies/oslsm_training.py.

FEWSHOT_DATA=/data python studies/oslsm_pairs.py 1     # what trains, validates and tests fold 1
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.segmentation.coco_panoptic import CocoPanoptic
from datamodules.segmentation.mixed import MixedSegmentation
from datamodules.segmentation.pascal5i import Pascal5i
from datamodules.segmentation.settings import FoldSplits, MaskedImages, MaskRules
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.episodes import Episode
from lightning_fewshot.metrics.segmentation import image_number
from lightning_fewshot.models.oslsm import OSLSMSegmenter
from lightning_fewshot.models.oslsm.grid import resized
from lightning_fewshot.models.oslsm.masks import label_targets, stacked, support_objects
from lightning_fewshot.models.oslsm.settings import (
    ImageSides,
    PixelLoss,
    Prototypes,
    SegmentationBranchSettings,
    SupportEncoder,
)
from lightning_fewshot.settings import BackboneSettings

SIDE = 321
COARSE = 4  # training masks are compared at every fourth pixel
BATCH = 8  # pairs
COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tv/monitor": "tv",
}
VALIDATION_CLASSES = {1: 2, 2: 2, 3: 3}  # of each fold


class Pairs(NamedTuple):
    """P pairs as the last layers see them.

    Args:
        maps: ``(P, C, h, w)`` half, what fc6 sees of the query.
        prototypes: ``(P, F)`` half, what g pools from the support.
        masks: ``(P, H, W)`` uint8: 1 object, 0 background, 255 void.
        classes: ``(P,)`` class of each.
        images: ``(P,)`` float64, a number of each query image.
    """

    maps: Tensor
    prototypes: Tensor
    masks: Tensor
    classes: Tensor
    images: Tensor


def segmenter() -> OSLSMSegmenter:
    """Return OSLSM as in experiments/oslsm/photos.yaml."""
    return OSLSMSegmenter(
        backbone=BackboneSettings("efficientnet_lite0", "package", frozen_stages=5, frozen_batchnorm=True),
        branch=SegmentationBranchSettings(output_stride=16, dropout=0.1, feature_norm=True),
        sides=ImageSides(query_size=SIDE, align_corners=True),
        encoder=SupportEncoder(
            pooling=Prototypes(0.5), prototype_init=True, size=193, crop=True, code_norm=True, lr_factor=1.0
        ),
        loss=PixelLoss(dice=1.0),
        shot_aggregation="mean",
    )


def data_of(fold: int, queries: int) -> MixedSegmentation:
    """Return a fold of PASCAL-5i's animals with COCO beside it in training."""
    images, counts = MaskedImages(size=SIDE, crop=0.5), EpisodeCounts(1000, 150, queries)
    splits = FoldSplits(fold=fold, val_classes=VALIDATION_CLASSES[fold], small_classes="drop", train_on_spare=True)
    shared = {"images": images, "episodes": counts, "batch_size": BATCH, "num_workers": 0}
    pascal = Pascal5i(str(Path(os.environ["FEWSHOT_DATA"]) / "pascal5i-animals"), splits=splits, **shared)
    coco = CocoPanoptic(
        stuff=True,
        splits=FoldSplits(novel_classes=(), small_classes="drop"),
        rules=MaskRules(min_pixels=6144),
        **shared,
    )
    return MixedSegmentation([pascal, coco], same=COCO_NAMES)


@torch.no_grad()
def cached(module: OSLSMSegmenter, episode: Episode, coarse: bool) -> Pairs:
    """Compute what the last layers see of an episode."""
    images, masks = stacked(episode.query)
    targets = label_targets(masks, episode.query.labels)
    objects = torch.stack(support_objects(episode.support))
    numbers = torch.tensor([image_number(episode, i) for i in range(len(images))], dtype=torch.float64)
    return Pairs(
        module.segmentation.maps(resized(images, module.sides, module.stride)).half(),
        module.conditioning.network.pooled(episode.support.images, objects).half(),
        targets[:, ::COARSE, ::COARSE].clone() if coarse else targets,
        torch.tensor([episode.class_ids[i] for i in episode.query.labels.tolist()]),
        numbers,
    )


def pairs_of(module: OSLSMSegmenter, data: MixedSegmentation, split: str, count: int, path: Path) -> Pairs:
    """Return the pairs of the first episodes of a split, from a file where it is there."""
    if not path.is_file():
        parts = [cached(module, data.episode(split, i), coarse=split == "train") for i in range(count)]
        torch.save(tuple(torch.cat(part) for part in zip(*parts, strict=True)), path)
    return Pairs(*torch.load(path, weights_only=True))


def part_of(pairs: Pairs, index: Tensor | slice) -> Pairs:
    """Return some of the pairs."""
    return Pairs(*(values[index] for values in pairs))


def main() -> None:
    """Print the classes of a fold, each with its number of photos."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fold", type=int, choices=list(VALIDATION_CLASSES))
    data = data_of(parser.parse_args().fold, queries=1000)
    data.setup("fit")
    data.setup("test")
    for source in data.sources:
        print(type(source).__name__, "train:", {name: len(photos) for name, photos in source.pair_photos.items()})
    for split in ("val", "test"):
        print(split, {name: len(photos) for name, photos in data.sources[0].items(split).items()})


if __name__ == "__main__":
    main()
