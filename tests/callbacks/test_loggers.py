"""CSV beside W&B, which works without an account or a network and holds the resolved config."""

import csv
import socket
import sys
from pathlib import Path

import pytest
import yaml

from lightning_fewshot.callbacks import loggers
from lightning_fewshot.callbacks.loggers import why_offline


@pytest.fixture
def no_account(monkeypatch, in_tmp):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(in_tmp))
    monkeypatch.setenv("NETRC", str(in_tmp / "netrc"))


@pytest.fixture
def finished(monkeypatch):
    """Collect the config, the summary and the exit code of every W&B run at its end."""
    wandb = pytest.importorskip("wandb")
    runs, finish = [], wandb.finish

    def spy(exit_code=None):
        runs.append((dict(wandb.run.config), dict(wandb.run.summary), exit_code))
        finish(exit_code=exit_code)

    monkeypatch.setattr(wandb, "finish", spy)
    return runs


def test_without_an_account_the_run_goes_offline_and_says_how_to_sync(cli, no_account, finished, capfd):
    cli("fit")
    output = "".join(capfd.readouterr())
    lines = [line for line in output.splitlines() if "W&B" in line or "wandb" in line]
    assert len(lines) == 1, output
    assert "no account" in lines[0]
    assert "wandb sync run/wandb/offline-run-*" in lines[0]
    (offline,) = Path("run/wandb").glob("offline-run-*")
    assert list(offline.glob("*.wandb"))
    assert len(list(offline.rglob("*.png"))) == 2 * 3 + 4, "the pictures of two validations and of the test"
    ((config, summary, exit_code),) = finished
    assert exit_code == 0
    assert config["model"]["class_path"] == "toy.ToyModel"
    assert config["model"]["init_args"]["width"] == 8, "defaults are in it too"
    assert config["data"]["init_args"]["k_shot"] == 1
    assert summary["test_results"]["accuracy"]["n"] == 5
    assert yaml.safe_load(Path("run/config.yaml").read_text())["model"] == config["model"]


def test_the_csv_has_losses_and_metrics(cli):
    cli("fit", "--trainer.log_every_n_steps", 1)
    with open("run/metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert sum(bool(row["train/cross_entropy"]) for row in rows) == 12
    assert sum(bool(row["val/accuracy"]) for row in rows) == 2
    assert sum(bool(row["test/accuracy"]) for row in rows) == 1
    assert not Path("run/wandb").exists(), "WANDB_MODE=disabled"


def test_a_sweep_can_group_by_the_config(cli, no_account, finished, monkeypatch):
    """An agent's dotted parameters and our nested config stand beside each other; its locked keys are not touched."""
    Path("sweep.yaml").write_text("wandb_version: 1\nmodel.init_args.width: {value: 12}\n")
    monkeypatch.setenv("WANDB_SWEEP_ID", "abcd")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "sweep.yaml")
    monkeypatch.setenv("WANDB_MODE", "offline")
    sys.modules["wandb"].teardown()  # it reads the environment once
    cli("fit", "--model.init_args.width=12")
    sys.modules["wandb"].teardown()
    ((config, _, _),) = finished
    assert config["model.init_args.width"] == 12
    assert config["model"]["init_args"]["width"] == 12


def test_two_commands_in_one_process_are_two_runs_and_a_failed_one_is_marked(cli, no_account, finished):
    cli("fit", run_dir="first")
    with pytest.raises(SystemExit):
        cli("fit", "--model.nan_at", 3, run_dir="second")
    assert [exit_code for *_, exit_code in finished] == [0, 1]


def test_why_offline(no_account, monkeypatch):
    assert "account" in why_offline()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)

    def unreachable(*args, **kwargs):
        raise socket.gaierror

    monkeypatch.setattr(loggers.socket, "create_connection", unreachable)
    assert why_offline() == "no network"
    monkeypatch.setattr(loggers.socket, "create_connection", lambda *a, **k: socket.socket())
    assert why_offline() is None
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert "WANDB_MODE" in why_offline()
