"""Pictures of episodes in the run folder and in W&B, because people would rather look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from lightning_fewshot.callbacks.loggers import wandb_loggers
from lightning_fewshot.episodes import Episode


class EpisodePictures(Callback):
    """Write ``pictures/<split>_<episode>.png``: support, query, prediction and truth of the first episodes.

    Args:
        count: How many episodes of each validation and test to draw; 0 draws none.
    """

    def __init__(self, count: int = 4) -> None:
        if count < 0:
            raise ValueError(f"pictures.count is {count} but must be at least 0")
        self.count = count

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Episode, batch_idx: int, *_: Any
    ) -> None:
        """Draw the first validation episodes."""
        self._draw(trainer, pl_module, "val", batch, outputs, batch_idx)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Episode, batch_idx: int, *_: Any
    ) -> None:
        """Draw the first test episodes."""
        self._draw(trainer, pl_module, "test", batch, outputs, batch_idx)

    def _draw(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        split: str,
        episode: Episode,
        preds: Any,
        batch_idx: int,
    ) -> None:
        if batch_idx >= self.count or not trainer.is_global_zero or trainer.sanity_checking:
            return
        from lightning_fewshot.callbacks.drawing import draw_episode, write_png

        draw = getattr(pl_module, "draw", draw_episode)  # a paper may show its episodes in its own way
        picture = draw(episode, preds)
        folder = Path(trainer.default_root_dir) / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{split}_{episode.index:04d}.png"
        write_png(picture, path)
        for logger in wandb_loggers(trainer):
            logger.log_image(f"{split}/episode_{episode.index}", [str(path)])
