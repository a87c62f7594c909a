"""Simulated episodes: which frame gives which data set, and what is refused."""

from dataclasses import replace

import pytest
import torch
from clips import clip_episode

from lightning_fewshot.boxes import iou
from lightning_fewshot.models.metartt.adaptation import adapt
from lightning_fewshot.models.metartt.settings import SimulatedEpisode
from lightning_fewshot.models.metartt.simulation import simulate
from lightning_fewshot.tracking.candidates.head import margin, score
from lightning_fewshot.tracking.candidates.scenes import clips_of, in_scenes
from lightning_fewshot.tracking.candidates.settings import Batches, TrackerSettings
from lightning_fewshot.tracking.crops import from_crop

SETTINGS = SimulatedEpisode((6, 8), frame=(4, 5))
SEARCH = TrackerSettings(candidates=16)


@pytest.fixture
def run(network):
    rates = [dict.fromkeys(network.head(), torch.tensor([0.01]))] * 2

    def adapted(head, data):
        return adapt(head, rates, data, Batches(4, 6, 0), torch.default_generator)

    def simulated(episode=None, **options):
        clips = clips_of(network, episode or clip_episode(3))
        settings = replace(SETTINGS, **options)
        return simulate(network, clips, settings, SEARCH, torch.default_generator, adapted, adapted)

    return simulated


def test_data_sets_have_their_sizes(run, network):
    tau = run()
    features = network.features
    assert tau.initial.positives.shape == (3, 6, features)
    assert tau.initial.negatives.shape == (3, 8, features)
    assert tau.online.positives.shape == (3, 4 * 4, features)  # four frames between the first and the last
    assert tau.online.negatives.shape == (3, 4 * 5, features)
    assert tau.test.joined().shape == (3, 14, features)
    assert tau.hard.shape == (3, 2 * 6, features)  # six targets of each other clip
    assert len(tau.after_online) == 2


def test_samples_lie_around_the_target_of_their_frame(run, network):
    tau = run()
    for boxes, frames, targets in (
        (tau.boxes[0][:, None], slice(0, 1), tau.clips.boxes[:, :1]),
        (tau.boxes[1], slice(1, -1), tau.estimated),
        (tau.boxes[2][:, None], slice(-1, None), tau.clips.boxes[:, -1:]),
    ):
        positives = 4 if boxes is tau.boxes[1] else 6
        inside = from_crop(boxes, tau.clips.windows[:, frames, None], network.scene_size)
        overlaps = iou(inside.flatten(0, 1), targets.flatten(0, 1)[:, None])[..., 0]
        assert (overlaps[:, :positives] > 0.69).all()
        assert (overlaps[:, positives:] < (0.31 if boxes is tau.boxes[1] else 0.51)).all()  # D_on as in tracking


def test_estimated_targets_have_the_largest_score(run, network):
    tau = run()
    maps = network.shared(tau.clips.scenes[:, 1:-1].flatten(0, 1))
    windows = tau.clips.windows[:, 1:-1, None]
    boxes = in_scenes(tau.candidates, windows, network).flatten(0, 1)
    scores = margin(score(tau.after_initial, network.describe(maps, boxes).view(3, -1, network.features)))
    best = scores.view(3, 4, -1).argmax(2)
    for p in range(3):
        for t in range(4):
            torch.testing.assert_close(tau.estimated[p, t], tau.candidates[p, t, best[p, t]])
    assert not torch.equal(tau.estimated, tau.clips.boxes[:, 1:-1])


def test_without_estimated_targets_the_truth_is_learned(run, network):
    tau = run(estimated_targets=False)
    inside = from_crop(tau.boxes[1][:, :, :4], tau.clips.windows[:, 1:-1, None], network.scene_size)
    overlaps = iou(inside.flatten(0, 1), tau.clips.boxes[:, 1:-1].flatten(0, 1)[:, None])
    assert (overlaps > 0.69).all()
    assert tau.estimated is None  # nothing is searched for in vain


def test_hard_examples_are_the_targets_of_the_other_clips(run, network):
    tau = run()
    boxes = in_scenes(tau.clips.boxes[..., None, :], tau.clips.windows[:, :, None], network)
    maps = network.shared(tau.clips.scenes.flatten(0, 1))
    each = network.describe(maps, boxes.flatten(0, 1)).view(3, 6, -1)
    torch.testing.assert_close(tau.hard[1], torch.cat((each[0], each[2])))
    assert run(hard_examples=False).hard is None


def test_a_target_that_leaves_or_fills_its_frame(run):
    for box in ([80.0, -10.0, 120.0, 30.0], [0.0, 0.0, 96.0, 96.0], [95.0, 95.0, 130.0, 130.0]):
        episode = clip_episode(2)
        for part in (episode.support, episode.query):
            part.boxes[:] = [torch.tensor([box])] * len(part.boxes)
        tau = run(episode)
        assert tau.test.joined().isfinite().all()
        assert tau.estimated.isfinite().all()


def test_clips_that_are_too_short_are_refused(run):
    with pytest.raises(ValueError, match="has 2 frames but needs at least 3; the paper has 6"):
        run(clip_episode(2, frames=2))


def test_hard_examples_of_a_single_clip_are_refused(run):
    with pytest.raises(ValueError, match=r"the episode has 1: set data\.batch_size to 2 or more"):
        run(clip_episode(1))
    run(clip_episode(1), hard_examples=False)


def test_videos_shorter_than_a_clip_are_refused():
    from datamodules import DrawnVideos, WholeFrames
    from datamodules.tracking.drawn_videos import DrawnVideoSettings

    data = DrawnVideos(n_videos=8, videos=DrawnVideoSettings(n_frames=4), training=WholeFrames(6), batch_size=2)
    with pytest.raises(ValueError, match="has 6 frames with the object in sight"):
        data.episode("train", 0)
