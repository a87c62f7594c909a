"""Every data set of photos with masks, on tiny data."""

import inspect
from dataclasses import fields, replace

import pytest
import torch
from makers import load

from datamodules.segmentation.camvid import CamVid
from datamodules.segmentation.coco20i import Coco20i
from datamodules.segmentation.coco_panoptic import CocoPanoptic
from datamodules.segmentation.folder_masks import FolderMasks
from datamodules.segmentation.fss1000 import FSS1000
from datamodules.segmentation.pascal5i import Pascal5i
from datamodules.segmentation.pets import OxfordPets
from datamodules.segmentation.settings import FoldSplits, MaskedImages, MaskRules

maker = load("masks")
SETS = {
    "pascal5i": (Pascal5i, maker.make_pascal5i, {}),
    "voc_sbd": (Pascal5i, maker.make_voc_sbd, {"min_pixels": 100}),
    "camvid": (CamVid, maker.make_camvid, {"min_pixels": 100}),
    "pets": (OxfordPets, maker.make_pets, {}),
    "fss": (FSS1000, maker.make_fss, {}),
    "coco20i": (Coco20i, maker.make_coco20i, {"min_pixels": 100}),
    "panoptic": (CocoPanoptic, maker.make_panoptic, {"min_pixels": 100}),
    "folder": (FolderMasks, maker.make_folder_masks, {"novel_classes": ["cup"], "min_pixels": 100}),
}
every_set = pytest.mark.parametrize("name", list(SETS))


def build(roots, name, **options):
    made, _, defaults = SETS[name]
    options = {"batch_size": 3, "color": False, "mirror": False, "size": None, "seed": 3, **defaults, **options}
    return made(str(roots[name]), **grouped(made, options))


def grouped(made, options):
    """Put options into the settings groups that have them; other fields keep the class's own defaults."""
    options = dict(options)
    for key, group in {"splits": FoldSplits, "images": MaskedImages, "rules": MaskRules}.items():
        known = inspect.signature(made).parameters.get(key)
        chosen = {f.name: options.pop(f.name) for f in fields(group) if f.name in options}
        options[key] = replace(group() if known is None else known.default, **chosen)
    return options


def equal(a, b):
    parts = [(a.support, b.support), (a.query, b.query)]
    same = [p.names == q.names for p, q in parts]
    same += [torch.equal(x, y) for p, q in parts for x, y in zip(p.images, q.images, strict=True)]
    same += [torch.equal(x, y) for p, q in parts for x, y in zip(p.class_masks, q.class_masks, strict=True)]
    return all(same)
