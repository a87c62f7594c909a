"""The embedding over training as pictures: RepMet's figures 5 (t-SNE, colored by mode) and 6 (d) (representatives)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from lightning_fewshot.callbacks.loggers import wandb_loggers
from lightning_fewshot.classification.figures import (
    draw_maps,
    draw_representatives,
    nearest_images,
    nearest_modes,
    places,
)
from lightning_fewshot.classification.mixtures import ClassMixtures
from lightning_fewshot.classification.module import ClassifierModule


class Shown(NamedTuple):
    """Training images of the classes that are drawn.

    Args:
        images: ``(n, 3, H, W)`` uint8.
        labels: ``(n,)``.
        names: Of the classes.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]


class EmbeddingPictures(Callback):
    """Write ``pictures/embedding.png``, training images in the embedding, and ``pictures/representatives.png``.

    Models of ``lightning_fewshot.classification`` alone have these. Training is not changed by looking.

    Args:
        n_classes: How many training classes are drawn, the first ones by name.
        moments: When the embedding is drawn, as shares of the training, each in [0, 1].

    Raises:
        ValueError: A number out of range.
    """

    def __init__(self, n_classes: int = 8, moments: tuple[float, ...] = (0.0, 0.25, 1.0)) -> None:
        if n_classes < 1:
            raise ValueError(f"embedding_pictures.n_classes is {n_classes} but must be at least 1")
        for moment in moments:
            if not 0 <= moment <= 1:
                raise ValueError(f"embedding_pictures.moments has {moment} but all must be at least 0 and at most 1")
        self.n_classes = n_classes
        self.moments = tuple(moments)
        self._panels: list[tuple[str, Tensor, Tensor, Tensor]] = []
        self._steps: set[int] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the start, and note the steps at which to draw again.

        Raises:
            ValueError: The model is no classifier with an embedding.
        """
        if not isinstance(pl_module, ClassifierModule):
            raise ValueError(f"EmbeddingPictures draws classifiers, but the model is {type(pl_module).__name__}")
        self._panels = []
        self._shown = self._images(trainer)
        self._steps = {round(moment * float(trainer.estimated_stepping_batches)) for moment in self.moments}
        self._draw(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Draw the embedding where it is due."""
        self._draw(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write both pictures."""
        if not trainer.is_global_zero:
            return
        embedded, state = self._embedded(pl_module)
        shown, nearest = self._shown, nearest_images(embedded, state)
        pictures = {
            "representatives": draw_representatives(
                shown.images, labels=shown.labels, nearest=nearest, used=state.used, names=shown.names
            )
        }
        if self._panels:
            pictures["embedding"] = draw_maps(self._panels, shown.names)
        for name, picture in pictures.items():
            self._write(trainer, picture, name)

    def _images(self, trainer: pl.Trainer) -> Shown:
        parts, names = [], trainer.datamodule.class_names()[: self.n_classes]
        for episode in trainer.datamodule.reference_episodes():  # in the order of the classes
            kept = episode.query.labels < len(names)
            if not bool(kept.any()):
                break
            parts.append((episode.query.images[kept], episode.query.labels[kept]))
        images, labels = (torch.cat(rows) for rows in zip(*parts, strict=True))
        return Shown(images, labels, tuple(names))

    def _draw(self, trainer: pl.Trainer, module: ClassifierModule) -> None:
        if trainer.global_step not in self._steps or not trainer.is_global_zero:
            return
        self._steps.remove(trainer.global_step)
        embedded, state = self._embedded(module)
        modes = nearest_modes(embedded, self._shown.labels, state)
        self._panels.append((f"step {trainer.global_step}", places(embedded), self._shown.labels, modes))

    @torch.no_grad()
    def _embedded(self, module: ClassifierModule) -> tuple[Tensor, ClassMixtures]:
        """Return the embedding of the images, and the modes of their classes."""
        was_training = module.training
        module.eval()
        embedded = torch.cat([module.embed(images.to(module.device)) for images in self._shown.images.split(64)])
        state = module.modes_of_training(embedded, self._shown.labels.to(module.device))
        module.train(was_training)
        count = len(self._shown.names)
        return embedded.cpu(), ClassMixtures(state.representatives[:count].cpu(), state.used[:count].cpu())

    def _write(self, trainer: pl.Trainer, picture: Tensor, name: str) -> None:
        from lightning_fewshot.drawing import write_png

        path = Path(trainer.default_root_dir) / "pictures" / f"{name}.png"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(picture, path)
        except OSError as error:
            rank_zero_warn(f"cannot write the picture {path} ({error.strerror or error})")
            return
        for logger in wandb_loggers(trainer):
            logger.log_image(f"embedding/{name}", [str(path)])
