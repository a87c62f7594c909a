"""Two processes (DDP, gloo, CPU) in bf16-mixed: an experiment trains to equal weights and measures what one would."""

import json
import math
import os
import socket
import subprocess
import sys

import pytest
from tiny_experiments import FOLDER, ROOT, RUNNABLE, command
from two_ranks import LONGEST_S

TRAINED = [path.relative_to(FOLDER).as_posix() for path in RUNNABLE if command(path)[0] == "fit"]
MAIN = [name for name in TRAINED if "/" not in name]  # of each paper, and of prototypical networks
OTHERS = [name for name in TRAINED if name not in MAIN]
AT_ONCE = 10  # experiments that one pair of processes goes through
GROUPS = [OTHERS[i : i + AT_ONCE] for i in range(0, len(OTHERS), AT_ONCE)]


def run_pair(names, data, folder):
    """Let two processes go through experiments until one fails; return what each wrote, and the log of what failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests/support")))}
    environment |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    ranks = []
    for rank in ("0", "1"):
        words = [sys.executable, ROOT / "tests/support/two_ranks.py", rank, port, data, folder / f"{rank}.json", *names]
        with open(folder / f"{rank}.log", "w") as log:
            process = subprocess.Popen(list(map(str, words)), env=environment, stdout=log, stderr=subprocess.STDOUT)
        ranks.append(process)
    codes = [_wait(ranks, rank, LONGEST_S * len(names)) for rank in range(2)]
    lines = [[json.loads(line) for line in (folder / f"{rank}.json").read_text().splitlines()] for rank in range(2)]
    log = "".join((folder / f"{rank}.log").read_text()[-4000:] for rank in range(2) if codes[rank])
    return [{line["experiment"]: line for line in one} for one in lines], log


def _wait(ranks, rank, longest):
    """Wait for one rank; where it fails the other one would wait for it for ever."""
    try:
        code = ranks[rank].wait(timeout=longest)
    except subprocess.TimeoutExpired:
        code = "no end"
    if code:
        for process in ranks:
            process.kill()
    return code


def test_two_ranks_agree(tiny_data, tmp_path):
    check(MAIN, tiny_data, tmp_path)


@pytest.mark.every_experiment
@pytest.mark.timeout(AT_ONCE * LONGEST_S)
@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_two_ranks_agree_on_the_others(names, tiny_data, tmp_path):
    check(names, tiny_data, tmp_path)


def check(names, data, folder):
    """Compare what two ranks saw of experiments."""
    ranks, log = run_pair(names, data, folder)
    for name in names:
        assert name in ranks[0], f"{name}:\n{log}"
        first, second = ranks[0][name], ranks[1].get(name, {})
        errors = [rank["error"] for rank in (first, second) if "error" in rank]
        assert all("download" in error for error in errors), f"{name}: {errors}\n{log}"
        if not errors:
            check_one(name, first, second)


def check_one(name, first, second):
    """Compare what two ranks saw of one experiment."""
    assert first["precision"] == "bf16-mixed"
    losses = first["losses"] + second["losses"]
    assert all(map(math.isfinite, losses)), (name, losses)
    assert len(losses) == 4 or "prototypes" in name, "two steps of each rank; prototypes have no loss"
    assert first["finite_weights"]
    assert first["same_weights"], f"{name}: the ranks' weights differ: their gradients were not joined"
    for split, count in first["counts"].items():
        drawn = [rank[split] for rank in first["indices"]]
        assert not drawn[0] or sorted(drawn[0] + drawn[1]) == list(range(count)), (name, split, drawn)
    assert first["metrics"] == second["metrics"]
    if not first["counts"]["test"]:
        return
    assert first["metrics"].keys() - {"prune_rate"} == first["of_one_process"].keys()
    for metric, values in first["of_one_process"].items():
        assert first["metrics"][metric] == pytest.approx(values, abs=1e-5, nan_ok=True), (name, metric)
