"""The study of a sweep: an Optuna study in SQLite that several processes share.

A grid's cells go through Optuna's queue, one at a time under a lock on the file. ``GridSampler`` would not do: by its
own documentation several processes can be given the same cell, and a killed trial counts as visited.

States: COMPLETE is finished; FAIL with the attribute ``error`` failed; FAIL without it was killed and goes back into
the queue; PRUNED is a random draw of a cell that was drawn before.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from lightning_fewshot.cli.sweeping.file import Sweep
from lightning_fewshot.cli.sweeping.jobs import is_alive, process_record

DRAWS = 100  # draws that may be repetitions before a sweep of few values counts as exhausted
SQLITE_TIMEOUT_S = 120


@dataclass(frozen=True)
class Cell:
    """One cell that this process has taken.

    Args:
        name: Name of its folder.
        values: Its parameters.
        folder: Folder of its run.
        trial: Optuna's trial.
    """

    name: str
    values: dict[str, Any]
    folder: Path
    trial: Trial


class SweepStudy:
    """What is done of a sweep and what is next, shared through a file.

    Args:
        sweep: The sweep.
        path: The SQLite file; made if missing.
        runs: Folder of the runs, ``runs/<sweep>``.
    """

    def __init__(self, sweep: Sweep, path: Path, runs: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.sweep = sweep
        self.path = path
        self.runs = runs
        self._of_this_process: set[int] = set()  # trials whose end the one that took them will tell
        with self._locked():
            self.study = self._open()

    def take(self) -> Cell | None:
        """Take the next cell; None where none is left."""
        with self._locked():
            self._queue_killed()
            if self.sweep.method == "grid":
                return self._take_of_grid()
            return self._take_drawn()

    def finish(self, cell: Cell, value: float | None) -> None:
        """Note that a cell is done, with its metric where the sweep has one."""
        self.study.tell(cell.trial, 0.0 if value is None else value)
        self._of_this_process.discard(cell.trial.number)

    def fail(self, cell: Cell, reason: str) -> None:
        """Note that a cell failed, and why."""
        cell.trial.set_user_attr("error", reason)
        self.study.tell(cell.trial, state=TrialState.FAIL)
        self._of_this_process.discard(cell.trial.number)

    def retry_failed(self) -> None:
        """Put every cell that failed back into the queue."""
        with self._locked():
            for trial in self.last_trials().values():
                if trial.state == TrialState.FAIL:
                    self._queue(trial)

    def last_trials(self) -> dict[str, FrozenTrial]:
        """Return the latest trial of each cell of the file; killed ones and repetitions do not count."""
        trials = self._all_trials()
        if self.sweep.method != "grid":
            return trials
        names = {self.sweep.cell_name(values) for values in self.sweep.cells()}
        return {name: trial for name, trial in trials.items() if name in names}

    def _all_trials(self) -> dict[str, FrozenTrial]:
        trials = {}
        for trial in self.study.get_trials(deepcopy=False):
            killed = trial.state == TrialState.FAIL and "error" not in trial.user_attrs
            if not killed and trial.state != TrialState.PRUNED and "cell" in trial.user_attrs:
                trials[trial.user_attrs["cell"]] = trial
        return trials

    def _open(self) -> optuna.Study:
        options = {"connect_args": {"timeout": SQLITE_TIMEOUT_S}}
        storage = optuna.storages.RDBStorage(f"sqlite:///{self.path}", engine_kwargs=options)
        direction = "maximize" if self.sweep.maximize else "minimize"
        study = optuna.create_study(
            storage=storage, study_name=self.sweep.name, direction=direction, sampler=_sampler(self.sweep.method),
            load_if_exists=True,
        )  # fmt: skip
        self._check_same(study, {"method": self.sweep.method, "metric": self.sweep.metric, "goal": direction})
        return study

    def _check_same(self, study: optuna.Study, purpose: dict[str, Any]) -> None:
        """Refuse a study that was begun for something else."""
        begun = study.user_attrs.get("purpose", purpose)
        for key, value in purpose.items():
            if begun[key] != value:
                raise ValueError(
                    f"{self.sweep.path}: {key} is {value!r} but the study {self.path} was begun with {begun[key]!r}; "
                    "choose another --study"
                )
        study.set_user_attr("purpose", purpose)

    def _take_of_grid(self) -> Cell | None:
        cells = {self.sweep.cell_name(values): values for values in self.sweep.cells()}
        while True:
            if not self._waiting():
                free = [name for name in cells if name not in self.last_trials()]
                if not free:
                    return None
                self._enqueue(free[0], cells[free[0]])
            trial = self.study.ask()
            name = trial.user_attrs["cell"]
            if name in cells:
                return self._begin(trial, cells[name])
            self.study.tell(trial, state=TrialState.PRUNED)  # the file has lost this cell since

    def _take_drawn(self) -> Cell | None:
        for _ in range(DRAWS):
            waiting = self._waiting()
            if not waiting and len(self.last_trials()) >= min(self.sweep.run_cap or math.inf, self.sweep.size()):
                return None
            trial = self.study.ask()
            values = self._draw(trial)
            if waiting or self.sweep.cell_name(values) not in self.last_trials():
                return self._begin(trial, values)
            self.study.tell(trial, state=TrialState.PRUNED)
        return None

    def _draw(self, trial: Trial) -> dict[str, Any]:
        try:
            return {parameter.name: parameter.draw(trial) for parameter in self.sweep.parameters}
        except ValueError as error:
            self.study.tell(trial, state=TrialState.PRUNED)
            raise ValueError(
                f"the values in {self.sweep.path} changed since the study {self.path} was begun; choose another --study"
            ) from error

    def _begin(self, trial: Trial, values: dict[str, Any]) -> Cell:
        name = self.sweep.cell_name(values)
        cell = Cell(name=name, values=values, folder=self.runs / name, trial=trial)
        trial.set_user_attr("cell", name)
        trial.set_user_attr("values", json.dumps(values))
        trial.set_user_attr("runner", process_record(os.getpid()))  # until a job of its own is known
        self._of_this_process.add(trial.number)
        return cell

    def _queue_killed(self) -> None:
        """Put the cells of other processes that are gone back into the queue."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.number in self._of_this_process:
                continue
            record = trial.user_attrs.get("runner")
            cell = trial.user_attrs.get("cell")
            if record and cell and is_alive(record, self.runs / cell):
                continue
            self.study.tell(trial.number, state=TrialState.FAIL)
            if cell:
                self._queue(trial)

    def _queue(self, trial: FrozenTrial) -> None:
        attributes = {name: trial.user_attrs[name] for name in ("cell", "values")}
        self.study.enqueue_trial(trial.params, user_attrs=attributes)

    def _enqueue(self, name: str, values: dict[str, Any]) -> None:
        self.study.enqueue_trial({}, user_attrs={"cell": name, "values": json.dumps(values)})

    def _waiting(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time decide what is next."""
        with open(self.path.with_suffix(".lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)


def _sampler(method: str) -> optuna.samplers.BaseSampler:
    if method == "bayes":
        return optuna.samplers.TPESampler(constant_liar=True)  # cells that run elsewhere count as bad: others are tried
    return optuna.samplers.RandomSampler()
