"""Commands that are killed (SIGKILL) at random moments and started again, until they come to their end."""

import csv
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
FORKED_CELL = Path(__file__).with_name("forked_cell.py")  # a sweep's cell that starts fast
IN_A_LIFE = (4, 11)  # kills of one run; then it may come to its end and is compared
MARKER = ".lightning_fewshot_run"
TIMES = ("seconds", "fps", "time")  # metrics that begin so are no results


class Commands:
    """Starts commands by forking one process (``fork_commands``), and kills them.

    Args:
        folder: Where they run; their output goes to ``commands.log`` in it.
        modules: What they will import.
    """

    def __init__(self, folder, modules=()):
        self.folder = Path(folder)
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests/support")])
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_commands.py")), *modules],
            cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"},
        )  # fmt: skip

    def close(self):
        """End the process that forks."""
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def run(self, args, after=None, begun=None, group=True):
        """Run a command; return its exit code, -9 where it was killed, and the seconds from its begin.

        Args:
            args: The command.
            after: Seconds from its begin to the kill; None: it comes to its end.
            begun: Folder that is marked when the command begins to write; None: it begins at once.
            group: Whether the processes that it has started are killed with it.
        """
        before = _stamp(begun)
        self._ask("fork", args)
        pid = int(self.process.stdout.readline())
        while begun is not None and _stamp(begun) == before and not self._ended(0.01):
            pass
        start = time.monotonic()
        if not self._ended(after):
            (os.killpg if group else os.kill)(pid, signal.SIGKILL)
        return int(self.process.stdout.readline()), time.monotonic() - start

    def _ended(self, seconds):
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def run_first(self, args):
        """Run a command in the process that forks, so that the ones to come start with what it has made."""
        self._ask("here", args)
        code = int(self.process.stdout.readline())
        assert code == 0, (self.folder / "commands.log").read_text()[-3000:]

    def _ask(self, where, args):
        self.process.stdin.write(
            f"{json.dumps([where, str(self.folder / 'commands.log'), *map(str, args)])}\n".encode()
        )


def _stamp(folder):
    path = Path(folder or ".") / MARKER
    return path.stat().st_mtime_ns if path.exists() else None


def kill_and_resume(begin, folder, kills, rng, compare):
    """Kill runs at random moments of the time that a whole one takes, resume each to its end and compare.

    Args:
        begin: ``begin(folder, after)`` starts or resumes the run of a folder, and returns exit code and seconds.
        folder: For the runs; ``whole`` is the one that nobody kills.
        kills: How many there are in all.
        rng: Draws the moments.
        compare: ``compare(folder, whole)``.

    Returns:
        How many runs were killed, resumed and compared.
    """
    code, seconds = begin(folder / "whole", None)
    assert code == 0, "the whole run failed"
    dealt, lives = 0, 0
    while dealt < kills:
        run, code = folder / f"life_{lives}", -signal.SIGKILL
        wanted = min(kills, dealt + int(rng.integers(*IN_A_LIFE)))
        while code == -signal.SIGKILL:
            fresh = not run.exists()
            code, lasted = begin(run, rng.uniform(0, seconds) if dealt < wanted else None)
            dealt += code == -signal.SIGKILL
        if fresh:  # nothing killed it: a moment in a shorter time will
            seconds = min(seconds, lasted)
        assert code == 0, f"{run} was not taken up: exit code {code}"
        compare(run, folder / "whole")
        lives += 1
    return lives


def resumed(command, run):
    """Return the arguments that begin or go on with a fit."""
    last = run / "checkpoints/last.ckpt"
    return [*command, *(["--ckpt_path", last] if last.is_file() else []), "--run_dir", run]


def results(run):
    """Return the metrics of a run that are no times."""
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    return {name: metric for name, metric in metrics.items() if not name.startswith(TIMES)}


def rows(run):
    """Return the rows of metrics.csv, without times."""
    with open(run / "metrics.csv", newline="") as file:
        found = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if v and not k.rpartition("/")[2].startswith(TIMES)} for row in found]


def same_results(run, whole):
    """Compare what two tests measured, to the last digit."""
    assert results(run) == results(whole), run


def same_training(run, whole):
    """Compare the results, the logged numbers and the weights of two trainings."""
    same_results(run, whole)
    assert rows(run) == rows(whole), run
    for name in ("last", "best"):
        one, two = (torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True) for folder in (run, whole))
        assert one["state_dict"].keys() == two["state_dict"].keys()
        different = [key for key, value in one["state_dict"].items() if not torch.equal(value, two["state_dict"][key])]
        assert not different, (run, name, different[:3])
    left = [path.name for path in run.rglob("*.part")]
    assert len(left) <= 1, "a kill leaves one unfinished file at most, the next run removes it"
