"""The result is the same number, to the last bit, from one process or from two, even if one saw nothing."""

import os

import pytest
import torch
import torch.multiprocessing as mp

from lightning_fewshot.metrics.detection import DetectionMetrics


def _work(rank, world, folder, shares, pairs):
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    metric = DetectionMetrics(resamples=20)
    for i in shares[rank]:
        metric.update(*pairs[i])
    torch.save(_plain(metric.compute()), f"{folder}/result_{rank}.pt")
    torch.distributed.destroy_process_group()


def _plain(estimates):
    return {name: tuple(estimate) for name, estimate in estimates.items()}


@pytest.mark.parametrize("shares", [([0, 2, 4], [1, 3, 5, 6]), ([0, 1, 2, 3, 4, 5, 6], [])], ids=["half", "empty"])
def test_two_processes_equal_one(episodes, tmp_path, shares):
    pairs = episodes(7, seed=11)
    mp.spawn(_work, args=(2, str(tmp_path), shares, pairs), nprocs=2)
    alone = DetectionMetrics(resamples=20)
    for preds, episode in pairs:
        alone.update(preds, episode)
    expected = alone.compute()
    assert expected["map_50"].n == 7
    for rank in range(2):
        assert torch.load(tmp_path / f"result_{rank}.pt", weights_only=True) == _plain(expected)
