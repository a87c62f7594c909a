"""``python -m lightning_fewshot sweep FILE``: a W&B sweep file, run without an account.

Every cell runs in ``runs/<sweep>/<cell>``. The study is an SQLite file: start the same command in a second terminal, or
on another machine of the same file system, and both share the cells. Start it again after a crash and it goes on:
finished cells are skipped, killed ones are resumed from their last checkpoint.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_fewshot.cli.sweeping.file import Sweep, read_sweep

if TYPE_CHECKING:
    from lightning_fewshot.cli.sweeping.study import Cell, SweepStudy

POLL_S = 0.2
ASK_AGAIN_S = 10.0  # how often to ask for a cell that another process gave up


def main(args: list[str]) -> None:
    """Run the command; exit with 1 where a cell failed or the file is wrong."""
    options = _parser().parse_args(args)
    try:
        sweep = read_sweep(options.file)
        if options.list:
            _list(sweep)
            return
        failures = _run(sweep, options)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from here")
    if failures:
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_fewshot sweep", description=__doc__.partition("\n\n")[2], allow_abbrev=False
    )
    parser.add_argument("file", help="a sweep file that `wandb sweep` takes, such as experiments/sweeps/<name>.yaml")
    parser.add_argument("--jobs", type=int, help="cells at a time (here: 1; submitted: all)")
    parser.add_argument(
        "--limit", type=int, help="cells that this call runs at most; random and bayes need it or run_cap"
    )
    parser.add_argument("--study", type=Path, help="the SQLite file (runs/sweeps/<name>.db)")
    parser.add_argument("--runs", type=Path, help="folder of the runs (runs/<name>)")
    parser.add_argument("--retry", action="store_true", help="run the cells that failed again")
    parser.add_argument("--list", action="store_true", help="print the commands of a grid and run nothing")
    parser.add_argument("--submit", choices=("slurm", "local"), help="hand the cells to submitit")
    parser.add_argument(
        "--submit_args",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of submitit's update_parameters: timeout_min=60, slurm_partition=gpu; can be repeated",
    )
    return parser


def _list(sweep: Sweep) -> None:
    from lightning_fewshot.cli.sweeping.command import agent_command

    if sweep.method != "grid":
        raise ValueError(f"--list is for grids but the method of {sweep.path} is {sweep.method}")
    for values in sweep.cells():
        print(shlex.join(agent_command(sweep, values)))


def _run(sweep: Sweep, options: argparse.Namespace) -> int:
    """Run the cells; return how many failed."""
    for name in ("jobs", "limit"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} is {value} but must be at least 1")
    if sweep.method != "grid" and not (options.limit or sweep.run_cap):
        raise ValueError(
            f"{sweep.path}: method is {sweep.method}, which never ends; give --limit N, or run_cap in the file"
        )
    from lightning_fewshot.cli.sweeping.study import SweepStudy

    study = SweepStudy(
        sweep,
        path=options.study or Path("runs") / "sweeps" / f"{sweep.name}.db",
        runs=options.runs or Path("runs") / sweep.name,
    )
    if options.retry:
        study.retry_failed()
    Runner(study, options).run()
    return _summarise(study)


class Runner:
    """Keep as many cells running as there may be.

    Args:
        study: Where the cells come from.
        options: The command line.
    """

    def __init__(self, study: SweepStudy, options: argparse.Namespace) -> None:
        self.study = study
        self.cluster = options.submit
        self.jobs = options.jobs or (sys.maxsize if options.submit else 1)
        self.limit = options.limit or sys.maxsize
        self.pool = self._make_pool(options.submit_args)
        self.threads = self._threads()
        self._running: dict[Any, Cell] = {}
        self._started = 0

    def run(self) -> None:
        """Run until no cell is left, or the limit is reached; end the children where this process is ended."""
        from lightning_fewshot.cli.sweeping.jobs import stop_children

        previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        try:
            self._loop()
        except BaseException:
            if self.cluster is None:
                self.pool.shutdown(wait=False, cancel_futures=True)
                stop_children()
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)

    def _loop(self) -> None:
        ask_at = 0.0
        while True:
            if time.monotonic() >= ask_at:
                self._fill()
                ask_at = time.monotonic() + ASK_AGAIN_S
            if not self._running:
                return
            if self._collect():
                ask_at = 0.0
            else:
                time.sleep(POLL_S)

    def _fill(self) -> None:
        """Start cells while there is room."""
        while len(self._running) < self.jobs and self._started < self.limit:
            cell = self.study.take()
            if cell is None:
                return
            self._start(cell)
            self._started += 1

    def _start(self, cell: Cell) -> None:
        from lightning_fewshot.cli.sweeping.command import cell_command
        from lightning_fewshot.cli.sweeping.jobs import job_record, run_command

        (cell.folder / "results.json").unlink(missing_ok=True)  # of an attempt that was killed
        words = cell_command(self.study.sweep, cell.values, cell.folder)
        future = self.pool.submit(run_command, words, str(cell.folder), self.threads)
        cell.trial.set_user_attr("runner", job_record(future, self.cluster))
        self._running[future] = cell
        print(f"start  {cell.name}", flush=True)

    def _collect(self) -> bool:
        """Note the cells that ended; return whether any did."""
        ended = [future for future in self._running if future.done()]
        for future in ended:
            cell = self._running.pop(future)
            try:
                value = self._value(future, cell)
            except (ValueError, OSError) as error:
                self.study.fail(cell, str(error))
                print(f"failed {cell.name}: {error}", flush=True)
            else:
                self.study.finish(cell, value)
                print(f"done   {cell.name}" + ("" if value is None else f": {value:.6g}"), flush=True)
        return bool(ended)

    def _value(self, future: Any, cell: Cell) -> float | None:
        from lightning_fewshot.cli.sweeping.metric import read_metric

        try:
            code = future.result()
        except Exception as error:  # submitit raises what it saw on the node
            raise ValueError(f"the job ended without an answer: {str(error).strip().splitlines()[-1]}") from error
        if code:
            raise ValueError(f"exit code {code}")
        metric = self.study.sweep.metric
        return read_metric(cell.folder, metric) if metric else None

    def _make_pool(self, settings: list[str]) -> Any:
        from lightning_fewshot.cli.sweeping.jobs import local_pool, submitit_pool

        if self.cluster is None:
            return local_pool(self.jobs)
        return submitit_pool(self.cluster, self.study.runs / "submitit", _settings(settings))

    def _threads(self) -> int | None:
        """Share the cores between the cells of this machine."""
        import os

        return max(1, (os.cpu_count() or 1) // self.jobs) if self.cluster is None and self.jobs > 1 else None


def _settings(words: list[str]) -> dict[str, Any]:
    """Read ``key=value`` words; numbers are numbers."""
    import yaml

    pairs = [word.partition("=") for word in words]
    for key, equals, _ in pairs:
        if not equals:
            raise ValueError(f"--submit_args holds {key!r} but must be key=value")
    return {key: yaml.safe_load(value) for key, _, value in pairs}


def _summarise(study: SweepStudy) -> int:
    """Print what was done and what failed; return the number of failures."""
    trials = study.last_trials()
    by_state: dict[str, list[str]] = {}
    for name, trial in trials.items():
        by_state.setdefault(trial.state.name, []).append(name)
    failed, done = by_state.get("FAIL", []), by_state.get("COMPLETE", [])
    others = {"RUNNING": "running elsewhere", "WAITING": "waiting"}
    more = "".join(f", {len(by_state[state])} {word}" for state, word in others.items() if state in by_state)
    print(f"{study.sweep.name}: {len(done)} finished, {len(failed)} failed{more}; study: {study.path}")
    if study.sweep.metric and done:
        choose = max if study.sweep.maximize else min
        best = choose(done, key=lambda name: trials[name].value)
        print(f"best {study.sweep.metric}: {trials[best].value:.6g}, {study.runs / best}")
    for name in failed:
        print(f"failed: {name}: {trials[name].user_attrs['error']}; log: {study.runs / name / 'sweep.log'}")
    if failed:
        print("run the failed ones again with --retry")
    return len(failed)
