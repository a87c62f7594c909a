"""Every notebook runs: on the folders that real commands leave behind, and on checkpoints of tiny sizes."""

from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient
from tiny_experiments import FOLDER, ROOT, run_tiny

from lightning_fewshot.cli.logged import read_runs, result_rows

NOTEBOOKS = ROOT / "notebooks"
PICTURES = {"detection_and_classification": 4, "segmentation": 3, "tracking": 4}
CHECKPOINTS = {
    "DETECTOR": "repmet",
    "CLASSIFIER": "repmet_classifier",
    "SEGMENTER": "oslsm",
    "TRACKER": "learnet_tracker",
    "METARTT": "metartt",
}
METRICS = {"accuracy": {"value": 0.5, "ci95": [0.4, 0.6], "n": 5}}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Checkpoints of one training step each, by the name of the variable that a notebook reads."""
    folder = tmp_path_factory.mktemp("checkpoints")
    one_step = ["--trainer.fast_dev_run=false", "--trainer.max_steps=1", "--trainer.limit_val_batches=1"]
    one_step += ["--test_after_fit=false", "--pictures.count=0", "--trainer.logger=false"]
    for name in CHECKPOINTS.values():
        run_tiny(FOLDER / f"{name}.yaml", folder / name, *one_step)
    return {variable: str(folder / name / "checkpoints/last.ckpt") for variable, name in CHECKPOINTS.items()}


def execute(name, folder, last=None):
    """Run a notebook; return its pictures."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "is committed without outputs"
    if last is not None:
        notebook.cells.append(nbformat.v4.new_code_cell(last))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output for output in outputs if "image/png" in output.get("data", {})]


def test_all_notebooks_are_tested():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == {*PICTURES, "compare_runs"}


@pytest.mark.slow
def test_logged_runs_are_compared(cli, in_tmp, monkeypatch):
    cli("fit", run_dir=in_tmp / "runs" / "one")
    cli("fit", "--data.k_shot", 2, run_dir=in_tmp / "runs" / "two")
    monkeypatch.setenv("RUNS", str(in_tmp / "runs"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pictures = execute("compare_runs", in_tmp, "results.to_csv('seen.csv')")
    seen = pd.read_csv(in_tmp / "seen.csv")
    assert set(seen["run"]) == {"one", "two"}
    assert set(seen["k_shot"]) == {1, 2}
    assert len(pictures) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_what_a_model_does_is_shown(name, checkpoints, in_tmp, monkeypatch):
    for variable, path in checkpoints.items():
        monkeypatch.setenv(variable, path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert len(execute(name, in_tmp)) == PICTURES[name]


def test_runs_of_a_project_are_rows_as_those_of_folders(monkeypatch):
    config = {
        "model": {"class_path": "lightning_fewshot.RepMetClassifier"},
        "data": {"class_path": "datamodules.Drawings", "init_args": {"k_shot": 5, "seed": 0}},
    }
    done = SimpleNamespace(name="b", group="repmet", config=config, summary={"test_results": METRICS})
    killed = SimpleNamespace(name="a", group=None, config={}, summary={})
    monkeypatch.setattr("wandb.Api", lambda: SimpleNamespace(runs=lambda path: {"me/few": [done, killed]}[path]))
    runs = read_runs("me/few")
    (row,) = result_rows(runs)
    assert row["run"] == "b"
    assert row["model"] == "RepMetClassifier"
    assert (row["k_shot"], row["split"], row["metric"]) == (5, "test", "accuracy")
    assert (row["low"], row["value"], row["high"], row["n"]) == (0.4, 0.5, 0.6, 5)
    assert runs.problems == ["me/few/a has no results: it was killed, or still runs"]


@pytest.mark.parametrize(("where", "error"), [("/none", FileNotFoundError), ("me/none", ValueError)])
def test_what_is_neither_folder_nor_project_is_named(where, error, monkeypatch):
    monkeypatch.setattr("wandb.Api", lambda: SimpleNamespace(runs=lambda path: [][0]))
    with pytest.raises(error, match=where):
        read_runs(Path(where))
