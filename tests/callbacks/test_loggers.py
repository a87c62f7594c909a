"""CSV beside W&B, which works without an account or a network and holds the resolved config."""

import base64
import csv
import socket
import sys
import time
from pathlib import Path

import pytest
import yaml
from pytorch_lightning.loggers import WandbLogger
from wandb_servers import Server

from lightning_fewshot.callbacks import loggers, wandb_server
from lightning_fewshot.callbacks.wandb_server import base_url, why_offline


@pytest.fixture
def no_account(monkeypatch, in_tmp):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
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
    assert len(list(offline.rglob("*.png"))) == 2 * 3 + 4 + 2 * 4, "two validations, a test, its best and worst"
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


@pytest.fixture
def server(no_account, monkeypatch):
    """Start a W&B server that answers with a status, or never; WANDB_BASE_URL is its address."""
    servers = []

    def begin(*statuses):
        servers.append(Server(*statuses))
        monkeypatch.setenv("WANDB_BASE_URL", servers[-1].url)
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
        return servers[-1].asked

    yield begin
    for made in servers:
        made.close()


@pytest.mark.parametrize(
    ("status", "reason"),
    [(200, None), (500, "answers 500"), (502, "answers 502"), (401, "refuses the account's key"), (None, "not answer")],
)
def test_the_server_that_is_configured_is_asked(server, monkeypatch, status, reason):
    monkeypatch.setattr(wandb_server, "PROBE_SECONDS", 0.5 if status is None else 3.0)
    asked = server(status)
    began = time.monotonic()
    answer = why_offline()
    assert time.monotonic() - began < 5
    assert answer is None if reason is None else reason in answer
    if status is not None:
        assert asked == [("/graphql", "Basic " + base64.b64encode(b"api:" + b"x" * 40).decode())]


def test_a_server_that_is_down_is_named(no_account, monkeypatch):
    assert "account" in why_offline()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    assert why_offline().startswith("no network: 127.0.0.1")
    monkeypatch.setenv("WANDB_BASE_URL", "not an address")
    assert why_offline().startswith("no network")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert "WANDB_MODE" in why_offline()


def test_the_address_stands_in_the_environment_or_in_settings_files(no_account, monkeypatch):
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.delenv("WANDB_CONFIG_DIR", raising=False)
    assert base_url() == "https://api.wandb.ai"
    for folder, host in ((".config/wandb", "home"), ("wandb", "here")):
        Path(folder).mkdir(parents=True)
        Path(folder, "settings").write_text(f"[default]\nbase_url = https://{host}.example/\n")
        assert base_url() == f"https://{host}.example"
    monkeypatch.setenv("WANDB_BASE_URL", "http://env.example:8080/")
    assert base_url() == "http://env.example:8080"
    Path("netrc").write_text("machine env.example login user password secret\n")
    assert wandb_server._netrc_key("env.example") == "secret"


def test_a_server_that_answers_once_and_then_fails_costs_seconds_and_the_run_goes_on_offline(
    server, cli, results, monkeypatch, capfd
):
    server(500)
    monkeypatch.setattr(loggers, "why_offline", lambda: None)
    monkeypatch.setattr(loggers, "START_SECONDS", 2)
    began = time.monotonic()
    run = cli("fit", "--trainer.max_epochs", 1)
    assert time.monotonic() - began < 60
    assert "W&B runs offline" in "".join(capfd.readouterr())
    assert run.trainer.global_step == 6
    assert results()["metrics"]["accuracy"]["n"] == 5
    assert list(Path("run/wandb").glob("offline-run-*"))


def test_an_outage_in_the_middle_of_a_run_is_said_once(cli, results, monkeypatch, no_account):
    """The logger raises at every call from the third on; training ends as if nothing had been."""
    calls, log = [], WandbLogger.log_metrics

    def breaks(self, *args, **kwargs):
        calls.append(args)
        if len(calls) > 2:
            raise BrokenPipeError("the service is gone")
        log(self, *args, **kwargs)

    monkeypatch.setattr(WandbLogger, "log_metrics", breaks)
    with pytest.warns(UserWarning, match="W&B takes no more of this run") as warned:
        cli("fit", "--trainer.log_every_n_steps", 1)
    assert sum("W&B takes no more" in str(w.message) for w in warned) == 1
    assert len(calls) == 3
    assert results()["metrics"]["accuracy"]["n"] == 5
    with open("run/metrics.csv") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert steps == list(range(12)), "what W&B does not take stands in the run's own file"


def test_prediction_starts_no_run(cli, monkeypatch, finished, no_account):
    cli("fit", "--trainer.max_epochs", 1, run_dir="trained")
    assert len(finished) == 1
    cli("predict", "--ckpt_path", "trained/checkpoints/best.ckpt", run_dir="predicted")
    assert len(finished) == 1
    assert not Path("predicted/wandb").exists()
