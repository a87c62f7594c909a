"""Sweeps without an account: cells, commands, sharing, resuming, failures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lightning_fewshot.cli.sweep import main
from lightning_fewshot.cli.sweeping.command import agent_command, cell_command
from lightning_fewshot.cli.sweeping.file import read_sweep
from lightning_fewshot.cli.sweeping.jobs import is_alive, process_record

SWEEPS = sorted(Path("experiments/sweeps").resolve().glob("*.yaml"))
ROOT = Path(__file__).parents[2]
FAKE = """
import argparse, json, os, pathlib, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
parser.add_argument("--note")
parser.add_argument("--run_dir", type=pathlib.Path)
parser.add_argument("--ckpt_path")
o, _ = parser.parse_known_args()
o.run_dir.mkdir(parents=True, exist_ok=True)
with open(o.run_dir / "attempts.txt", "a") as file:
    print(o.note, o.ckpt_path, file=file)
while pathlib.Path("hold").exists():
    time.sleep(0.05)
if pathlib.Path("broken").exists() and o.x == 1:
    sys.exit("x is 1")
record = {"protocol": {"split": "test"}, "metrics": {"score": {"value": -((o.x - 2) ** 2)}}}
(o.run_dir / "results.json").write_text(json.dumps(record))
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Work in an empty folder with the fake command; return what writes a sweep file there."""
    monkeypatch.chdir(tmp_path)
    Path("fake.py").write_text(FAKE)

    def write_sweep(**changes):
        content = {
            "method": "grid",
            "metric": {"name": "test/score", "goal": "maximize"},
            "command": ["${env}", "${interpreter}", "fake.py", "fit", "${args}"],
            "parameters": {"x": {"values": [0, 1, 3]}, "note": {"value": None}},
        }
        Path("s.yaml").write_text(yaml.safe_dump({k: v for k, v in (content | changes).items() if v is not None}))
        return "s.yaml"

    return write_sweep


def attempts(cell: str) -> list[str]:
    return Path(f"runs/s/{cell}/attempts.txt").read_text().splitlines()


def test_a_grid_runs_every_cell_once_and_names_the_best(write, capsys):
    main([write()])
    assert sorted(p.name for p in Path("runs/s").iterdir()) == ["x=0", "x=1", "x=3"]
    assert "3 finished, 0 failed" in (text := capsys.readouterr().out)
    assert "best test/score: -1, runs/s/x=1" in text
    main(["s.yaml"])
    assert [len(attempts(cell)) for cell in ("x=0", "x=1", "x=3")] == [1, 1, 1]
    assert "start" not in capsys.readouterr().out


def test_limit_stops_after_so_many_cells_and_the_next_call_goes_on(write):
    main([write(), "--limit", "2"])
    assert sorted(p.name for p in Path("runs/s").iterdir()) == ["x=0", "x=1"]
    main(["s.yaml", "--limit", "2"])
    assert sorted(p.name for p in Path("runs/s").iterdir()) == ["x=0", "x=1", "x=3"]


def test_null_reaches_the_command_as_the_agent_writes_it(write):
    main([write(), "--limit", "1"])
    assert attempts("x=0") == ["None None"]
    command = Path("runs/s/x=0/command.txt").read_text()
    assert command == "python fake.py fit --note=None --x=0 --run_dir=runs/s/x=0"


def test_failures_are_listed_with_their_log_and_run_again_on_request(write, capsys):
    Path("broken").touch()
    with pytest.raises(SystemExit) as exit_:
        main([write(), "--jobs", "2"])
    assert exit_.value.code == 1
    text = capsys.readouterr().out
    assert "2 finished, 1 failed" in text
    assert "failed: x=1: exit code 1; log: runs/s/x=1/sweep.log" in text
    assert "x is 1" in Path("runs/s/x=1/sweep.log").read_text()
    Path("broken").unlink()
    with pytest.raises(SystemExit):
        main(["s.yaml"])  # a failed cell is not run again unasked
    assert len(attempts("x=1")) == 1
    main(["s.yaml", "--retry"])
    assert len(attempts("x=1")) == 2


def test_a_metric_that_no_run_gives_is_a_failure_that_names_what_there_is(write, capsys):
    with pytest.raises(SystemExit):
        main([write(metric={"name": "test/speed"}), "--limit", "1"])
    assert "has no number for test/speed; it has ['test/score']" in capsys.readouterr().out


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
def test_a_killed_run_is_taken_up_again_from_its_checkpoint(write, ending):
    write()
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


def test_processes_share_the_cells(write):
    write(parameters={"x": {"values": list(range(8))}})
    sweeps = [start("--jobs", "2") for _ in range(2)]
    assert [sweep.wait(timeout=120) for sweep in sweeps] == [0, 0]
    assert [len(attempts(f"x={i}")) for i in range(8)] == [1] * 8
    started = [sweep.stdout.read().count("start") for sweep in sweeps]
    assert sum(started) == 8


def test_a_cell_that_runs_elsewhere_is_left_alone(write, capsys):
    write()
    Path("hold").touch()
    sweep = start("--limit", "1")
    wait_for(lambda: Path("runs/s/x=0/attempts.txt").exists())
    other = start()
    wait_for(lambda: Path("runs/s/x=1/attempts.txt").exists())
    Path("hold").unlink()
    assert (sweep.wait(timeout=60), other.wait(timeout=60)) == (0, 0)
    assert [len(attempts(cell)) for cell in ("x=0", "x=1", "x=3")] == [1, 1, 1]


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_random_and_bayes_draw_new_cells(write, method):
    write(method=method, parameters={"x": {"min": 0.0, "max": 4.0}, "note": {"values": ["a", None]}})
    main(["s.yaml", "--limit", "4", "--jobs", "2"])
    main(["s.yaml", "--limit", "1"])
    folders = list(Path("runs/s").iterdir())
    assert len(folders) == 5
    assert all(len((folder / "attempts.txt").read_text().splitlines()) == 1 for folder in folders)


def test_a_random_sweep_of_few_values_ends_when_all_were_drawn(write, capsys):
    write(method="random")
    main(["s.yaml", "--limit", "9"])
    assert "3 finished" in capsys.readouterr().out


def test_run_cap_holds_over_all_calls(write):
    write(method="random", run_cap=2, parameters={"x": {"distribution": "uniform", "min": 0, "max": 4}})
    main(["s.yaml"])
    main(["s.yaml"])
    assert len(list(Path("runs/s").iterdir())) == 2


def test_submitit_runs_the_cells(write, capsys):
    pytest.importorskip("submitit")
    main([write(), "--submit", "local", "--limit", "2", "--submit_args", "timeout_min=5"])
    assert "2 finished, 0 failed" in capsys.readouterr().out
    assert attempts("x=1") == ["None None"]
    assert list(Path("runs/s/submitit").glob("*submitted.pkl")) or list(Path("runs/s/submitit").iterdir())


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


BAD = [
    ({"metod": "grid"}, "unknown key 'metod'"),
    ({"method": "gird"}, "method is 'gird'"),
    ({"early_terminate": {"type": "hyperband"}}, "'early_terminate' is carried out by W&B's server only"),
    ({"parameters": {"x": {"vals": [1]}}}, "parameters.x has the unknown key 'vals'"),
    ({"parameters": {"x": {"values": [1, 2, 1]}}}, "parameters.x.values holds 1 twice"),
    ({"parameters": {"x": {"values": []}}}, "parameters.x.values is empty"),
    ({"parameters": {"x": 3}}, "parameters.x is 3 but must be a mapping"),
    ({"parameters": {"x": {"min": 0.0, "max": 1.0}}}, "parameters.x has no list of values"),
    ({"parameters": {"x": {"distribution": "cauchy"}}}, "distribution is 'cauchy'"),
    ({"parameters": {"x": {"min": 3, "max": 1}}}, "parameters.x.min is 3 but must be at most max, 1"),
    ({"metric": {"nam": "a"}}, "metric has the unknown key 'nam'"),
    ({"method": "bayes", "metric": None}, "method is bayes but metric.name is missing"),
    ({"method": "random"}, "give --limit N"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_file_is_an_error_that_names_key_and_file(write, changes, message):
    with pytest.raises(SystemExit) as exit_:
        main([write(**changes)])
    assert message in str(exit_.value)
    assert "s.yaml" in str(exit_.value)
    assert not Path("runs").exists()


def test_a_missing_file_and_broken_yaml(write):
    with pytest.raises(SystemExit, match="there is no sweep file none"):
        main(["none.yaml"])
    Path("s.yaml").write_text("method: [")
    with pytest.raises(SystemExit, match="is not YAML"):
        main(["s.yaml"])


def test_a_study_of_another_metric_is_refused(write):
    main([write(), "--limit", "1"])
    with pytest.raises(SystemExit, match="goal is 'minimize' but the study"):
        main([write(metric={"name": "test/score"})])


def test_a_cell_that_the_file_has_lost_is_not_run(write):
    Path("broken").touch()
    with pytest.raises(SystemExit):
        main([write()])
    main_args = [write(parameters={"x": {"values": [0, 3, 5]}}), "--retry"]
    main(main_args)
    assert len(attempts("x=1")) == 1
    assert len(attempts("x=5")) == 1


def test_distributions_stay_within_their_limits(write):
    import optuna

    drawn = {
        "i": {"min": 1, "max": 3},
        "log": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1},
        "exponent": {"distribution": "log_uniform", "min": -2, "max": 0},
        "step": {"distribution": "q_uniform", "min": 0, "max": 10, "q": 5},
        "normal": {"distribution": "normal", "mu": 3, "sigma": 0.1},
        "weighted": {"values": ["a", "b"], "probabilities": [1.0, 0.0]},
    }
    sweep = read_sweep(write(method="random", parameters=drawn))
    trial = optuna.create_study().ask()
    values = {parameter.name: parameter.draw(trial) for parameter in sweep.parameters}
    assert values["i"] in (1, 2, 3)
    assert 0.001 <= values["log"] <= 0.1
    assert 0.135 <= values["exponent"] <= 1
    assert values["step"] in (0, 5, 10)
    assert 2.5 < values["normal"] < 3.5
    assert values["weighted"] == "a"


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_no_sweep_of_the_project_holds_a_cell_twice(path):
    sweep = read_sweep(path)
    if sweep.method != "grid":
        return
    cells = list(sweep.cells())
    commands = [json.dumps(agent_command(sweep, values)) for values in cells]
    assert len(set(commands)) == len(commands) > 0
    assert len({sweep.cell_name(values) for values in cells}) == len(cells), "two cells share a folder"


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_macros_of_every_sweep_are_filled_in(path, tmp_path):
    sweep = read_sweep(path)
    values = {parameter.name: (parameter.grid() or [0.5])[0] for parameter in sweep.parameters}
    words = cell_command(sweep, values, tmp_path / "cell")
    assert not [word for word in words if "${" in word]
    assert words[-1] == f"--run_dir={tmp_path / 'cell'}"
    assert sys.executable in words


def test_list_prints_the_agents_commands(write, capsys):
    main([write(), "--list"])
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "/usr/bin/env python fake.py fit --note=None --x=0"
