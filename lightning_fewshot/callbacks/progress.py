"""One progress bar for a whole fit, with the time left and the newest validation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor

LINES = 10  # a log file gets this many lines a fit instead of a moving bar
FIRST_LINE = 5.0  # seconds after which it gets one more, where the first tenth takes longer
BAR_SECONDS = 0.1  # between two states of the bar


class Progress(ProgressBar):
    """Steps done, time spent, time left, loss. Into a file or a pipe it writes ten lines instead of a bar."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console()
        self._bar: Bar | None = None
        self._enabled = True

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown; ``module.print`` and ``trainer.print`` then print through this bar."""
        return self._enabled

    def disable(self) -> None:
        """Show nothing (ranks other than 0)."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print without tearing the bar."""
        (self._bar.console if self._bar else self.console).print(*args, soft_wrap=True, **kwargs)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar over all steps of the fit."""
        self._start("fit", trainer.estimated_stepping_batches, trainer.global_step)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any) -> None:
        """Advance."""
        self._advance(trainer.global_step, lambda: (outputs or {}).get("loss"))  # None where nothing is trained

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self._stop()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say the newest estimates in one line while fitting."""
        if trainer.state.fn == "fit" and self._enabled:
            values = "  ".join(f"{n} {e.value:.3f}" for n, e in pl_module.estimates.items())
            self.print(f"  step {trainer.global_step}: {values}", highlight=False)

    def _evaluation_start(self, trainer: pl.Trainer, name: str, batches: list[int | float]) -> None:
        if trainer.state.fn != "fit":
            self._start(name, sum(batches), 0)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open a bar over the episodes."""
        self._evaluation_start(trainer, "validate", trainer.num_val_batches)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open a bar over the episodes."""
        self._evaluation_start(trainer, "test", trainer.num_test_batches)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open a bar over the episodes."""
        self._evaluation_start(trainer, "predict", trainer.num_predict_batches)

    def _evaluation_batch_end(self, trainer: pl.Trainer, batch_idx: int) -> None:
        if trainer.state.fn != "fit":
            self._advance(batch_idx + 1)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        """Advance."""
        self._evaluation_batch_end(trainer, batch_idx)

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        """Advance."""
        self._evaluation_batch_end(trainer, batch_idx)

    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        """Advance."""
        self._evaluation_batch_end(trainer, batch_idx)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self._stop()

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self._stop()

    def show_frames(self, name: str, done: int, total: int) -> None:
        """Show the frames of one video as the steps of the bar."""
        if done == 1:
            self._start(name, total, 0)
        self._advance(done)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the error stands below it."""
        self._stop()

    def _start(self, name: str, total: float, done: int) -> None:
        if not self._enabled:
            return
        self._stop()
        self._name, self._total, self._first, self._began = name, total, done, time.monotonic()
        self._next_line = done + (total - done) / LINES
        self._next_moment = 0.0 if self.console.is_terminal else FIRST_LINE
        if self.console.is_terminal:
            columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
            columns += [TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[loss]}")]
            self._bar = Bar(*columns, console=self.console)
            self._task = self._bar.add_task(name, total=total, completed=done, loss="")
            self._bar.start()

    def _advance(self, done: int, loss: Callable[[], Tensor | None] = lambda: None) -> None:
        """Show how far the work is, where that is due; only then the loss is asked for, which waits for a GPU."""
        spent = time.monotonic() - self._began if self._enabled else 0.0
        if not self._enabled or not self._is_due(done, spent):
            return
        value = loss()
        text = "" if value is None else f"loss {float(value):.3f}"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, loss=text)
            return
        left = spent / max(done - self._first, 1) * (self._total - done)
        progress = f"{self._name} {done}/{self._total:.0f}  {spent:.0f} s, {left:.0f} s left"
        self.print(f"{progress}  {text}".rstrip(), highlight=False)

    def _is_due(self, done: int, spent: float) -> bool:
        """Say whether to show a step: ten times a second in a bar; a line early on, and then every tenth."""
        if self._bar is not None:
            due = spent >= self._next_moment or done >= self._total
            self._next_moment = spent + BAR_SECONDS if due else self._next_moment
            return due
        tenth = done >= self._next_line
        due = tenth or spent >= self._next_moment
        self._next_moment = float("inf") if due else self._next_moment
        self._next_line += tenth * (self._total - self._first) / LINES
        return due

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
