"""Several sets of videos: each is drawn from equally often, and videos keep their numbers."""

import numpy as np
import pytest
import torch

from datamodules import DrawnVideos, MixedVideos


@pytest.fixture
def mixed(monkeypatch):
    data = MixedVideos(sets=["drawn", "drawn"], train="frames", batch_size=2, clip_frames=3)
    parts = [DrawnVideos(n_videos=n, n_frames=8, image_size=96) for n in (3, 40)]
    monkeypatch.setitem(vars(data), "parts", parts)
    return data


def test_a_small_set_is_drawn_from_as_often_as_a_large_one(mixed):
    rng = np.random.default_rng(0)
    small = sum(mixed._draw(rng, 1)[0] < 3 for _ in range(60))
    assert 18 <= small <= 42
    assert mixed.count("train") == 43


def test_numbers_lead_to_the_same_video(mixed):
    for video in (2, 3, 42):
        part, own = (mixed.parts[0], video) if video < 3 else (mixed.parts[1], video - 3)
        assert torch.equal(mixed.target("train", video).frames[0], part.target("train", own).frames[0])
    episode = mixed.episode("train", 4)
    assert len(set(episode.class_ids)) == 2
    for p, video in enumerate(episode.class_ids):
        target = mixed.target("train", video)
        assert any(torch.equal(episode.support.images[p], target.frames[t]) for t in range(8))


def test_no_set_is_refused():
    with pytest.raises(ValueError, match="sets is empty"):
        MixedVideos(sets=[])
