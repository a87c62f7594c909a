"""One process or two (DDP, gloo, CPU), no worker or one: the same episodes, the same numbers, one result file."""

import json
from pathlib import Path

import pytest

DDP = ["--trainer.devices", 2, "--trainer.strategy", "ddp"]


@pytest.mark.parametrize("episodes", [1, 5])
def test_two_devices_measure_what_one_does(cli, start, results, episodes):
    """Five episodes do not divide by two; of one episode the second rank sees nothing."""
    cli("fit", run_dir="trained")
    options = ["--ckpt_path", "trained/checkpoints/best.ckpt", "--data.test_episodes", episodes]
    cli("test", *options, run_dir="one")
    process = start("test", *options, *DDP, "--data.num_workers", 1, "--run_dir", "null")
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    (folder,) = Path("runs/unnamed").iterdir()
    assert output.count("95 % interval") == 1, "one table"
    one, two = results("one"), json.loads((folder / "results.json").read_text())
    assert two["protocol"] == one["protocol"]
    assert two["device"].startswith("2 x ")
    assert two["metrics"]["accuracy"]["n"] == episodes
    for key in ("value", "ci95"):
        assert two["metrics"]["accuracy"][key] == pytest.approx(one["metrics"]["accuracy"][key], abs=1e-6)


def test_two_devices_train_into_one_folder(start, results):
    process = start("fit", *DDP, "--data.num_workers", 1, "--run_dir", "null")
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    (folder,) = Path("runs/unnamed").iterdir()
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert json.loads((folder / "results.json").read_text())["metrics"]["accuracy"]["n"] == 5
    assert output.count("95 % interval") == 1
