"""Damaged files of sweeps and runs: a result, or an error that names the file; what machines left is counted."""

import json
from itertools import islice

import numpy as np
import optuna
import pytest
import yaml
from damage import MUTATIONS, mutated_bytes, mutated_json, survives

from lightning_fewshot.callbacks.metrics_file import MetricsFile
from lightning_fewshot.cli import report, table
from lightning_fewshot.cli.config_files import read_config
from lightning_fewshot.cli.records import SCORES_SCHEMA
from lightning_fewshot.cli.reporting.curves import logged_numbers
from lightning_fewshot.cli.sweeping.command import agent_command
from lightning_fewshot.cli.sweeping.file import read_sweep
from lightning_fewshot.cli.sweeping.metric import read_metric

GRID = {
    "method": "grid",
    "metric": {"name": "test/score", "goal": "maximize"},
    "command": ["${env}", "${interpreter}", "-m", "lightning_fewshot", "fit", "${args}"],
    "parameters": {"x": {"values": [0, 1, None]}, "model.steps": {"min": 1, "max": 4}, "note": {"value": "a"}},
    "run_cap": 5,
}
DRAWN = {
    "method": "random",
    "run_cap": 3,
    "parameters": {
        "lr": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1},
        "exponent": {"distribution": "log_uniform", "min": -2, "max": 0},
        "step": {"distribution": "q_uniform", "min": 0, "max": 10, "q": 5},
        "width": {"distribution": "log_normal", "mu": 3, "sigma": 0.1},
        "kind": {"values": ["a", "b"], "probabilities": [0.5, 0.5]},
        "seed": {"min": 0, "max": 100000},
    },
}


def cells(path):
    """Read a sweep and make the commands of its first cells, as `sweep` does."""
    sweep = read_sweep(path)
    if sweep.method == "grid":
        drawn = list(islice(sweep.cells(), 3))
    else:
        trials = [optuna.create_study(sampler=optuna.samplers.RandomSampler(0)).ask() for _ in range(2)]
        drawn = [{parameter.name: parameter.draw(trial) for parameter in sweep.parameters} for trial in trials]
    for values in drawn:
        assert len(sweep.cell_name(values)) < 140
        assert all("\0" not in word for word in agent_command(sweep, values))


@pytest.mark.parametrize("content", [GRID, DRAWN], ids=["grid", "drawn"])
@pytest.mark.parametrize("mutated", [mutated_json, mutated_bytes])
def test_sweep_files(tmp_path, content, mutated):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(content) if mutated is mutated_json else yaml.safe_dump(content))
    assert survives(path, lambda: cells(path), mutated) > MUTATIONS / 10


def reported():
    """Write a report of the only run, or hear that none is left."""
    said = ""
    try:
        report.main(["runs", "--out", "r.html"])
    except SystemExit as end:
        said = str(end)
    assert not said or "there is no finished run below runs" in said


@pytest.mark.parametrize("name", ["results.json", "config.yaml", "metrics.csv"])
def test_runs_in_tables_and_reports(write_run, tmp_path, capsys, name):
    folder = write_run("a", per_episode={"map_50": {"0": 0.5, "1": 0.1}}, curves={"success": [1, 0.5]}, command=["a"])
    (folder / "metrics.csv").write_text("step,train/loss\n0,0.5\n1,0.25\n")

    def read():
        table.main(["runs", "--paper", "made_up"])
        reported()

    assert survives(folder / name, read, mutated_json if name.endswith("json") else mutated_bytes) == 0
    assert "results.json" in capsys.readouterr().err or name != "results.json"


def test_scores_in_tables(write_run, tmp_path):
    folder = write_run("a")
    tracker = {"metrics": {"success": {"value": 0.5, "ci95": [0.4, 0.6], "n": 2}}, "sequences": {"s": {"success": 0.5}}}
    record = {"schema": SCORES_SCHEMA, "protocol": {"benchmark": "otb"}, "trackers": {"t": tracker}}
    (folder / "results.json").write_text(json.dumps(record))
    assert survives(folder / "results.json", reported, mutated_json) == 0


def test_the_metric_of_a_cell(tmp_path):
    record = {"protocol": {"split": "test"}, "metrics": {"score": {"value": 0.5}}}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(record))
    assert survives(path, lambda: read_metric(tmp_path, "test/score"), mutated_json)


def test_metrics_of_a_run_that_died(tmp_path):
    """A power cut leaves zero bytes and half lines: training goes on, and curves show what there is."""
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss\n" + "".join(f"{i},{0.5 / (i + 1)}\n" for i in range(20)))
    raw, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(MUTATIONS):
        path.write_bytes(mutated_bytes(raw, rng))
        logged_numbers(path)
        logger = MetricsFile(tmp_path, until=10)
        logger.log_metrics({"train/loss": 1.0, "train/other": 2.0}, step=10)
        logger.save()
        steps, losses = logged_numbers(path)["train/loss"]
        assert (steps[-1], losses[-1]) == (10.0, 1.0)


def test_configs(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("model: {class_path: toy.ToyModel, init_args: {width: 8}}\ntrainer: {max_epochs: 2}\n")
    assert survives(path, lambda: read_config(str(path)))
