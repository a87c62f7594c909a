"""The contract, on the toy: data, ranks, workers, and what a paper gets for nothing."""

import copy
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Trainer
from toy import ToyData, ToyModel

from lightning_fewshot.loaders import EpisodeOrder


def _trainer(processed=0, current=0, rank=0, world_size=1):
    progress = SimpleNamespace(total=SimpleNamespace(processed=processed), current=SimpleNamespace(processed=current))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    return SimpleNamespace(fit_loop=loop, global_rank=rank, world_size=world_size)


def _equal(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, tuple):
        return len(first) == len(second) and all(_equal(a, b) for a, b in zip(first, second, strict=True))
    return first == second


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_episodes_are_equal_for_0_1_and_2_workers(split):
    def episodes(workers):
        data = ToyData(num_workers=workers)
        data.trainer = _trainer()
        return list(getattr(data, f"{split}_dataloader")())

    none, one, two = (episodes(workers) for workers in range(3))
    assert [e.index for e in none] == list(range({"train": 6, "val": 3, "test": 5}[split]))
    assert all(_equal(a, b) and _equal(a, c) for a, b, c in zip(none, one, two, strict=True))


@pytest.mark.parametrize(("workers", "drawn"), [(0, []), (1, [("train", 0)])])
def test_what_episodes_import_is_imported_before_workers_start(monkeypatch, workers, drawn):
    """W&B refuses imports that it watches in a forked process, for one those of albumentations."""
    data, seen = ToyData(num_workers=workers), []
    data.trainer = _trainer()
    monkeypatch.setattr(data, "episode", lambda split, index: seen.append((split, index)))
    for split in ("train", "val", "test"):
        getattr(data, f"{split}_dataloader")()
    assert seen == drawn


@pytest.mark.parametrize("count", [1, 5, 6])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_the_list(count, world_size):
    shards = [list(EpisodeOrder(count, None, rank, world_size)) for rank in range(world_size)]
    assert sorted(i for shard in shards for i in shard) == list(range(count))
    assert [len(EpisodeOrder(count, None, rank, world_size)) for rank in range(world_size)] == list(map(len, shards))


@pytest.mark.parametrize("world_size", [1, 2])
def test_training_goes_on_from_epoch_to_epoch_and_in_the_middle_of_one(world_size):
    """All ranks draw equally many: 7 episodes on 2 ranks are 8 an epoch."""
    steps = -(-7 // world_size)

    def drawn(processed, current):
        trainer = _trainer(processed, current)
        shards = [list(EpisodeOrder(7, trainer, rank, world_size)) for rank in range(world_size)]
        return [i for step in zip(*shards, strict=True) for i in step]

    size = steps * world_size
    assert drawn(0, 0) == list(range(size))
    assert drawn(steps, 0) == list(range(size, 2 * size))
    assert drawn(steps, steps) == list(range(size, 2 * size)), "from a checkpoint of the end of an epoch"
    assert drawn(steps + 2, 2) == list(range(size + 2 * world_size, 2 * size))


@pytest.mark.parametrize(
    ("key", "value"), [("n_way", 0), ("k_shot", 0), ("train_episodes", 0), ("val_episodes", -1), ("n_query", -2)]
)
def test_impossible_counts_are_named(key, value):
    with pytest.raises(ValueError, match=f"{key} is {value} but must be at least"):
        ToyData(**{key: value})


def test_too_many_ways_name_the_split():
    with pytest.raises(ValueError, match="n_way is 7 but split 'val' has 6 classes"):
        ToyData(n_way=7).episode("val", 0)


def _fit(model, data, **kwargs):
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(**options, use_distributed_sampler=False, enable_model_summary=False, **kwargs)
    torch.manual_seed(3)
    trainer.fit(model, datamodule=data)
    return trainer


def test_a_limited_epoch_is_never_cut_short():
    """limit_train_batches does not divide the episodes of an epoch: every epoch still has that many steps."""
    assert _fit(ToyModel(), ToyData(train_episodes=5), limit_train_batches=3, max_epochs=4).global_step == 12


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
    model, data = ToyModel(), ToyData(train_episodes=1)
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
    module = ToyModel(optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1))
    slow, fast = list(module.embed[0].parameters()), list(module.embed[1].parameters())
    monkeypatch.setattr(module, "parameter_groups", lambda: [{"params": slow}, {"params": fast, "lr_factor": 5.0}])
    module._trainer = SimpleNamespace(estimated_stepping_batches=100)
    module.schedule, module.warmup = "constant", 0.0
    found = module.configure_optimizers()
    assert [group["lr"] for group in found["optimizer"].param_groups] == pytest.approx([0.1, 0.5])
