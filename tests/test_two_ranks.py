"""Two processes (DDP, gloo, CPU) in bf16-mixed: an experiment trains to equal weights and measures what one would."""

import json
import math
import os
import socket
import subprocess
import sys

import pytest
from tiny_experiments import FOLDER, ROOT, RUNNABLE, command

TIMEOUT_S = 400
TRAINED = [path for path in RUNNABLE if command(path)[0] == "fit"]
SLOW = ("oslsm", "repmet")  # minutes where bfloat16 is emulated
MAIN = [p for p in TRAINED if p.parent == FOLDER and p.stem not in SLOW]
OTHERS = [p for p in TRAINED if p not in MAIN]


def _names(paths):
    return [path.relative_to(FOLDER).as_posix() for path in paths]


def run_all(names, data, folder):
    """Let pairs of processes go through experiments; return what each rank wrote by experiment, and its errors' text.

    A pair that fails ends there, and the next one goes on.
    """
    seen, texts = [{}, {}], {}
    while names:
        (folder / names[0]).mkdir(parents=True)
        ranks, logs = run_pair(names, data, folder / names[0])
        failed = next((name for name in names if any(name not in r or "error" in r[name] for r in ranks)), None)
        for rank in range(2):
            seen[rank] |= ranks[rank]
        if failed is None or not logs:
            return seen, texts
        texts[failed] = logs
        names = names[names.index(failed) + 1 :]
    return seen, texts


def run_pair(names, data, folder):
    """Let two processes go through experiments until one fails."""
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
    codes = [_wait(ranks, rank) for rank in range(2)]
    lines = [[json.loads(line) for line in (folder / f"{rank}.json").read_text().splitlines()] for rank in range(2)]
    logs = "".join((folder / f"{rank}.log").read_text()[-2000:] for rank in range(2) if codes[rank])
    return [{line["experiment"]: line for line in one} for one in lines], logs


def _wait(ranks, rank):
    """Wait for one rank; where it fails the other one would wait for it for ever."""
    try:
        code = ranks[rank].wait(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        code = "no end"
    if code:
        for process in ranks:
            process.kill()
    return code


@pytest.fixture(scope="module")
def seen(tiny_data, tmp_path_factory):
    """What both ranks saw of the main experiments that are fast."""
    return run_all(_names(MAIN), tiny_data, tmp_path_factory.mktemp("main"))


@pytest.fixture(scope="module")
def seen_of_others(tiny_data, tmp_path_factory):
    """What both ranks saw of all other experiments."""
    return run_all(_names(OTHERS), tiny_data, tmp_path_factory.mktemp("others"))


@pytest.mark.parametrize("name", _names(MAIN))
def test_two_ranks_agree(name, seen):
    check(name, *seen)


@pytest.mark.every_experiment
@pytest.mark.parametrize("name", _names(OTHERS))
def test_two_ranks_agree_on_the_others(name, seen_of_others):
    check(name, *seen_of_others)


def check(name, ranks, logs):
    """Compare what two ranks saw of an experiment."""
    assert name in ranks[0], logs.get(name)
    first, second = ranks[0][name], ranks[1].get(name, {})
    if "download" in first.get("error", ""):
        pytest.skip(first["error"])
    assert "error" not in first | second, f"{first.get('error') or second.get('error')}\n{logs.get(name)}"
    assert first["precision"] == "bf16-mixed"
    losses = first["losses"] + second["losses"]
    assert all(map(math.isfinite, losses)), losses
    assert len(losses) == 4 or "prototypes" in name, "two steps of each rank; prototypes are not trained"
    assert first["finite_weights"]
    assert first["same_weights"], "the ranks' weights differ: their gradients were not joined"
    for split, count in {"train": 4, "val": 3, "test": 3}.items():
        drawn = [rank[split] for rank in first["indices"]]
        assert not drawn[0] or sorted(drawn[0] + drawn[1]) == list(range(count)), (split, drawn)
    assert first["metrics"] == second["metrics"]
    assert first["metrics"].keys() == first["of_one_process"].keys()
    for metric, values in first["of_one_process"].items():
        assert first["metrics"][metric] == pytest.approx(values, abs=1e-5, nan_ok=True), metric
