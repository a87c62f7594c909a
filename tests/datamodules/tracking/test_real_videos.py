"""Videos on real data."""

import os

import pytest

from datamodules.tracking.davis import DAVISVideos
from datamodules.tracking.got10k import GOT10k
from datamodules.tracking.still_videos import StillVideos
from datamodules.tracking.training import WholeFrames


@pytest.mark.real_data
@pytest.mark.parametrize(("folder", "counts"), [("videos", (16, 2)), ("videos-2", (5, 1))])
def test_real_videos_in_the_got10k_layout(folder, counts):
    data = GOT10k(os.environ["FEWSHOT_DATA"], folder, batch_size=2)
    data.setup("fit")
    assert (data.count("train"), data.count("val")) == counts
    assert data.episode("train", 0).query.images.shape == (2, 3, 255, 255)


@pytest.mark.real_data
@pytest.mark.parametrize("photos", ["tiny_imagenet", "yolo"])
def test_real_photos_as_videos(photos):
    data = StillVideos(photos, os.environ["FEWSHOT_DATA"], training=WholeFrames(), batch_size=2)
    data.setup("fit")
    assert data.count("train") > 1000
    assert len(data.episode("train", 0).query.images) == 10


@pytest.mark.real_data
def test_real_davis():
    root = os.environ["FEWSHOT_DATA"]
    data = DAVISVideos(root, val_share=0.3, batch_size=2)
    data.setup("fit")
    assert (data.count("train"), data.count("val")) == (10, 4)
    assert data.episode("train", 0).query.images.shape == (2, 3, 255, 255)
    benchmark = DAVISVideos(root)
    benchmark.setup("test")
    assert benchmark.counts["test"] == 14
    episodes = [benchmark.episode("test", i) for i in range(14)]
    assert sum(len(e.query.images) for e in episodes) == sum(len(e.query.boxes[0]) for e in episodes) == 910
    assert episodes[0].support.boxes[0].tolist() == [[62, 36, 248, 188]]
