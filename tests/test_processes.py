"""One process or two (DDP, gloo, CPU), no worker or one: the same episodes, the same numbers, one result file."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from toy import ToyData

from lightning_fewshot.data import EpisodeCounts

DDP = ["--trainer.devices", 2, "--trainer.strategy", "ddp"]


def test_two_devices_measure_what_one_does(cli, start, results):
    """Five episodes do not divide by two."""
    cli("fit", run_dir="trained")
    options = ["--ckpt_path", "trained/checkpoints/best.ckpt"]
    cli("test", *options, run_dir="one")
    process = start("test", *options, *DDP, "--data.num_workers", 1, "--run_dir", "null")
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    (folder,) = Path("runs/unnamed").iterdir()
    assert output.count("95 % interval") == 1, "one table"
    one, two = results("one"), json.loads((folder / "results.json").read_text())
    assert two["protocol"] == one["protocol"]
    assert two["device"].startswith("2 x ")
    assert two["metrics"]["accuracy"]["n"] == 5
    for key in ("value", "ci95"):
        assert two["metrics"]["accuracy"][key] == pytest.approx(one["metrics"]["accuracy"][key], abs=1e-6)


def test_two_devices_train_into_one_folder(start, results):
    process = start("fit", *DDP, "--data.num_workers", 1, "--run_dir", "null")
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    (folder,) = (path for path in Path("runs/unnamed").iterdir() if not path.is_symlink())
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["best.ckpt", "card.md", "last.ckpt"]
    assert json.loads((folder / "results.json").read_text())["metrics"]["accuracy"]["n"] == 5
    assert output.count("95 % interval") == 1


def test_fewer_episodes_than_devices_is_one_clear_error():
    data = ToyData(episodes=EpisodeCounts(test=1))
    data.trainer = SimpleNamespace(global_rank=0, world_size=2)
    with pytest.raises(ValueError, match="split 'test' has 1 episodes but there are 2 devices"):
        data.test_dataloader()
