"""Which frames make a pair, a clip or a row of whole frames, on videos whose frames have numbers."""

import numpy as np
import pytest
import torch
from video_sets import equal

from datamodules.tracking.base import Target, TrackingData, hold_out
from datamodules.tracking.drawn_videos import DrawnVideos, DrawnVideoSettings
from datamodules.tracking.patches import TrainingCrops
from datamodules.tracking.still_videos import StillVideoSettings
from datamodules.tracking.training import Clips, Pairs, WholeFrames
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.tracking.frames import ArrayFrames


class Numbered(TrackingData):
    """Videos whose every frame has its own grey: 64 v + t; the object is there in frames 2 to 59."""

    def count(self, split):
        return 3

    def target(self, split, video, rng=None):
        images = np.stack([np.full((40, 40, 3), 64 * video + t, np.uint8) for t in range(64)])
        boxes = torch.tensor([10.0, 10, 30, 30]).repeat(64, 1)
        boxes[:2], boxes[60:] = torch.nan, torch.nan
        return Target(ArrayFrames(images, f"v{video}"), boxes)


def greys(images):
    values = images[:, 0, images.shape[2] // 2, images.shape[3] // 2].tolist()
    return [(v // 64, v % 64) for v in values]


def test_three_in_four_pairs_show_one_object_within_the_gap():
    data = Numbered(Pairs(max_gap=10), batch_size=40)
    labels, gaps = [], []
    for index in range(25):
        episode = data.episode("train", index)
        rows = zip(
            greys(episode.support.images), greys(episode.query.images), episode.query.labels.tolist(), strict=True
        )
        for (video, t), (other, u), label in rows:
            assert (video == other) == bool(label)
            assert 2 <= t < 60
            assert 2 <= u < 60
            labels.append(label)
            gaps += [abs(t - u)] if label else []
    assert np.mean(labels) == pytest.approx(0.75, abs=0.04)
    assert max(gaps) == 10
    assert min(gaps) == 1
    assert episode.support.query_index.tolist() == list(range(40))


def test_any_two_frames_of_a_video_make_a_pair_at_no_cost():
    """A gap of a million frames takes the time of the video's own frames."""
    episodes = [Numbered(Pairs(max_gap=gap, positives=1.0), batch_size=20).episode("train", 1) for gap in (64, 10**9)]
    assert equal(*episodes)
    gaps = [abs(t - u) for (_, t), (_, u) in zip(*(greys(e.images) for e in episodes[0][:2]), strict=True)]
    assert max(gaps) > 30


def test_clips_show_one_object_in_order():
    data = Numbered(Clips(6), batch_size=5)
    episode = data.episode("train", 0)
    assert episode.support.images.shape == (5, 3, 127, 127)
    assert episode.query.images.shape == (30, 3, 255, 255)
    assert episode.query.labels.tolist() == [1] * 30
    found = greys(episode.query.images)
    for b, (video, t) in enumerate(greys(episode.support.images)):
        part = found[6 * b : 6 * b + 6]
        assert {v for v, _ in part} == {video}
        times = [u for _, u in part]
        assert times == sorted(set(times))
        assert t not in times


def test_whole_frames_come_in_order_and_from_different_videos():
    data = Numbered(WholeFrames(6), batch_size=3)
    episode = data.episode("train", 0)
    first = greys(torch.stack(episode.support.images))
    rest = greys(torch.stack(episode.query.images))
    assert len({video for video, _ in first}) == 3, "hard negatives come from other videos"
    for b, (video, t) in enumerate(first):
        part = rest[5 * b : 5 * b + 5]
        assert {v for v, _ in part} == {video}
        assert [t, *(u for _, u in part)] == sorted({t, *(u for _, u in part)})
    assert episode.query.boxes[0].tolist() == [[10, 10, 30, 30]]


def test_whole_frames_can_be_reduced():
    frame = Numbered(WholeFrames(max_side=20), batch_size=1).episode("train", 0)
    assert frame.support.images[0].shape == (3, 20, 20)
    assert frame.support.boxes[0].tolist() == [[5, 5, 15, 15]]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Numbered(batch_size=0), "batch_size is 0 but must be at least 1"),
        (lambda: Numbered(max_frames=0), "max_frames is 0 but must be at least 1"),
        (lambda: Clips(0), "frames is 0 but must be at least 1"),
        (lambda: WholeFrames(0), "frames is 0 but must be at least 1"),
        (lambda: WholeFrames(max_side=0), "max_side is 0 but must be at least 1"),
        (lambda: Pairs(positives=1.5), r"positives is 1.5 but must be in \[0, 1\]"),
        (lambda: Pairs(max_gap=0), "max_gap is 0 but must be at least 1"),
        (lambda: TrainingCrops(exemplar=0), "exemplar is 0 but must be at least 1 pixel"),
        (lambda: TrainingCrops(shift=-1), "shift is -1 but must be at least 0"),
        (lambda: TrainingCrops(stretch=1), "stretch is 1 but must be at least 0 and below 1"),
        (lambda: hold_out([], 1.5), r"val_share is 1.5 but must be in \[0, 1\]"),
        (lambda: DrawnVideoSettings(n_frames=0), "videos.n_frames is 0 but must be at least 1"),
        (lambda: DrawnVideoSettings(speed=0), "videos.speed is 0 but must be positive"),
        (lambda: DrawnVideos(0), "n_videos is 0 but must be at least 1"),
        (
            lambda: DrawnVideos(episodes=EpisodeCounts(test=None)),
            "episodes.test is null but the drawn world has no end",
        ),
        (lambda: StillVideoSettings(wander=0.6), r"videos.wander is 0.6 but must be in \[0, 0.5\]"),
        (lambda: StillVideoSettings(resize=0.5), "videos.resize is 0.5 but must be at least 1"),
    ],
)
def test_numbers_out_of_range(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_videos_that_are_too_short_for_a_clip():
    with pytest.raises(ValueError, match="none of 100 training videos has 80 frames with the object in sight"):
        Numbered(WholeFrames(80)).episode("train", 0)
