"""Every set of videos, on tiny data."""

import pytest
import torch
from makers import load

from datamodules.tracking.benchmarks import OTB
from datamodules.tracking.davis import DAVISVideos
from datamodules.tracking.drawn_videos import DrawnVideos, DrawnVideoSettings
from datamodules.tracking.got10k import GOT10k
from datamodules.tracking.imagenet_vid import ImageNetVID
from datamodules.tracking.still_videos import StillVideos, StillVideoSettings
from lightning_fewshot.data import EpisodeCounts

maker, photos, tiny, masks = (load(name) for name in ("videos", "photos", "tiny_imagenet", "masks"))
SETS = {
    "drawn": lambda root, **o: DrawnVideos(20, DrawnVideoSettings(8, 96), EpisodeCounts(1000, 10, 3), **o),
    "got10k": lambda root, **o: GOT10k(root, **o),
    "vid": lambda root, **o: ImageNetVID(root, val_share=0.2, **o),
    "stills": lambda root, **o: StillVideos("tiny_imagenet", root, StillVideoSettings(8, 96), **o),
    "otb": lambda root, **o: GOT10k(root, test=OTB(root, max_frames=o.get("max_frames")), **o),
    "davis": lambda root, **o: DAVISVideos(root, val_share=0.4, **o),
}
every_set = pytest.mark.parametrize("name", list(SETS))


def build(root, name, **options):
    data = SETS[name](root, **{"batch_size": 3, "seed": 3, **options})
    data.setup("fit")
    data.setup("test")
    return data


def equal(a, b):
    same = [
        torch.equal(x, y)
        for p, q in ((a.support, b.support), (a.query, b.query))
        for x, y in zip(p.boxes, q.boxes, strict=True)
    ]
    return all(same) and all(torch.equal(x, y) for x, y in zip(a.query.images, b.query.images, strict=True))
