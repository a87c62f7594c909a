"""The makers of tiny videos, by their path; tests are no package."""

import importlib.util
import json
from pathlib import Path

import pytest
from red_module import MODEL, calls


@pytest.fixture(scope="session")
def maker():
    path = Path(__file__).parents[1] / "data/videos/make.py"
    spec = importlib.util.spec_from_file_location("make_videos", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(cli, maker, in_tmp):
    """Run a command on the tiny OTB and VOT."""
    calls.clear()
    maker.make_otb(in_tmp / "data")
    maker.make_vot(in_tmp / "data")

    def start(subcommand, data, *args, run_dir="run"):
        data = [] if data is None else ["--data", f"datamodules.{data}", "--data.root", "data", "--data.num_workers", 0]
        cli(subcommand, *MODEL, *data, *args, toy=False, run_dir=run_dir)
        path = Path(run_dir) / "results.json"
        return json.loads(path.read_text()) if path.exists() else None

    return start
