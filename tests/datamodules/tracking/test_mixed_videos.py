"""Several sets of videos as one: shares, disjoint numbers, validation in turn, bad shares."""

import numpy as np
import pytest

from datamodules.tracking.base import Target, TrackingData
from datamodules.tracking.drawn_videos import DrawnVideos
from datamodules.tracking.mixed_videos import MixedVideos
from lightning_fewshot.data import EpisodeCounts


class Fake(TrackingData):
    """Tells which video was opened."""

    def __init__(self, name, counts, episodes=EpisodeCounts(val=None)):
        super().__init__(episodes=episodes)
        self.name, self.numbers = name, counts

    def count(self, split):
        return self.numbers[split]

    def target(self, split, video, rng=None):
        assert 0 <= video < self.numbers[split]
        return (self.name, split, video)


@pytest.fixture
def mixed():
    counts = [{"train": 100, "val": 3}, {"train": 4, "val": 1}, {"train": 1000, "val": 50}]
    sources = [Fake(name, {**c, "test": c["val"]}) for name, c in zip("abc", counts, strict=True)]
    return MixedVideos(sources, [0.5, 0.3, 0.2])


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


def test_a_source_says_how_many_of_its_sequences_are_validated_on():
    counts = {"train": 5, "val": 4, "test": 4}
    sources = [Fake("a", counts), Fake("b", counts, EpisodeCounts(val=0)), Fake("c", counts, EpisodeCounts(val=2))]
    data = MixedVideos(sources)
    assert [data.target("val", v)[::2] for v in range(data.count("val"))] == [
        ("a", 0),
        ("c", 0),
        ("a", 1),
        ("c", 1),
        ("a", 2),
        ("a", 3),
    ]


def test_a_mixture_in_a_mixture_keeps_its_shares(mixed):
    data = MixedVideos([mixed])
    rng = np.random.default_rng(0)
    chosen = [data.target("train", data.choose(rng))[0] for _ in range(600)]
    assert chosen.count("b") == pytest.approx(180, abs=40)


def test_drawn_videos_alone_need_no_files():
    data = MixedVideos([DrawnVideos()], batch_size=1, num_workers=0)
    assert isinstance(data.target("train", 0), Target)
    assert data.episode("train", 3).query.images.shape == (1, 3, 255, 255)
    assert bool((data.episode("train", 3).query.images == data.episode("train", 3).query.images).all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": []}, "sources is empty"),
        ({"sources": [DrawnVideos()], "shares": [0.5, 0.5]}, "for each of 1 sources"),
        ({"sources": [DrawnVideos(), DrawnVideos()], "shares": [1.0, -0.5]}, "a share of at least 0"),
        ({"sources": [DrawnVideos()], "shares": [0.0]}, "a share of at least 0"),
    ],
)
def test_bad_shares_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MixedVideos(**options)
