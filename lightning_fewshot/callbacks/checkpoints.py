"""The best and the last checkpoint of a run."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


class Checkpoints(ModelCheckpoint):
    """Keep ``checkpoints/best.ckpt`` (by ``monitor``) and ``checkpoints/last.ckpt`` in the run folder.

    The last one is written at every validation, at SIGTERM and at Ctrl-C. Lightning writes to memory first and
    renames, so a kill leaves the old file or the new one.

    Args:
        monitor: Logged value that says which checkpoint is best.
        mode: Whether more of it is better ("max") or less ("min").
        every_n_steps: Also write the last checkpoint every so many training steps; 0 writes it at validations only.
    """

    def __init__(self, monitor: str = "val/loss", mode: str = "max", every_n_steps: int = 0) -> None:
        super().__init__(
            monitor=monitor,
            mode=mode,
            filename="best",
            save_top_k=1,
            save_last=True,
            save_on_exception=False,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self.every_n_steps = every_n_steps

    @property
    def last_good_path(self) -> str:
        """The newest checkpoint on disk, or an empty string."""
        return self.last_model_path or self.best_model_path

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the files into the run folder."""
        if self.dirpath is None:
            self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args, **kwargs) -> None:
        """Write the last checkpoint every ``every_n_steps`` steps."""
        super().on_train_batch_end(trainer, pl_module, *args, **kwargs)
        if self.every_n_steps and trainer.global_step and trainer.global_step % self.every_n_steps == 0:
            self._save_last(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the last checkpoint when the run is told to stop (SIGTERM, Ctrl-C); never after an error."""
        if isinstance(exception, (SystemExit, KeyboardInterrupt)) and trainer.training and trainer.global_step:
            self._save_last(trainer)
            print(f"stopped at step {trainer.global_step}; resume with --ckpt_path {self.last_model_path}")

    def _save_last(self, trainer: pl.Trainer) -> None:
        path = str(Path(self.dirpath) / "last.ckpt")
        trainer.save_checkpoint(path, self.save_weights_only)
        self.last_model_path = path
