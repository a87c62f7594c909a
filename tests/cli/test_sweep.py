"""Sweeps without an account: cells, commands, failures, resuming."""

from pathlib import Path

import pytest
from sweep_runs import attempts

from lightning_fewshot.cli.sweep import main


def test_a_grid_runs_every_cell_once_and_names_the_best(write_sweep, capsys):
    main([write_sweep()])
    assert sorted(p.name for p in Path("runs/s").iterdir()) == ["x=0", "x=1", "x=3"]
    assert "3 finished, 0 failed" in (text := capsys.readouterr().out)
    assert "best test/score: -1, runs/s/x=1" in text
    main(["s.yaml"])
    assert [len(attempts(cell)) for cell in ("x=0", "x=1", "x=3")] == [1, 1, 1]
    assert "start" not in capsys.readouterr().out


def test_limit_stops_after_so_many_cells_and_the_next_call_goes_on(write_sweep):
    main([write_sweep(), "--limit", "2"])
    assert sorted(p.name for p in Path("runs/s").iterdir()) == ["x=0", "x=1"]
    main(["s.yaml", "--limit", "2"])
    assert sorted(p.name for p in Path("runs/s").iterdir()) == ["x=0", "x=1", "x=3"]


def test_null_reaches_the_command_as_the_agent_writes_it(write_sweep):
    main([write_sweep(), "--limit", "1"])
    assert attempts("x=0") == ["None None"]
    command = Path("runs/s/x=0/command.txt").read_text()
    assert command == "python fake.py fit --note=None --x=0 --run_dir=runs/s/x=0"


def test_failures_are_listed_with_their_log_and_run_again_on_request(write_sweep, capsys):
    Path("broken").touch()
    with pytest.raises(SystemExit) as exit_:
        main([write_sweep(), "--jobs", "2"])
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


def test_a_metric_that_no_run_gives_is_a_failure_that_names_what_there_is(write_sweep, capsys):
    with pytest.raises(SystemExit):
        main([write_sweep(metric={"name": "test/speed"}), "--limit", "1"])
    assert "has no number for test/speed; it has ['test/score']" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_random_and_bayes_draw_new_cells(write_sweep, method):
    write_sweep(method=method, parameters={"x": {"min": 0.0, "max": 4.0}, "note": {"values": ["a", None]}})
    main(["s.yaml", "--limit", "4", "--jobs", "2"])
    main(["s.yaml", "--limit", "1"])
    folders = list(Path("runs/s").iterdir())
    assert len(folders) == 5
    assert all(len((folder / "attempts.txt").read_text().splitlines()) == 1 for folder in folders)


def test_a_random_sweep_of_few_values_ends_when_all_were_drawn(write_sweep, capsys):
    write_sweep(method="random")
    main(["s.yaml", "--limit", "9"])
    assert "3 finished" in capsys.readouterr().out


def test_run_cap_holds_over_all_calls(write_sweep):
    write_sweep(method="random", run_cap=2, parameters={"x": {"distribution": "uniform", "min": 0, "max": 4}})
    main(["s.yaml"])
    main(["s.yaml"])
    assert len(list(Path("runs/s").iterdir())) == 2


def test_submitit_runs_the_cells(write_sweep, capsys):
    pytest.importorskip("submitit")
    main([write_sweep(), "--submit", "local", "--limit", "2", "--submit_args", "timeout_min=5"])
    assert "2 finished, 0 failed" in capsys.readouterr().out
    assert attempts("x=1") == ["None None"]
    assert list(Path("runs/s/submitit").glob("*submitted.pkl")) or list(Path("runs/s/submitit").iterdir())


def test_a_study_of_another_metric_is_refused(write_sweep):
    main([write_sweep(), "--limit", "1"])
    with pytest.raises(SystemExit, match="goal is 'minimize' but the study"):
        main([write_sweep(metric={"name": "test/score"})])


def test_a_cell_that_the_file_has_lost_is_not_run(write_sweep):
    Path("broken").touch()
    with pytest.raises(SystemExit):
        main([write_sweep()])
    main_args = [write_sweep(parameters={"x": {"values": [0, 3, 5]}}), "--retry"]
    main(main_args)
    assert len(attempts("x=1")) == 1
    assert len(attempts("x=5")) == 1


def test_list_prints_the_agents_commands(write_sweep, capsys):
    main([write_sweep(), "--list"])
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "/usr/bin/env python fake.py fit --note=None --x=0"
