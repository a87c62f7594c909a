"""Two processes of one run (DDP, gloo, CPU) of which one is killed: the other ends within a minute and says why."""

import os
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults
DDP = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--trainer.max_epochs", 500, "--data.seconds", 0.1]


def child_of(pid):
    found = subprocess.check_output(["pgrep", "-P", str(pid), "-f", "lightning_fewshot"], text=True)
    return int(found.split()[0])


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.mark.parametrize("delay", [0.0, 0.35])
@pytest.mark.parametrize("victim", ["first", "second"])
def test_the_other_process_ends_with_a_line(start, victim, delay):
    process = start("fit", *DDP)
    wait_for(Path("run/checkpoints/last.ckpt").exists, 120)
    second = child_of(process.pid)
    time.sleep(delay)
    os.kill(process.pid if victim == "first" else second, 9)
    process.wait(timeout=60)
    wait_for(lambda: not Path(f"/proc/{second}").exists(), 60)
    said = process.stdout.read()
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert lines, said
    assert all("of this run" in line and line.endswith(("ends too", "last.ckpt")) for line in lines), said
    assert "Traceback" not in said
    again = start("fit", "--ckpt_path", "run/checkpoints/last.ckpt", "--trainer.max_epochs", 1, run_dir="again")
    assert again.wait(timeout=180) == 0, again.stdout.read()
