"""Algorithm 1: the memory, the choice by entropy, the rhythm of updates; both stages and the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_fewshot import MetaLearnerTracker
from lightning_fewshot.cli import main
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.mlt.tracking import response_entropy
from lightning_fewshot.tracking.frames import ArrayFrames
from lightning_fewshot.tracking.loop import track

ROOT = Path(__file__).parents[3]
SMALL = {"channels": (6, 8, 10, 12), "kernels": 8, "target_kernels": 4, "hidden": 16}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def _images(count, side, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def _video(count=13):
    return ArrayFrames(np.random.default_rng(0).integers(0, 256, (count, 80, 90, 3), dtype=np.uint8))


def _clips(count=2, frames=6):
    boxes = [torch.tensor([[97.5, 97.5, 157.5, 157.5]])] * (count * frames)
    query = Examples(_images(count * frames, 255), torch.ones(count * frames, dtype=torch.int64), boxes=boxes)
    return Episode(Examples(_images(count, 127, 1)), query, ("object",))


BOX = torch.tensor([30.0, 30.0, 60.0, 55.0])


def _follow(module, frames):
    """Return the states after every frame."""
    tracker = module.eval().tracker()
    with torch.no_grad():
        states = [tracker.init(frames[0], BOX)]
        for t in range(1, len(frames)):
            states.append(tracker.update(states[-1], frames[t])[0])
    return states


def test_entropy_is_equation_5():
    responses = np.random.default_rng(0).normal(size=(3, 5, 5)) * 4
    p = 1 / (1 + np.exp(-responses))
    expected = -(p * np.log(p)).sum((1, 2))
    np.testing.assert_allclose(response_entropy(torch.from_numpy(responses)).numpy(), expected, rtol=1e-6)


def test_kernels_come_every_t_frames_and_the_memory_starts_anew():
    module = MetaLearnerTracker("meta", update_every=5, memory=3, **SMALL)
    states = [s.model for s in _follow(module, _video(13))]
    assert [s.frames for s in states] == list(range(1, 14))
    changed = [t for t in range(1, 13) if states[t].match.kernels is not states[t - 1].match.kernels]
    assert changed == [4, 9]  # frames 5 and 10, counted from 1 as in Algorithm 1
    assert [len(s.memory) for s in states] == [0, 1, 2, 3, 0, 1, 2, 3, 3, 0, 1, 2, 3]


def test_the_memory_holds_the_patches_of_least_entropy():
    module = MetaLearnerTracker("meta", update_every=100, memory=3, **SMALL)
    seen = []
    tracker = module.eval().tracker()
    learn = tracker.learn

    def spy(state, frame, response):
        seen.append(float(response_entropy(response)))
        return learn(state, frame, response)

    tracker.learn = spy
    frames, state = _video(10), tracker.init(_video(10)[0], BOX)
    with torch.no_grad():
        for t in range(1, 10):
            state = tracker.update(state, frames[t])[0]
    assert [r.entropy for r in state.model.memory] == sorted(seen)[:3]
    assert state.model.memory[0].patch.shape == (3, 255, 255)


@pytest.mark.parametrize("quantile", [0.0, 0.5, 1.0])
def test_a_patch_without_a_match_is_not_remembered(quantile):
    never = MetaLearnerTracker("meta", update_every=0, **SMALL)
    scores = track(never.eval().tracker(), _video(11), BOX).scores[1:]
    least = float(scores.quantile(quantile, interpolation="lower"))
    module = MetaLearnerTracker("meta", update_every=11, memory=20, least_score=least, **SMALL)
    module.load_state_dict(never.state_dict())
    states = _follow(module, _video(11))
    assert len(states[9].model.memory) == int((scores[:9] > least).sum())
    assert (states[10].model.match.kernels is None) == (not bool((scores > least).any()))


def test_without_meta_nothing_is_remembered():
    baseline = MetaLearnerTracker("matching", channels=(6, 8, 10, 12), kernels=12)
    for module in (baseline, MetaLearnerTracker("meta", update_every=0, **SMALL)):
        last = _follow(module, _video(6))[-1].model
        assert last.memory == ()
        assert last.match.kernels is None


def test_an_update_returns_a_new_state_and_leaves_the_old():
    module = MetaLearnerTracker("meta", **SMALL).eval()
    with torch.no_grad():
        state = module.adapt(Examples(_images(1, 127)))
        before = state.template.clone()
        adapted = module.specialise(state, _images(4, 255, 2))
    assert torch.equal(state.template, before)
    assert state.kernels is None
    assert adapted.kernels.shape == (1, 4, 12)
    assert adapted.template.shape == (1, 12, 8, 8)


def test_two_tracks_do_not_mix():
    module, video = MetaLearnerTracker("meta", update_every=3, **SMALL), _video(7)
    tracker = module.eval().tracker()
    alone = track(tracker, video, BOX).boxes
    other = track(tracker, video, BOX + 8).boxes
    assert torch.equal(track(tracker, video, BOX).boxes, alone)
    assert not torch.equal(alone, other)


def test_a_one_frame_video_and_a_box_half_outside():
    module = MetaLearnerTracker("meta", update_every=2, **SMALL).eval()
    assert track(module.tracker(), _video(1), BOX).boxes.tolist() == [BOX.tolist()]
    boxes = track(module.tracker(), _video(5), torch.tensor([-8.0, -6.0, 10.0, 9.0])).boxes
    assert bool(boxes.isfinite().all())


def test_the_meta_stage_trains_the_meta_learner_alone():
    module = MetaLearnerTracker("meta", **SMALL)
    statistics = module.network.norms[0].running_mean.clone()
    module.train()
    module.loss(_clips())["meta"].backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.meta.parameters())
    assert not any(p.requires_grad for p in module.network.parameters())
    assert torch.equal(module.network.norms[0].running_mean, statistics)
    trained = [p for group in module.parameter_groups() for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in module.meta.parameters()}


def test_the_loss_of_the_meta_stage_counts_all_t_patches():
    """The gradient sees M of T; eq. (7) is over z_T. A patch that cannot be among the M still moves the loss."""
    module, episode = MetaLearnerTracker("meta", memory=1, **SMALL).train(), _clips(1, 3)
    images = episode.query.images.clone()
    torch.manual_seed(3)
    chosen = int(torch.randperm(3)[0])
    images[(chosen + 1) % 3] = 255 - images[(chosen + 1) % 3]
    losses = []
    for query in (episode.query, episode.query._replace(images=images)):
        torch.manual_seed(3)
        losses.append(module.loss(episode._replace(query=query))["meta"].item())
    assert losses[0] != losses[1]


def test_the_meta_learner_can_learn_one_episode():
    module, episode = MetaLearnerTracker("meta", balance=True, keep=1.0, **SMALL), _clips()
    optimizer = torch.optim.Adam(module.meta.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = module.loss(episode)["meta"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert np.mean(losses[-5:]) < 0.97 * np.mean(losses[:5])


def test_pairs_of_two_objects_match_nowhere():
    module, episode = MetaLearnerTracker("matching", channels=(6, 8, 10, 12), kernels=8).eval(), _clips(2, 1)
    losses = {}
    for labels in ([1, 1], [0, 0]):
        query = episode.query._replace(labels=torch.tensor(labels))
        responses = module.predict(module.adapt(episode.support), query).flatten(0, 1)
        target = torch.full((2, 17, 17), -1.0)
        if labels[0]:
            target[:, 8, 8] = 1
        expected = torch.log1p(torch.exp(-responses * target)).mean()
        losses[labels[0]] = module.loss(episode._replace(query=query))["matching"]
        torch.testing.assert_close(losses[labels[0]], expected)
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": 0}, "memory is 0 but must be at least 1"),
        ({"update_every": -1}, "update_every is -1 but must be at least 0"),
        ({"radius": -1.0}, "radius is -1.0 but must be at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MetaLearnerTracker("meta", **{**SMALL, **options})


def test_clips_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match=r"memory is 4 but clips have 3 patches: raise data\.clip_frames"):
        MetaLearnerTracker("meta", **SMALL).loss(_clips(2, 3))


def test_a_matching_network_cannot_specialise():
    module = MetaLearnerTracker("matching", channels=(6, 8, 10, 12), kernels=8).eval()
    with pytest.raises(ValueError, match="stage is 'matching'"):
        module.specialise(module.adapt(Examples(_images(1, 127))), _images(2, 255))


def test_the_stages_chain_through_the_command_line(in_tmp):
    sizes = ["--data.batch_size=2", "--data.num_workers=0", "--data.train_episodes=1", "--data.val_episodes=1"]
    sizes += ["--data.test_episodes=1", "--data.max_frames=4", "--data.image_size=96", "--trainer.max_epochs=1"]
    sizes += ["--trainer.accelerator=cpu", "--model.init_args.channels=[6,8,10,12]", "--model.init_args.kernels=8"]
    main(["fit", "--config", str(ROOT / "experiments/mlt/matching.yaml"), "--run_dir=first", *sizes])
    meta = ["fit", "--config", str(ROOT / "experiments/mlt.yaml"), *sizes, "--model.init_args.update_every=2"]
    start = "--model.init_args.init_from=first/checkpoints/best.ckpt"
    cli = main([*meta, start, "--run_dir=second"])
    saved = torch.load("first/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    own = cli.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in saved.items())
    assert cli.model.estimates["success_auc"].n == 1
    assert Path("second/pictures/test_0000.png").is_file()
    with pytest.raises(SystemExit, match="init_from names no matching network"):
        main([*meta, "--run_dir=third"])
    with pytest.raises(SystemExit, match="there is no such file"):
        main([*meta, "--model.init_args.init_from=gone.ckpt", "--run_dir=third"])
    with pytest.raises(SystemExit, match=r"last.weight is \(8, 12, 1, 1\) there but \(9, 12, 1, 1\) here"):
        main([*meta, start, "--model.init_args.kernels=9", "--run_dir=third"])
