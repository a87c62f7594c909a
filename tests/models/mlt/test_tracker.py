"""Algorithm 1: the memory, the choice by entropy, the rhythm of updates; both trackers and the command line."""

import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_fewshot import MatchingTracker, MetaLearnerTracker
from lightning_fewshot.cli import main
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.mlt.settings import MatchingSettings, Memory, MetaLearnerSettings
from lightning_fewshot.models.mlt.tracking import response_entropy
from lightning_fewshot.nn.response_loss import DiscLoss
from lightning_fewshot.tracking.frames import ArrayFrames
from lightning_fewshot.tracking.loop import track

ROOT = Path(__file__).parents[3]
MATCHING = MatchingSettings((6, 8, 10, 12), 8)
META = MetaLearnerSettings(hidden=16, target_kernels=4)


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
    return Episode(Examples(_images(count, 127, 1)), query, ("object",), protocol="clips")


def _meta(size=4, update_every=90, least_score=None, meta=META, **options):
    return MetaLearnerTracker(matching=MATCHING, meta=meta, memory=Memory(size, update_every, least_score), **options)


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
    module = _meta(3, update_every=5)
    states = [s.model for s in _follow(module, _video(13))]
    assert [s.frames for s in states] == list(range(1, 14))
    changed = [t for t in range(1, 13) if states[t].match.kernels is not states[t - 1].match.kernels]
    assert changed == [4, 9]  # frames 5 and 10, counted from 1 as in Algorithm 1
    assert [len(s.memory) for s in states] == [0, 1, 2, 3, 0, 1, 2, 3, 3, 0, 1, 2, 3]


@pytest.mark.parametrize(("choice", "rank"), [("entropy", response_entropy), ("score", lambda r: -r.amax())])
def test_the_memory_holds_the_patches_of_least_rank(choice, rank):
    module, seen = _meta(3, update_every=100), []
    module.memory = replace(module.memory, choice=choice)
    tracker = module.eval().tracker()
    learn = tracker.learn

    def spy(state, frame, response):
        seen.append(float(rank(response)))
        return learn(state, frame, response)

    tracker.learn = spy
    frames, state = _video(10), tracker.init(_video(10)[0], BOX)
    with torch.no_grad():
        for t in range(1, 10):
            state = tracker.update(state, frames[t])[0]
    assert [r.rank for r in state.model.memory] == sorted(seen)[:3]
    assert state.model.memory[0].patch.shape == (3, 255, 255)


def test_random_patches_are_chosen_without_regard_to_entropy():
    module = _meta(1, update_every=100)
    module.memory = replace(module.memory, choice="random")
    frames, kept = _video(5), []
    for seed in range(12):
        torch.manual_seed(seed)
        kept.append(_follow(module, frames)[-1].model.memory[0].patch.sum().item())
    assert len(set(kept)) > 2  # of four patches


@pytest.mark.parametrize("quantile", [0.0, 0.5, 1.0])
def test_a_patch_without_a_match_is_not_remembered(quantile):
    never = _meta(update_every=0)
    scores = track(never.eval().tracker(), _video(11), BOX).scores[1:]
    least = float(scores.quantile(quantile, interpolation="lower"))
    module = _meta(20, update_every=11, least_score=least)
    module.load_state_dict(never.state_dict())
    states = _follow(module, _video(11))
    assert len(states[9].model.memory) == int((scores[:9] > least).sum())
    assert (states[10].model.match.kernels is None) == (not bool((scores > least).any()))


def test_without_meta_nothing_is_remembered():
    last = _follow(_meta(update_every=0), _video(6))[-1].model
    assert last.memory == ()
    assert last.match.kernels is None
    baseline = MatchingTracker(MatchingSettings((6, 8, 10, 12), 12))
    assert _follow(baseline, _video(6))[-1].model.kernels is None


def test_without_updates_it_tracks_as_its_matching_network():
    module, alone = _meta(update_every=0).eval(), MatchingTracker(MATCHING).eval()
    alone.network.load_state_dict(module.network.state_dict())
    assert torch.equal(track(module.tracker(), _video(6), BOX).boxes, track(alone.tracker(), _video(6), BOX).boxes)


def test_an_update_returns_a_new_state_and_leaves_the_old():
    module = _meta().eval()
    with torch.no_grad():
        state = module.adapt(Examples(_images(1, 127)))
        before = state.template.clone()
        adapted = module.specialise(state, _images(4, 255, 2))
    assert torch.equal(state.template, before)
    assert state.kernels is None
    assert adapted.kernels.shape == (1, 4, 12)
    assert adapted.template.shape == (1, 12, 8, 8)


def test_two_tracks_do_not_mix():
    module, video = _meta(update_every=3), _video(7)
    tracker = module.eval().tracker()
    alone = track(tracker, video, BOX).boxes
    other = track(tracker, video, BOX + 8).boxes
    assert torch.equal(track(tracker, video, BOX).boxes, alone)
    assert not torch.equal(alone, other)


def test_a_one_frame_video_and_a_box_half_outside():
    module = _meta(update_every=2).eval()
    assert track(module.tracker(), _video(1), BOX).boxes.tolist() == [BOX.tolist()]
    boxes = track(module.tracker(), _video(5), torch.tensor([-8.0, -6.0, 10.0, 9.0])).boxes
    assert bool(boxes.isfinite().all())


def test_the_meta_stage_trains_the_meta_learner_alone():
    module = _meta()
    statistics = module.network.stream.norms[0].running_mean.clone()
    module.train()
    module.loss(_clips())["meta"].backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.meta.parameters())
    assert not any(p.requires_grad for p in module.network.parameters())
    assert torch.equal(module.network.stream.norms[0].running_mean, statistics)
    trained = [p for group in module.parameter_groups() for p in group["params"]]
    assert {id(p) for p in trained} == {id(p) for p in module.meta.parameters()}


def test_the_loss_of_the_meta_stage_counts_all_t_patches():
    """The gradient sees M of T; eq. (7) is over z_T. A patch that cannot be among the M still moves the loss."""
    module, episode = _meta(1).train(), _clips(1, 3)
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
    module, episode = _meta(meta=replace(META, keep=1.0), loss=DiscLoss(balance=True)), _clips()
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
    module, episode = MatchingTracker(MATCHING).eval(), _clips(2, 1)._replace(protocol="pairs")
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
    ("group", "options", "message"),
    [
        (Memory, {"size": 0}, "size is 0 but must be at least 1"),
        (Memory, {"update_every": -1}, "update_every is -1 but must be at least 0"),
        (MetaLearnerSettings, {"hidden": 0}, "hidden is 0 but must be at least 1"),
        (MetaLearnerSettings, {"target_kernels": 0}, "target_kernels is 0 but must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(group, options, message):
    with pytest.raises(ValueError, match=message):
        group(**options)


def test_clips_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match=r"memory.size is 4 but clips have 3 patches: raise data\.training\.frames"):
        _meta().loss(_clips(2, 3))


def test_each_tracker_trains_on_its_own_episodes():
    with pytest.raises(ValueError, match="training episodes are 'pairs' but must be 'clips'"):
        _meta().loss(_clips()._replace(protocol="pairs"))
    with pytest.raises(ValueError, match="training episodes are 'clips' but must be 'pairs'"):
        MatchingTracker(MATCHING).loss(_clips())


@pytest.mark.parametrize("balance", [False, True])
def test_the_meta_learner_is_given_the_gradient_of_the_training_loss(balance):
    """Delta is minus autograd of ``response_loss`` on the matching network's own responses."""
    module = _meta(loss=DiscLoss(balance=balance, radius=1.0)).eval()
    given = []
    module.meta.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    state, patches = module.adapt(Examples(_images(1, 127))), _images(4, 255, 2)
    module.specialise(state, patches)
    weight = module.network.stream.convs[-1].weight.requires_grad_()
    hidden = module.network.hidden(patches)
    fresh = module.network.adapt(_images(1, 127))
    responses = module.network.match(fresh._replace(template=module.network.embed(fresh.hidden)), hidden)[0]
    target = module.response_loss.target(torch.full((4, 2), 8.0), 17)
    (grad,) = torch.autograd.grad(module.response_loss(responses, target), weight)
    torch.testing.assert_close(given[0][0], -grad[..., 0, 0], rtol=1e-3, atol=1e-3 * float(grad.abs().max()))


def test_validation_without_an_update_says_so(monkeypatch):
    module = _meta(update_every=15)
    monkeypatch.setattr(type(module).__mro__[1], "on_validation_epoch_end", lambda self: None)
    module._trainer = SimpleNamespace(sanity_checking=False)
    for frames, said in ((15, 1), (16, 0)):
        module._longest = frames
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module.on_validation_epoch_end()
        assert len(caught) == said


def test_the_stages_chain_through_the_command_line(in_tmp):
    sizes = ["--data.batch_size=2", "--data.num_workers=0", "--data.episodes={train: 1, val: 1, test: 1}"]
    sizes += ["--data.max_frames=4", "--data.videos.image_size=96", "--trainer.max_epochs=1"]
    sizes += ["--trainer.accelerator=cpu", "--model.init_args.matching={channels: [6, 8, 10, 12], kernels: 8}"]
    main(["fit", "--config", str(ROOT / "experiments/mlt/matching.yaml"), "--run_dir=first", *sizes])
    meta = ["fit", "--config", str(ROOT / "experiments/mlt.yaml"), *sizes, "--model.init_args.memory.update_every=2"]
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
    with pytest.raises(SystemExit, match=r"stream.convs.4.weight is \(8, 12, 1, 1\) there but \(9, 12, 1, 1\) here"):
        main([*meta, start, "--model.init_args.matching.kernels=9", "--run_dir=third"])
