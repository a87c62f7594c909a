"""Cells handed to Slurm by submitit: on a Slurm of one machine, tests/support/fake_slurm.py."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_slurm import install, options_of
from sweep_runs import attempts

from lightning_fewshot.cli.sweep import main
from lightning_fewshot.cli.sweeping.jobs import is_alive

ROOT = Path(__file__).parents[2]
SLURM = ["--submit", "slurm", "--submit_args", "timeout_min=7", "--submit_args", "slurm_partition=gpu"]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    folder = install(tmp_path / "cluster")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests/support")]))
    return folder


def test_cells_are_jobs_that_ask_for_what_was_said(write_sweep, cluster, capsys):
    main([write_sweep(), *SLURM])
    assert "3 finished, 0 failed" in (text := capsys.readouterr().out)
    assert "best test/score: -1, runs/s/x=1" in text
    assert [attempts(cell) for cell in ("x=0", "x=1", "x=3")] == [["None None"]] * 3
    scripts = list(Path("runs/s/submitit").glob("*_submission.sh"))
    assert len(scripts) == 3
    for script in scripts:
        asked = options_of(script)
        assert (asked["time"], asked["partition"]) == ("7", "gpu")


def test_cells_that_fail_or_are_cancelled_are_listed_and_run_again(write_sweep, cluster, capsys):
    Path("hold").touch()
    Path("broken").touch()
    sweep = subprocess.Popen([sys.executable, "-c", _ASKING_OFTEN, write_sweep(), *SLURM], stdout=subprocess.PIPE)
    _wait_for(lambda: len(list(Path("runs/s").glob("x=*/attempts.txt"))) == 3)
    jobs = sorted(script.name.partition("_")[0] for script in Path("runs/s/submitit").glob("*_submission.sh"))
    assert all(is_alive({"job": job}, Path()) for job in jobs)
    subprocess.run(["scancel", jobs[-1]], check=True)
    Path("hold").unlink()
    text = sweep.communicate(timeout=180)[0].decode()
    assert sweep.returncode == 1
    assert "1 finished, 2 failed" in text
    assert "failed: x=1: exit code 1; log: runs/s/x=1/sweep.log" in text
    assert "failed: x=3: the job ended without an answer" in text
    assert not is_alive({"job": jobs[-1]}, Path())
    Path("broken").unlink()
    main(["s.yaml", *SLURM, "--retry"])
    assert "3 finished, 0 failed" in capsys.readouterr().out
    assert [len(attempts(cell)) for cell in ("x=0", "x=1", "x=3")] == [1, 2, 2]


def test_a_training_runs_as_a_job(write_sweep, cluster, capsys):
    """Lightning sees Slurm's variables, and trains as it does elsewhere."""
    words = ["${env}", "${interpreter}", "-m", "lightning_fewshot", "fit", "--model=toy.ToyModel", "--data=toy.ToyData"]
    words += ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "${args}"]
    parameters = {"model.width": {"values": [4]}}
    main([write_sweep(command=words, parameters=parameters, metric={"name": "test/accuracy"}), *SLURM])
    assert "1 finished, 0 failed" in capsys.readouterr().out
    assert Path("runs/s/width=4/checkpoints/best.ckpt").is_file()


_ASKING_OFTEN = """
import sys
from submitit.slurm.slurm import SlurmJob
from lightning_fewshot.cli.sweep import main
SlurmJob.watcher._delay_s = 0.1  # ten minutes otherwise
main(sys.argv[1:])
"""


def _wait_for(condition):
    end = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
