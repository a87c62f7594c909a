"""Empty folders for sweeps and for tables of papers."""

import json
import os
from pathlib import Path

import pytest
import yaml
from made_up_paper import PAPER
from sweep_runs import FAKE

from lightning_fewshot.cli.records import SCHEMA
from lightning_fewshot.cli.tabling import paper as paper_module


@pytest.fixture
def write_sweep(tmp_path, monkeypatch):
    """Work in an empty folder with the fake command; return what writes a sweep file there."""
    monkeypatch.chdir(tmp_path)
    Path("fake.py").write_text(FAKE)

    def write_changed(**changes):
        content = {
            "method": "grid",
            "metric": {"name": "test/score", "goal": "maximize"},
            "command": ["${env}", "${interpreter}", "fake.py", "fit", "${args}"],
            "parameters": {"x": {"values": [0, 1, 3]}, "note": {"value": None}},
        }
        Path("s.yaml").write_text(yaml.safe_dump({k: v for k, v in (content | changes).items() if v is not None}))
        return "s.yaml"

    return write_changed


@pytest.fixture
def write_run(tmp_path, monkeypatch):
    """Work in an empty folder with one made-up paper; return what writes a run folder there."""
    monkeypatch.chdir(tmp_path)
    Path("papers").mkdir()
    Path("papers/made_up.yaml").write_text(yaml.safe_dump(PAPER))
    monkeypatch.setattr(paper_module.read_paper, "__defaults__", (Path("papers"),))
    monkeypatch.setattr(paper_module.paper_names, "__defaults__", (Path("papers"),))
    Path("runs").mkdir()
    times = iter(range(1, 1000))

    def write_named(name, value=0.2, half=0.01, k_shot=1, seed=0, steps=0, split="test", lr=0.1, **changes):
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        config = {
            "seed_everything": seed,
            "model": {"class_path": "Detector", "init_args": {"steps": steps, "lr": lr}},
            "run_dir": name,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        metric = {"value": value, "ci95": [value - half, value + half], "n": 50}
        record = {
            "schema": SCHEMA,
            "experiment": "e",
            "model": "Detector",
            "data": "Scenes",
            "protocol": {"split": split, "k_shot": k_shot, "seed": seed},
            "metrics": {"map_50": metric},
        }
        path = folder / "results.json"
        path.write_text(json.dumps(record | changes))
        os.utime(path, (time := next(times), time))
        return folder

    return write_named
