"""Writing files, and telling data from what lies beside it."""

import os
from pathlib import Path

import pytest

from lightning_fewshot.cli.run_folder import make_run_dir, shared_run_dir
from lightning_fewshot.files import is_litter, write_atomically


def test_runs_and_hidden_files_are_no_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with shared_run_dir():
        run = make_run_dir(None, "x").resolve()
    litter = [run / "pictures/a.png", tmp_path / "._a.jpg", tmp_path / ".cache/a.jpg", tmp_path / "__MACOSX/a.jpg"]
    data = [tmp_path / "query/q.jpg", tmp_path / "runs/my_own_class/a.jpg", tmp_path / "a.jpg"]
    assert [path for path in litter + data if is_litter(path, tmp_path)] == litter
    assert not is_litter(run / "query/a.jpg", run), "a folder that is asked for itself"


def test_a_write_that_fails_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomically(path, "old\n")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"cannot write: No space left on device: '.*a\.json'"):
        write_atomically(path, "new")
    assert path.read_bytes() == b"old\n"
    assert [p.name for p in Path(tmp_path).iterdir()] == ["a.json"]


@pytest.mark.parametrize(("variable", "launcher"), [("WORLD_SIZE", "torchrun"), ("SLURM_STEP_NUM_TASKS", "srun")])
def test_processes_that_others_start_must_name_their_folder(in_tmp, monkeypatch, variable, launcher):
    monkeypatch.setenv(variable, "2")
    with shared_run_dir():
        with pytest.raises(ValueError, match=f"{launcher} started several processes, .* name it with --run_dir"):
            make_run_dir(None, "a")
        assert make_run_dir("runs/a", "a").is_dir()
