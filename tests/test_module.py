"""The contract of models, on the toy: what a paper gets for nothing."""

import copy
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Trainer
from toy import ToyData, ToyModel

from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.settings import Optimization


def _fit(model, data, **kwargs):
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(**options, use_distributed_sampler=False, enable_model_summary=False, **kwargs)
    torch.manual_seed(3)
    trainer.fit(model, datamodule=data)
    return trainer


def test_a_limited_epoch_is_never_cut_short():
    """limit_train_batches does not divide the episodes of an epoch: every epoch still has that many steps."""
    assert (
        _fit(ToyModel(), ToyData(episodes=EpisodeCounts(train=5)), limit_train_batches=3, max_epochs=4).global_step
        == 12
    )


def test_evaluation_does_not_depend_on_what_was_drawn_before():
    model, data = ToyModel(), ToyData()
    trainer = _fit(model, data, max_epochs=1)
    first = trainer.validate(model, datamodule=data, verbose=False)
    torch.rand(17)
    assert trainer.validate(model, datamodule=data, verbose=False) == first
    assert model.estimates["accuracy"].n == 3


def test_one_step_is_a_function_of_the_seed_and_the_episode():
    """Dropout included: the global generator may stand anywhere."""
    torch.manual_seed(0)
    start = ToyModel()
    ends = []
    for _ in range(2):
        torch.rand(5)
        model = copy.deepcopy(start)
        _fit(model, ToyData(), max_steps=3)
        ends.append(model.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_one_episode_can_be_overfitted():
    torch.manual_seed(0)
    model, data = ToyModel(), ToyData(episodes=EpisodeCounts(train=1))
    episode = data.episode("train", 0)
    model.eval()
    before = model.loss(episode)["cross_entropy"].item()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(50):
        optimizer.zero_grad()
        model.loss(episode)["cross_entropy"].backward()
        optimizer.step()
    assert model.loss(episode)["cross_entropy"].item() < 0.2 * before


def test_another_runs_weights_are_taken_as_far_as_they_fit(tmp_path):
    torch.manual_seed(0)
    other, own = ToyModel(width=8), ToyModel(width=8)
    state = {**other.state_dict(), "embed.1.bias": torch.zeros(3)}
    torch.save({"state_dict": state}, tmp_path / "other.ckpt")
    before = own.embed[1].bias.clone()
    own.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    own.load_initial(str(tmp_path / "other.ckpt"))
    assert torch.equal(own.embed[0].weight, other.embed[0].weight)
    assert torch.equal(own.embed[1].bias, before)


def test_weights_that_are_absent_or_do_not_fit_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"init_from is .*gone.ckpt, but there is no such file"):
        ToyModel().load_initial(str(tmp_path / "gone.ckpt"))
    torch.save({"state_dict": {"other.weight": torch.zeros(2)}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="none of its 1 parameters fits ToyModel"):
        ToyModel().load_initial(str(tmp_path / "other.ckpt"))


def test_a_group_may_learn_at_a_multiple_of_the_rate(monkeypatch):
    module = ToyModel(optimization=Optimization("SGD", lr=0.1, schedule="constant"))
    slow, fast = list(module.embed[0].parameters()), list(module.embed[1].parameters())
    monkeypatch.setattr(module, "parameter_groups", lambda: [{"params": slow}, {"params": fast, "lr_factor": 5.0}])
    module._trainer = SimpleNamespace(estimated_stepping_batches=100)
    found = module.configure_optimizers()
    assert [group["lr"] for group in found["optimizer"].param_groups] == pytest.approx([0.1, 0.5])


def _trainer():
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(accelerator="cpu", enable_model_summary=False, use_distributed_sampler=False, **quiet)


def test_a_model_that_nobody_trained_refuses_to_predict():
    with pytest.raises(ValueError, match=r"ToyModel needs trained weights: .* fit .*--ckpt_path"):
        _trainer().predict(ToyModel(), datamodule=ToyData())


def test_a_model_that_was_trained_here_or_needs_no_training_predicts():
    model = ToyModel()
    _fit(model, ToyData(), max_steps=1)
    assert len(_trainer().predict(model, datamodule=ToyData())) == 1

    class Untrained(ToyModel):
        needs_training = False

    assert len(_trainer().predict(Untrained(), datamodule=ToyData())) == 1


def test_a_gpu_is_waited_for_only_every_nth_step(monkeypatch):
    """On a CPU every loss is looked at; on a GPU, where a look waits, the first and then every 20th."""
    module, looks = ToyModel(), []
    monkeypatch.setattr(module, "loss", lambda episode: {"loss": torch.zeros(())})
    monkeypatch.setattr(module, "_log_terms", lambda *args: None)
    monkeypatch.setattr(module, "_check_finite", lambda *args: looks.append(args))
    episode = Episode(None, Examples(torch.zeros(1, 3, 8, 8)), ("a",))
    for device, expected in {"cpu": 41, "cuda": 3}.items():
        looks.clear()
        monkeypatch.setattr(ToyModel, "device", torch.device(device))
        for step in range(41):
            module.training_step(episode, step)
        assert len(looks) == expected, device
