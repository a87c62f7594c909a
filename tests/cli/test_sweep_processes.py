"""Sweeps of several processes: killed, shared, running elsewhere."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweep_runs import attempts

from lightning_fewshot.cli.sweep import main
from lightning_fewshot.cli.sweeping.jobs import is_alive, process_record

ROOT = Path(__file__).parents[2]


def start(*args: str) -> subprocess.Popen:
    code = "import sys; from lightning_fewshot.cli.sweep import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", code, "s.yaml", *args]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_is_taken_up_again_from_its_checkpoint(write_sweep, ending):
    write_sweep()
    Path("hold").touch()
    sweep = start("--limit", "1")
    wait_for(lambda: Path("runs/s/x=0/attempts.txt").exists())
    time.sleep(0.3)
    os.kill(sweep.pid, ending)
    sweep.wait(timeout=30)
    Path("hold").unlink()
    checkpoint = Path("runs/s/x=0/checkpoints/last.ckpt")
    checkpoint.parent.mkdir()
    checkpoint.touch()
    main(["s.yaml", "--limit", "1"])
    assert attempts("x=0") == ["None None", "None runs/s/x=0/checkpoints/last.ckpt"]
    assert not Path("runs/s/x=1").exists(), "the killed cell comes first"


def test_processes_share_the_cells(write_sweep):
    write_sweep(parameters={"x": {"values": list(range(8))}})
    sweeps = [start("--jobs", "2") for _ in range(2)]
    assert [sweep.wait(timeout=120) for sweep in sweeps] == [0, 0]
    assert [len(attempts(f"x={i}")) for i in range(8)] == [1] * 8
    started = [sweep.stdout.read().count("start") for sweep in sweeps]
    assert sum(started) == 8


def test_a_cell_that_runs_elsewhere_is_left_alone(write_sweep, capsys):
    write_sweep()
    Path("hold").touch()
    sweep = start("--limit", "1")
    wait_for(lambda: Path("runs/s/x=0/attempts.txt").exists())
    other = start()
    wait_for(lambda: Path("runs/s/x=1/attempts.txt").exists())
    Path("hold").unlink()
    assert (sweep.wait(timeout=60), other.wait(timeout=60)) == (0, 0)
    assert [len(attempts(cell)) for cell in ("x=0", "x=1", "x=3")] == [1, 1, 1]


def test_a_slurm_job_lives_as_long_as_the_queue_has_it(tmp_path, monkeypatch):
    squeue = tmp_path / "squeue"
    squeue.write_text('#!/bin/sh\n[ "$3" = 7 ] && echo running\nexit 0\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert is_alive({"job": "7"}, tmp_path)
    assert not is_alive({"job": "8"}, tmp_path)


def test_a_process_number_that_was_given_to_another_process_is_not_alive(tmp_path):
    record = process_record(os.getpid())
    assert is_alive(record, tmp_path)
    assert not is_alive(record | {"began": "1"}, tmp_path)
    assert not is_alive(record | {"host": "elsewhere"}, tmp_path)
    (tmp_path / ".heartbeat").touch()
    assert is_alive(record | {"host": "elsewhere"}, tmp_path)
