"""The contract of data, on the toy: episodes, ranks and workers."""

from types import SimpleNamespace

import pytest
import torch
from toy import ToyData

from lightning_fewshot.data import EpisodeCounts
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


@pytest.mark.parametrize(("key", "value"), [("n_way", 0), ("k_shot", 0), ("n_query", -2)])
def test_impossible_counts_are_named(key, value):
    with pytest.raises(ValueError, match=f"{key} is {value} but must be at least"):
        ToyData(**{key: value})


@pytest.mark.parametrize(("split", "count"), [("train", 0), ("val", -1), ("test", -1)])
def test_impossible_counts_of_episodes_are_named(split, count):
    with pytest.raises(ValueError, match=f"episodes.{split} is {count} but must be at least"):
        EpisodeCounts(**{split: count})


def test_too_many_ways_name_the_split():
    with pytest.raises(ValueError, match="n_way is 7 but split 'val' has 6 classes"):
        ToyData(n_way=7).episode("val", 0)
