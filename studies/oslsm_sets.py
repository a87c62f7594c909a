"""The sets of studies/oslsm_training.py by name: PASCAL-5i's and COCO's folds, DAVIS, each with much to train on.

FEWSHOT_DATA=/data python studies/oslsm_sets.py coco1     # prints the classes of a set with their numbers of photos

pascal1 to pascal3: folds of `pascal5i-animals`. Training pairs come from PASCAL's other classes (also photos of its val
lists that show no evaluated class) and from COCO's things and stuff, half each. coco0 to coco3: every fourth thing of
COCO. Training pairs come from COCO's other things and its stuff, and from PASCAL. davis: trained and validated on
pascal1. No class that is validated or tested on is a training class of either source.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import NamedTuple

from datamodules.segmentation.base import PhotoSegmentation
from datamodules.segmentation.coco_panoptic import CocoPanoptic
from datamodules.segmentation.davis import DAVIS
from datamodules.segmentation.mixed import MixedSegmentation
from datamodules.segmentation.pascal5i import Pascal5i
from datamodules.segmentation.settings import FoldSplits, MaskedImages, MaskRules
from lightning_fewshot.data import EpisodeCounts

SIDE = 321
BATCH = 8  # pairs
PASCAL_NAMES = {
    "airplane": "aeroplane",
    "dining table": "diningtable",
    "motorcycle": "motorbike",
    "couch": "sofa",
    "tv": "tv/monitor",
}  # of COCO's things
COCO_NAMES = {pascal: coco for coco, pascal in PASCAL_NAMES.items()}
TABLES = "table-merged"  # of COCO's stuff
VALIDATION_CLASSES = {"pascal1": 2, "pascal2": 2, "pascal3": 3} | {f"coco{fold}": 12 for fold in range(4)}
NAMES = (*VALIDATION_CLASSES, "davis")
TRAINED_ON = {"davis": "pascal1"}


class StudySet(NamedTuple):
    """What a set trains and validates on, and what it asks.

    Args:
        learnt: Its training pairs and validation episodes.
        asked: Its test episodes.
    """

    learnt: MixedSegmentation
    asked: PhotoSegmentation | MixedSegmentation

    def of(self, split: str) -> PhotoSegmentation | MixedSegmentation:
        """Return where the episodes of a split come from."""
        return self.asked if split == "test" else self.learnt


def set_of(name: str, *, shots: int = 1, validation: int = 150, queries: int = 1000) -> StudySet:
    """Return a set, read.

    Args:
        name: One of ``NAMES``.
        shots: Support photos of a validation or test episode.
        validation: Validation episodes at most.
        queries: Test episodes at most; DAVIS has one a sequence.

    Raises:
        ValueError: Several shots of DAVIS, whose support is the first frame.
    """
    trained_on = TRAINED_ON.get(name, name)
    shared = {
        "images": MaskedImages(size=SIDE, crop=0.5),
        "episodes": EpisodeCounts(1000, validation, queries),
        "batch_size": BATCH,
        "num_workers": 0,
        "k_shot": shots,
    }
    fold, val_classes = int(trained_on[-1]), VALIDATION_CLASSES[trained_on]
    learnt = (_pascal if trained_on.startswith("pascal") else _coco)(fold, val_classes, shared)
    learnt.setup("fit")
    asked = learnt
    if name == "davis":
        asked = DAVIS(images=MaskedImages(size=SIDE), rules=MaskRules(convention="later"), num_workers=0, k_shot=shots)
    asked.setup("test")
    return StudySet(learnt, asked)


def _pascal(fold: int, val_classes: int, shared: dict) -> MixedSegmentation:
    splits = FoldSplits(fold=fold, val_classes=val_classes, small_classes="drop", train_on_spare=True)
    same = PASCAL_NAMES | {TABLES: "diningtable"}
    return MixedSegmentation([_animals(splits, shared), _things_and_stuff(shared)], same=same)


def _coco(fold: int, val_classes: int, shared: dict) -> MixedSegmentation:
    splits = FoldSplits(fold=fold, val_classes=val_classes, small_classes="drop")
    things = CocoPanoptic(stuff=False, splits=splits, rules=MaskRules(min_pixels=6144), **shared)
    pascal = _animals(FoldSplits(novel_classes=(), small_classes="drop"), shared)
    sources = [things, _things_and_stuff(shared), pascal]  # the second one has the first one's things too
    return MixedSegmentation(sources, shares=[0.0, 0.5, 0.5], same=COCO_NAMES | {TABLES: "dining table"})


def _animals(splits: FoldSplits, shared: dict) -> Pascal5i:
    return Pascal5i(str(Path(os.environ["FEWSHOT_DATA"]) / "pascal5i-animals"), splits=splits, **shared)


def _things_and_stuff(shared: dict) -> CocoPanoptic:
    splits, rules = FoldSplits(novel_classes=(), small_classes="drop"), MaskRules(min_pixels=6144)
    return CocoPanoptic(stuff=True, splits=splits, rules=rules, **shared)


def main() -> None:
    """Print the classes of a set, each with its number of photos."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--shots", type=int, default=1)
    options = parser.parse_args()
    known = set_of(options.name, shots=options.shots)
    for source, share in zip(known.learnt.sources, known.learnt.shares, strict=True):
        photos = {name: len(photos) for name, photos in source.pair_photos.items()}
        print(type(source).__name__, f"train, {share:.0%} of the pairs:", photos)
    for split in ("val", "test"):
        data = known.of(split)
        first = data.sources[0] if isinstance(data, MixedSegmentation) else data
        print(
            split,
            known.of(split).counts[split],
            {name: len(items) for name, items in first.sampler(split).items.items()},
        )


if __name__ == "__main__":
    main()
