"""``metrics.csv`` of a run folder: losses and metrics by step, continued where a run is resumed."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment

from lightning_fewshot.files import write_atomically
from lightning_fewshot.metric_rows import finite, read_metric_rows


class MetricsFile(CSVLogger):
    """Write ``metrics.csv`` into the run folder, after the rows that stand there.

    Args:
        run_dir: Folder of the run.
        until: Steps of the checkpoint that training goes on from: later rows of the file are written anew; 0: training
            starts, and a file of an earlier one is kept under another name; None: no training, all rows stay.
    """

    def __init__(self, run_dir: Path, until: int | None = None) -> None:
        super().__init__(save_dir=str(run_dir), name="", version="")
        self._until = until

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """Return what writes the file."""
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir, self._until)
        return self._experiment


class _Writer(ExperimentWriter):
    def __init__(self, log_dir: str, until: int | None) -> None:
        self._until = until
        super().__init__(log_dir)
        path = Path(self.metrics_file_path)
        if path.is_file():
            self.metrics_keys = read_metric_rows(path)[0]

    def _check_log_dir_exists(self) -> None:
        """Keep the rows of the run that is resumed; Lightning deletes them."""
        path = Path(self.metrics_file_path)
        if not path.is_file() or self._until is None:
            return
        if self._until == 0:
            os.replace(path, _unused(path))
            return
        fields, rows = read_metric_rows(path)
        _write(path, [row for row in rows if _is_before(row, self._until)], fields)

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        _write(path, read_metric_rows(path)[1], fieldnames)


def _is_before(row: dict[str, Any], step: int) -> bool:
    """Return whether the checkpoint of ``step`` knows of a row; training logs steps from 0."""
    logged = finite(row.get("step"))
    return logged is None or int(logged) < step


def _write(path: Path, rows: list[dict[str, Any]], fields: list[str]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=fields, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def _unused(path: Path) -> Path:
    number = 1
    while (candidate := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return candidate
