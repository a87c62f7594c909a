"""The modules: equation (8) against finite differences, the rows of the tables, checkpoints, the command line."""

import json
import math
from dataclasses import replace

import pytest
import torch
from clips import clip_episode, video

from lightning_fewshot.cli import main
from lightning_fewshot.models.metartt import (
    FirstFramePrunedMetaRTT,
    MetaRTT,
    MetaTrackerBaseline,
    PrunedMetaRTT,
    StaticPrunedMetaRTT,
)
from lightning_fewshot.models.metartt.settings import (
    InnerLoop,
    MetaGradient,
    OnlineAdaptation,
    Perceptrons,
    TestLoss,
)
from lightning_fewshot.tracking.candidates.settings import CandidateNetworkSettings

ROWS = {  # class, changes of the episode, further settings
    "MetaRTT": (MetaRTT, {}, {}),
    "not using estimated targets": (MetaRTT, {"estimated_targets": False}, {}),
    "not using hard examples": (MetaRTT, {"hard_examples": False}, {}),
    "scalar learning rates": (MetaRTT, {}, {"inner": InnerLoop(rates="scalar")}),
    "fixed learning rate": (MetaRTT, {}, {"inner": InnerLoop(rates="fixed")}),
    "Meta-Tracker": (MetaTrackerBaseline, {"hard_examples": False}, {}),
    "Meta-Tracker with hard examples": (MetaTrackerBaseline, {}, {}),
    "first order": (MetaRTT, {}, {"meta_gradient": MetaGradient(first_order=True)}),
    "recomputed": (MetaRTT, {}, {"meta_gradient": MetaGradient(recompute=True)}),
}


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_table_1_learns(name, tiny):
    cls, changes, options = ROWS[name]
    tiny["episode"] = replace(tiny["episode"], **changes)
    module = cls(**tiny, **options, test_loss=TestLoss(gap=2.5))
    terms = module.loss(clip_episode(2))
    assert set(terms) == ({"initial"} if "Meta-Tracker" in name else {"initial", "online"})
    sum(terms.values()).backward()
    learned = {n for n, p in module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any(n.startswith("network.shared.conv1") for n in learned)  # meta-learned, though not adapted
    assert any(n.startswith("network.fc4") for n in learned)
    assert any(n.startswith("rates_init") for n in learned) is (name != "fixed learning rate")
    assert any(n.startswith("rates_on") for n in learned) is ("Meta-Tracker" not in name and "fixed" not in name)


def test_the_shared_network_is_not_adapted(tiny):
    names = {n.partition(".")[0] for n in MetaRTT(**tiny).simulate(clip_episode(2)).after_initial}
    assert names == {"fc4", "fc5", "fc6"}


@pytest.mark.parametrize("recompute", [False, True])
def test_equation_8_against_finite_differences(tiny, recompute):
    """The whole episode: both adaptations, estimated targets, hard examples, the shared network in front."""
    module = MetaRTT(
        **tiny,
        inner=InnerLoop(2, initial_rate=0.05),
        online=OnlineAdaptation(2),
        test_loss=TestLoss(gap=2.0),
        meta_gradient=MetaGradient(recompute=recompute),
    ).double()
    with torch.no_grad():  # zero biases put dead units exactly on the corner of a ReLU
        for p in module.parameters():
            p.add_(0.02 * torch.randn(p.shape))
    episode = clip_episode(2)

    def loss():
        torch.manual_seed(5)
        return sum(module.loss(episode).values())

    loss().backward()
    for name, p in module.named_parameters():
        direction = torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(1))
        expected = (p.grad * direction).sum().item()
        step = 1e-7 if "conv" in name else 1e-6
        with torch.no_grad():
            p.add_(step * direction)
            above = loss().item()
            p.sub_(2 * step * direction)
            below = loss().item()
            p.add_(step * direction)
        assert (above - below) / (2 * step) == pytest.approx(expected, rel=2e-3, abs=2e-6), name


def test_recomputation_changes_no_gradient(tiny):
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        module = MetaRTT(**tiny, meta_gradient=MetaGradient(recompute=recompute))
        torch.manual_seed(1)
        sum(module.loss(clip_episode(2)).values()).backward()
        found.append([p.grad for p in module.parameters()])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-4, atol=1e-7)


def test_meta_learning_lowers_the_loss_after_adaptation(tiny):
    tiny["network"] = CandidateNetworkSettings((8, 12, 16), 16, 40, 4.0)
    module = MetaRTT(**tiny)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    losses = []
    for step in range(60):
        torch.manual_seed(step)
        optimizer.zero_grad()
        loss = sum(module.loss(clip_episode(3)).values())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_predict_finds_targets_with_the_adapted_head(tiny):
    module = MetaRTT(**tiny)
    episode = clip_episode(2)
    found = module(episode)
    assert found.shape == (10, 4)
    query = episode.query._replace(images=episode.query.images[:9], boxes=episode.query.boxes[:9])
    state = module.adapt(episode.support)
    with pytest.raises(ValueError, match="the query has 9 frames, no multiple of the 2 adapted heads"):
        module.predict(state, query)


def test_predict_does_not_look_at_the_query_s_boxes(tiny):
    module = MetaRTT(**tiny).eval()
    episode = clip_episode(2)
    blind = episode.query._replace(boxes=None)
    found = []
    for query in (episode.query, blind):
        torch.manual_seed(0)
        with torch.no_grad():
            found.append(module.predict(module.adapt(episode.support), query))
    assert torch.equal(*found)


def test_the_search_goes_on_where_the_last_target_was_found(tiny, monkeypatch):
    module = MetaRTT(**tiny).eval()
    shifted = []

    def estimate(clips, **options):
        shifted.append(clips.boxes)
        return clips.boxes + 5, None

    monkeypatch.setattr("lightning_fewshot.tracking.candidates.module.estimate_targets", estimate)
    episode = clip_episode(2)
    found = module.predict(module.adapt(episode.support), episode.query).view(2, 5, 4)
    first = torch.stack([box[0] for box in episode.support.boxes])
    torch.testing.assert_close(found[:, 4], first + 25)
    torch.testing.assert_close(shifted[2][:, 0], first + 10)


def test_a_checkpoint_of_another_k_is_refused(tiny):
    saved = {"state_dict": MetaRTT(**tiny).state_dict()}
    with pytest.raises(ValueError, match="k_init is 7 but the checkpoint was meta-trained with k_init 5"):
        MetaRTT(**tiny, inner=InnerLoop(7)).on_load_checkpoint(saved)
    with pytest.raises(ValueError, match="k_on is 3 but the checkpoint was meta-trained with k_on 5"):
        MetaRTT(**tiny, online=OnlineAdaptation(3)).on_load_checkpoint(saved)
    MetaRTT(**tiny).on_load_checkpoint(saved)


def test_the_sparsity_is_checked(tiny):
    with pytest.raises(ValueError, match="sparsity is -1"):
        PrunedMetaRTT(**tiny, sparsity=-1)
    for sparsity, rate in ((0.1, 1.0), (0.0, 0.5)):
        with pytest.raises(ValueError, match=f"prune_rate is {rate} and sparsity {sparsity}"):
            PrunedMetaRTT(**tiny, sparsity=sparsity, prune_rate=rate)


@pytest.mark.parametrize("cls", [PrunedMetaRTT, StaticPrunedMetaRTT])
def test_lambda_is_found_for_a_wanted_prune_rate(tiny, cls):
    """It rises while all channels stay, falls while one a layer stays, and is the lambda of the loss."""
    module, episode, losses = cls(**tiny, sparsity=0.2, prune_rate=0.5).train(), clip_episode(2), []
    for start in (0.2, 0.4):
        torch.manual_seed(0)
        module.found_sparsity.fill_(start)
        losses.append(module.loss(episode)["prune"].item())
    assert losses[1] > losses[0]
    assert float(module.found_sparsity) == pytest.approx(0.4 * math.exp(0.1 * 0.5), rel=1e-3)
    with torch.no_grad():
        for name, p in module.psi.named_parameters():
            p.fill_(-2.0) if name.endswith("bias") or p.ndim == 1 else p.zero_()
    module.loss(episode)
    assert float(module.found_sparsity) < 0.4 * math.exp(0.1 * 0.5)
    assert module.psi.training


@pytest.mark.parametrize("cls", [PrunedMetaRTT, StaticPrunedMetaRTT, FirstFramePrunedMetaRTT])
def test_theta_is_fixed_while_the_pruning_network_learns(cls, tiny):
    module = cls(**tiny).train()
    module.loss(clip_episode(2))["prune"].backward()
    for name, p in module.named_parameters():
        assert p.requires_grad is name.startswith("psi."), name
    assert any(p.grad.abs().sum() > 0 for p in module.psi.parameters())


def test_a_static_mask_prunes_within_a_short_run(tiny):
    """With the learning rate of metartt/prune.yaml: a bare vector would move by 0.5 in 100 steps, and prune nothing."""
    module = StaticPrunedMetaRTT(**tiny, sparsity=3.0)
    optimizer = torch.optim.Adam(module.parameter_groups(), lr=0.005)
    for group in optimizer.param_groups:
        group["lr"] *= group["lr_factor"]
    for _ in range(100):
        optimizer.zero_grad()
        module.loss(clip_episode(2))["prune"].backward()
        optimizer.step()
    images, boxes = video(2)
    with torch.no_grad():
        assert module.eval().tracker().init(images[0], boxes[0]).pruned.rate > 0.5


def test_pruning_learns_a_trade(tiny):
    """A high price leaves few channels, none leaves nearly all."""
    rates = []
    for sparsity in (0.0, 3.0):
        torch.manual_seed(0)
        module = PrunedMetaRTT(**tiny, sparsity=sparsity, perceptrons=Perceptrons(drop=0.0))
        optimizer = torch.optim.Adam(module.psi.parameters(), lr=0.02)
        for step in range(25):
            torch.manual_seed(step)
            optimizer.zero_grad()
            module.loss(clip_episode(2))["prune"].backward()
            optimizer.step()
        module.eval()
        images = clip_episode(2).support.images
        with torch.no_grad():
            state = module.tracker().init(images[0], clip_episode(2).support.boxes[0][0])
        rates.append(state.pruned.rate)
    assert rates[0] < 0.3
    assert rates[1] > 0.5


TINY = [
    "--data=datamodules.DrawnVideos",
    "--data.training=datamodules.WholeFrames",
    "--data.batch_size=2",
    "--data.n_videos=6",
    "--data.videos.n_frames=10",
    "--data.episodes={train: 2, val: 1, test: 2}",
    "--data.num_workers=0",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false",
]
SIZES = {
    "network": "{channels: [3, 4, 5], hidden: 6, target_pixels: 40, scene: 4.0}",
    "batches": "{positives: 4, negatives: 6, mined: 8}",
    "episode": "{first: [6, 8]}",
    "tracking": "{candidates: 16, first: [20, 60], first_scenes: 2, frame: [6, 12], regression_samples: 20}",
}


def _fit(in_tmp, model, run_dir, *args):
    sizes = [f"--model.{k}={v}" for k, v in SIZES.items()]
    main(["fit", f"--model=lightning_fewshot.{model}", *sizes, *TINY, f"--run_dir={run_dir}", *args])
    return json.loads((in_tmp / run_dir / "results.json").read_text())["metrics"]


def test_the_three_stages_chain_on_the_command_line(in_tmp):
    assert (
        _fit(in_tmp, "RTMDNet", "base", "--model.adaptation.k_init=4", "--model.adaptation.k_on=2")["success_auc"]["n"]
        == 2
    )
    base = next((in_tmp / "base/checkpoints").glob("*.ckpt"))
    metrics = _fit(in_tmp, "MetaRTT", "meta", f"--model.init_from={base}")
    assert metrics["fps"]["value"] > 0
    pictures = {p.name for p in (in_tmp / "meta/pictures").iterdir()}
    assert {"rates.png", "simulated.png", "test_0000.png"} <= pictures
    meta = next((in_tmp / "meta/checkpoints").glob("*.ckpt"))
    metrics = _fit(in_tmp, "PrunedMetaRTT", "prune", f"--model.init_from={meta}")
    assert metrics["prune_rate"]["n"] == 2
    saved = [
        torch.load(p, weights_only=True)["state_dict"]
        for p in (meta, next((in_tmp / "prune/checkpoints").glob("*.ckpt")))
    ]
    assert torch.equal(saved[0]["rates_on.logs.fc4_weight"], saved[1]["rates_on.logs.fc4_weight"])
