"""A process watches those that it has started, and the one that has started it."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from lightning_fewshot.callbacks import other_processes
from lightning_fewshot.callbacks.other_processes import ProcessWatch
from lightning_fewshot.files import FIRST_PROCESS_VARIABLE


@pytest.fixture
def watched(monkeypatch):
    """Return what watches some processes of a fit, and the exit codes that it has ended this one with."""
    monkeypatch.setattr(other_processes, "LOOK_S", 0.05)
    monkeypatch.setattr(other_processes, "GRACE_S", 1.0)
    ended = []
    monkeypatch.setattr(other_processes.os, "_exit", ended.append)

    def begin(*processes):
        watch = ProcessWatch()
        trainer = SimpleNamespace(
            world_size=2,
            strategy=SimpleNamespace(launcher=SimpleNamespace(procs=list(processes))),
            checkpoint_callback=SimpleNamespace(last_good_path="run/checkpoints/last.ckpt"),
            state=SimpleNamespace(fn="fit"),
        )
        watch.setup(trainer, None, "fit")
        return watch

    return begin, ended


def _wait(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_a_process_that_was_started_and_is_killed_ends_this_one_and_the_others(watched, capfd):
    begin, ended = watched
    victim, other = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    watch = begin(victim, other)
    time.sleep(0.3)
    assert not ended
    victim.kill()
    assert _wait(lambda: ended)
    watch.teardown(None, None, "fit")
    assert ended[0] == 1
    assert other.wait(timeout=10) == -9
    assert (
        "error: process 1 of this run was killed by SIGKILL, so this one ends too; "
        "go on from the last good checkpoint: --ckpt_path run/checkpoints/last.ckpt"
    ) in capfd.readouterr().err


def test_processes_that_end_well_or_after_the_stage_are_no_concern(watched, monkeypatch):
    begin, ended = watched
    first = begin(subprocess.Popen(["true"]))
    late = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3); raise SystemExit(3)"])
    begin(late).teardown(None, None, "fit")
    late.wait()
    time.sleep(0.3)
    first.teardown(None, None, "fit")
    assert not ended
    monkeypatch.setenv(FIRST_PROCESS_VARIABLE, "2147483647")
    watch = begin()
    time.sleep(0.1)
    watch.teardown(None, None, "fit")  # within the time of grace
    time.sleep(1.2)
    assert not ended


def test_a_process_whose_starter_is_gone_ends(watched, monkeypatch, capfd):
    begin, ended = watched
    monkeypatch.setenv(FIRST_PROCESS_VARIABLE, "2147483647")
    watch = begin()
    assert _wait(lambda: ended)
    watch.teardown(None, None, "fit")
    assert "error: the first process of this run ended, so this one ends too" in capfd.readouterr().err
