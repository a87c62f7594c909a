"""Running the command line: in this process where that is enough, in processes of its own where it is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as __main__ does, before torch is imported
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a core for each of pytest's processes

ROOT = Path(__file__).parents[1]
TOY = ["--model", "toy.ToyModel", "--data", "toy.ToyData", "--trainer.accelerator", "cpu", "--trainer.max_epochs", "2"]
TOY += ["--checkpoint.monitor", "val/accuracy"]


def pytest_collection_modifyitems(config, items):
    """Skip what needs the real data where there is none, and what takes minutes unless it is asked for."""
    asked = config.getoption("-m") or ""
    for item in items:
        if item.get_closest_marker("every_experiment") and "every_experiment" not in asked:
            item.add_marker(pytest.mark.skip(reason="takes minutes: -m every_experiment"))
    if "FEWSHOT_DATA" not in os.environ:
        for item in items:
            if item.get_closest_marker("real_data"):
                item.add_marker(pytest.mark.skip(reason="needs the real data under FEWSHOT_DATA"))


def _folder(args, run_dir):
    return [] if "--run_dir" in args else ["--run_dir", str(run_dir)]


@pytest.fixture
def in_tmp(tmp_path, monkeypatch):
    """Work in an empty folder, without W&B."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def cli(in_tmp):
    """Run one command on the toy in this process; return the FewShotCLI."""
    from lightning_fewshot.cli import main

    def run(subcommand, *args, run_dir="run", toy=True):
        chosen = (TOY if subcommand == "fit" else TOY[:6]) if toy else []
        return main([subcommand, *chosen, *map(str, args), *_folder(args, run_dir)])

    return run


@pytest.fixture
def start(in_tmp):
    """Start one command on the toy in its own process, with as many threads: sums are then equal to the last bit."""

    import torch

    def begin(subcommand, *args, run_dir="run", env=None, toy=True):
        command = [
            sys.executable,
            "-m",
            "lightning_fewshot",
            subcommand,
            *((TOY if subcommand == "fit" else TOY[:6]) if toy else []),
        ]
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests/support")])
        return subprocess.Popen(
            [*command, *map(str, args), *_folder(args, run_dir)],
            cwd=in_tmp,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(torch.get_num_threads()), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


@pytest.fixture
def results():
    """Read results.json of a run folder."""
    return lambda run_dir="run": json.loads((Path(run_dir) / "results.json").read_text())


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A folder with every data set in its real layout, as the makers in tests/data draw them."""
    from tiny_experiments import make_tiny_data

    return make_tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def simulated_gpu(monkeypatch):
    """Return what starts a simulated GPU, which training, validation and test steps then use."""
    import torch
    from pytorch_lightning.accelerators import CPUAccelerator
    from pytorch_lightning.strategies import SingleDeviceStrategy, Strategy
    from simulated_device import GPU, SimulatedDevice

    from lightning_fewshot.module import FewShotModule

    def begin():
        device = SimulatedDevice()
        monkeypatch.setattr(SingleDeviceStrategy, "root_device", property(lambda self: GPU))
        monkeypatch.setattr(CPUAccelerator, "setup_device", lambda self, device: None)
        steps = {"optimizer_step": "train", "training_step": "train", "validation_step": "val", "test_step": "test"}
        for name, phase in steps.items():
            step = getattr(Strategy, name)
            monkeypatch.setattr(Strategy, name, lambda *a, s=step, p=phase, **k: device.counted(p, s)(*a, **k))
        monkeypatch.setattr(FewShotModule, "looks", property(lambda self: not self.training))  # as in most steps
        monkeypatch.setattr(torch.cuda, "synchronize", lambda *args: device.wait("synchronize"))
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda *args: 0)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *args: "simulated GPU")
        return device

    return begin


@pytest.fixture
def documented_waits():
    """Compare how often an experiment's steps waited with docs/scale.md."""
    from waits import check

    return check
