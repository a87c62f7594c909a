"""Several sets of videos as one: shares, disjoint numbers, validation in turn, bad shares."""

import numpy as np
import pytest

from datamodules.tracking.base import Target, TrackingData
from datamodules.tracking.benchmarks import OTB
from datamodules.tracking.mixed_videos import MixedVideos


class Fake(TrackingData):
    """Tells which video was opened."""

    def __init__(self, name, counts):
        super().__init__()
        self.name, self.counts = name, counts

    def count(self, split):
        return self.counts[split]

    def target(self, split, video, rng=None):
        assert 0 <= video < self.counts[split]
        return (self.name, split, video)


@pytest.fixture
def mixed():
    data = MixedVideos(["drawn", "videos", "coco"], [0.5, 0.3, 0.2])
    counts = [{"train": 100, "val": 3}, {"train": 4, "val": 1}, {"train": 1000, "val": 50}]
    data.sources = [Fake(name, {**c, "test": c["val"]}) for name, c in zip("abc", counts, strict=True)]
    return data


def test_items_come_by_their_shares_whatever_the_sizes(mixed):
    rng = np.random.default_rng(0)
    drawn = [mixed.target("train", mixed.choose(rng)) for _ in range(4000)]
    shares = [sum(d[0] == name for d in drawn) / len(drawn) for name in "abc"]
    assert shares == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
    assert {d[2] for d in drawn if d[0] == "b"} == set(range(4))


def test_every_video_has_a_number_of_its_own(mixed):
    assert mixed.count("train") == 1104
    assert len({mixed.target("train", v) for v in range(1104)}) == 1104
    with pytest.raises(IndexError):
        mixed.target("train", 1104)


def test_validation_takes_the_sets_in_turn(mixed):
    assert [mixed.target("val", v)[0] for v in range(4)] == ["a", "b", "c", "a"]
    assert {mixed.target("test", v)[0] for v in range(mixed.count("test"))} == {"a"}


def test_a_benchmark_borrows_the_shares_too(mixed):
    data = OTB(train_on="mixed")
    data.training = mixed
    rng = np.random.default_rng(0)
    chosen = [data.target("train", data.choose(rng))[0] for _ in range(600)]
    assert chosen.count("b") == pytest.approx(180, abs=40)


def test_drawn_videos_alone_need_no_files():
    data = MixedVideos(["drawn"], batch_size=1, num_workers=0)
    assert isinstance(data.target("train", 0), Target)
    assert data.episode("train", 3).query.images.shape == (1, 3, 255, 255)
    assert bool((data.episode("train", 3).query.images == data.episode("train", 3).query.images).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": []}, "sources is empty"),
        ({"sources": ["drawn"], "shares": [0.5, 0.5]}, "for each of 1 sources"),
        ({"sources": ["drawn", "videos"], "shares": [1.0, -0.5]}, "a share of at least 0"),
        ({"sources": ["drawn"], "shares": [0.0]}, "a share of at least 0"),
    ],
)
def test_bad_shares_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MixedVideos(**options)
