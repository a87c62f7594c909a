"""The table and the result file."""

import json
import math
import os
from pathlib import Path

import pytest
from rich.console import Console

from lightning_fewshot.callbacks import results as module
from lightning_fewshot.callbacks.results import ResultsFile, results_table

KEYS = {"schema", "experiment", "model", "data", "protocol", "metrics", "versions", "commit", "device", "wall_s"}


def test_the_record_has_what_a_reader_needs(cli, results):
    cli("fit", run_dir="trained")
    record = results("trained")
    assert set(record) >= KEYS
    assert record["schema"] == "lightning_fewshot/results/1"
    assert (record["model"], record["data"]) == ("ToyModel", "ToyData")
    expected = {"split": "test", "n_way": 3, "k_shot": 1, "n_query": 2, "episodes": 5, "seed": 0}
    assert record["protocol"].items() >= expected.items()
    assert record["protocol"]["weights"] == "trained/checkpoints/best.ckpt"
    assert len(record["protocol"]["weights_sha256"]) == 64
    metric = record["metrics"]["accuracy"]
    assert metric["ci95"][0] <= metric["value"] <= metric["ci95"][1]
    assert metric["n"] == 5
    assert {"torch", "lightning_fewshot", "python"} <= set(record["versions"])
    assert 0 < record["wall_s"] < 60
    assert "CPU" in record["device"]


def test_the_table_is_printed_after_validate_and_test(cli, capsys):
    cli("fit", "--test_after_fit", "false")
    assert "95 % interval" not in capsys.readouterr().out
    for subcommand, n in (("validate", 3), ("test", 5)):
        cli(subcommand, "--ckpt_path", "run/checkpoints/last.ckpt", run_dir=subcommand)
        output = capsys.readouterr().out
        cells = next(line for line in output.splitlines() if line.startswith("│ accuracy")).strip("│").split("│")
        value, interval, episodes = (cell.strip() for cell in cells[1:])
        assert len(value.split(".")[1]) == 4
        assert len(interval.split(" to ")) == 2
        assert int(episodes) == n
        assert f"run: {subcommand}" in output
        assert "DataLoader" not in output, "Lightning's own table says the same without intervals"


def test_one_episode_has_no_interval_and_the_file_is_json(cli, capsys):
    cli("fit", "--data.episodes.test", 1)
    record = json.loads(Path("run/results.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert record["metrics"]["accuracy"]["ci95"] == [None, None]
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("│ accuracy"))
    assert [cell.strip() for cell in line.strip("│").split("│")][2:] == ["-", "1"]


def test_no_value_at_all_is_a_dash():
    metrics = {"map": {"value": None, "ci95": [None, None], "n": 0}, "recall": {"value": 1 / 3, "ci95": [0, 1], "n": 2}}
    protocol = {"split": "test", "n_way": 5, "k_shot": 1}
    console = Console(width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(results_table({"model": "M", "protocol": protocol, "metrics": metrics}))
    text = console.export_text()
    assert "0.3333" in text
    assert "0.0000 to 1.0000" in text
    assert "nan" not in text
    assert module._number(math.nan) is None


def test_weights_of_a_running_fit_have_no_file(cli, results):
    cli("fit", run_dir="first")
    options = ["--ckpt_path", "first/checkpoints/last.ckpt", "--trainer.max_epochs", 3, "--test_after_fit", "false"]
    cli("fit", *options, run_dir="second")
    assert results("second")["protocol"]["split"] == "val"
    assert results("second")["protocol"]["weights"] is None


def test_a_failing_write_leaves_the_old_results(cli, results, monkeypatch):
    cli("fit", "--test_after_fit", "false")
    before = results()
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(SystemExit, match=r"error: cannot write: disk full: run/results\.json"):
        cli("validate", "--ckpt_path", "run/checkpoints/last.ckpt")
    assert results() == before
    assert not list(Path("run").glob(".results*"))


def test_the_commit_is_that_of_the_source():
    commit = module._commit()
    assert commit is None or len(commit.rstrip("+")) == 40
    assert isinstance(ResultsFile("run", "x").run_dir, Path)
