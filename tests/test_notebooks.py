"""Every notebook runs on the folders that real commands leave behind."""

from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_on_logged_runs(path, cli, in_tmp, monkeypatch):
    cli("fit", run_dir=in_tmp / "runs" / "one")
    cli("fit", "--data.k_shot", 2, run_dir=in_tmp / "runs" / "two")
    monkeypatch.setenv("RUNS", str(in_tmp / "runs"))
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "is committed without outputs"
    notebook.cells.append(nbformat.v4.new_code_cell("results.to_csv('seen.csv')"))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(in_tmp)}}).execute()
    seen = pd.read_csv(in_tmp / "seen.csv")
    assert set(seen["run"]) == {"one", "two"}
    assert set(seen["k_shot"]) == {1, 2}
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) == 2
