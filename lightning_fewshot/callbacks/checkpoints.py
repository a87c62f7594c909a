"""The best and the last checkpoint of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_warn

from lightning_fewshot.checkpoint_entry import KEY
from lightning_fewshot.checkpoint_files import read_checkpoint, write_checkpoint

# The progress of a validation that stands before its first episode, as Lightning counts it: a resumed run begins it.
COUNTS = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
VALIDATION_DUE = {"total": COUNTS, "current": COUNTS, "is_last_batch": False}


class Checkpoints(ModelCheckpoint):
    """Keep ``checkpoints/best.ckpt`` (by ``monitor``) and ``checkpoints/last.ckpt`` in the run folder.

    The last one is written at every validation, at SIGTERM and at Ctrl-C. CheckpointFiles writes them, so a kill leaves
    the old file or the new one. A run that resumes from any of them ends as if it had
    never stopped.

    Args:
        monitor: Logged value that says which checkpoint is best; None: the model's own, ``FewShotModule.monitor``.
        mode: Whether more of it is better ("max") or less ("min"); None: the model's own.
        every_n_steps: Also write the last checkpoint every so many training steps; 0 writes it at validations only.
    """

    def __init__(
        self, monitor: str | None = None, mode: Literal["max", "min"] | None = None, every_n_steps: int = 0
    ) -> None:
        super().__init__(
            monitor=monitor,
            mode=mode or "max",
            filename="best",
            save_top_k=1,
            save_last=False,  # Lightning's is written only when the best one is
            save_on_train_epoch_end=False,  # but after every validation, before the last one is written
            save_on_exception=False,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self.every_n_steps = every_n_steps
        self._saved_step = 0
        self._validation_due = False

    @property
    def last_good_path(self) -> str:
        """The newest checkpoint on disk, or an empty string."""
        return next((p for p in (self.last_model_path, self.best_model_path) if Path(p).is_file()), "")

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the files into the run folder, and follow the model's own metric where none was named."""
        if self.monitor is None:
            best = ModelCheckpoint(monitor=pl_module.monitor, mode=pl_module.mode)
            self.monitor, self.mode, self.kth_value = best.monitor, best.mode, best.kth_value
        if self.dirpath is None:
            self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the best checkpoint of the run that is resumed, although this run writes into a new folder."""
        best = state_dict["best_model_path"]
        if best and not Path(best).is_file():
            rank_zero_warn(f"the best checkpoint so far, {best}, is gone; the search for the best starts anew")
        else:
            super().load_state_dict({**state_dict, "dirpath": self.dirpath})

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        """Remember the step that is on disk; where a validation was broken off, let a resumed run begin it again."""
        self._saved_step = trainer.global_step
        if self._validation_due:
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = VALIDATION_DUE

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Write the last checkpoint every ``every_n_steps`` steps, unless a validation follows that will write it."""
        super().on_train_batch_end(trainer, pl_module, *args, **kwargs)
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0 and not _validates_now(trainer):
            self._save_last(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the best checkpoint if this one is, and always the last."""
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the last checkpoint of an epoch without a validation."""
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.global_step != self._saved_step:
            self._save_last(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the last checkpoint when the run is told to stop (SIGTERM, Ctrl-C); never after an error.

        What cannot be written (a full disk) is said with the checkpoint to go on from.
        """
        if isinstance(exception, OSError):
            exception.last_checkpoint = self.last_good_path  # for the command line's message
        if not isinstance(exception, (SystemExit, KeyboardInterrupt)) or trainer.state.fn != "fit":
            return
        self._validation_due = trainer.validating
        if trainer.global_step != self._saved_step:
            self._save_last(trainer)
        trainer.print(f"stopped at step {trainer.global_step}; resume with --ckpt_path {self.last_good_path}")

    def _save_last(self, trainer: pl.Trainer) -> None:
        if trainer.fast_dev_run:
            return
        self.last_model_path = str(Path(self.dirpath) / "last.ckpt")
        trainer.save_checkpoint(self.last_model_path, self.save_weights_only)


class CheckpointFiles(TorchCheckpointIO):
    """How a trainer writes and reads checkpoints: whole or not at all, and verified.

    Args:
        run: Data and seeds of the run, as plain data: what a resumed run is compared with.
    """

    def __init__(self, run: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.run = run or {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint that also says of which run it is."""
        entry = {KEY: {**checkpoint[KEY], "run": self.run}} if KEY in checkpoint else {}
        write_checkpoint({**checkpoint, **entry}, path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint: tensors and plain data, never code.

        Raises:
            ValueError: It is damaged, or a file of another program.
        """
        content = read_checkpoint(path)
        if "pytorch-lightning_version" not in content:
            raise ValueError(f"{path} is no checkpoint of a run: it has no 'pytorch-lightning_version'")
        return content


def _validates_now(trainer: pl.Trainer) -> bool:
    return trainer.fit_loop.epoch_loop._should_check_val_fx(trainer.fit_loop._data_fetcher)
