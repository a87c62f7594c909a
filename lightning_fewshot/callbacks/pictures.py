"""Pictures of episodes in the run folder and in W&B, because people would rather look."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from lightning_fewshot.callbacks.loggers import wandb_loggers
from lightning_fewshot.episodes import Episode


class EpisodePictures(Callback):
    """Write ``pictures/<split>_<episode>.png``: support, query, prediction and truth of the first episodes.

    A test also leaves ``test_best_<rank>_<episode>.png`` and ``test_worst_<rank>_<episode>.png``, by the module's
    ``quality(episode, preds)``.

    Args:
        count: How many episodes of each validation and test to draw, and how many best and worst; 0 draws none.
    """

    def __init__(self, count: int = 4) -> None:
        if count < 0:
            raise ValueError(f"pictures.count is {count} but must be at least 0")
        self.count = count
        self._rated: dict[str, list[tuple[float, int, Tensor]]] = {"best": [], "worst": []}
        self._unwritable = False

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
        if self.count and trainer.is_global_zero:
            self._rate(pl_module, batch, outputs)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the ratings of an earlier test."""
        self._rated = {"best": [], "worst": []}

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the best and the worst episodes."""
        for kind, rated in self._rated.items():
            for rank, (_, index, picture) in enumerate(rated, 1):
                self._write(trainer, picture, f"test_{kind}_{rank}_{index:04d}", f"test/{kind}_{rank}")

    def _rate(self, module: pl.LightningModule, episode: Episode, preds: Any) -> None:
        """Keep the pictures of the episodes with the highest and with the lowest quality so far."""
        value = module.quality(episode, preds)
        for kind, sign in (("best", -1), ("worst", 1)):
            rated = self._rated[kind]
            if math.isfinite(value) and (len(rated) < self.count or sign * value < rated[-1][0]):
                rated.append((sign * value, episode.index, module.draw(episode, preds)))
                self._rated[kind] = sorted(rated, key=lambda row: row[:2])[: self.count]

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
        name = f"{split}_{episode.index:04d}"
        self._write(trainer, pl_module.draw(episode, preds), name, f"{split}/episode_{episode.index}")

    def _write(self, trainer: pl.Trainer, picture: Tensor, name: str, key: str) -> None:
        from lightning_fewshot.drawing import write_png

        if self._unwritable:
            return
        path = Path(trainer.default_root_dir) / "pictures" / f"{name}.png"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(picture, path)
        except OSError as error:
            self._unwritable = True
            rank_zero_warn(f"cannot write the picture {path} ({error.strerror or error}); no more are written")
            return
        for logger in wandb_loggers(trainer):
            logger.log_image(key, [str(path)])
