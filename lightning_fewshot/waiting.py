"""What makes the host wait for a GPU is done seldom: a step is queued while the one before is computed."""

from __future__ import annotations

from typing import ClassVar

import torch
from pytorch_lightning import LightningModule

from lightning_fewshot.episodes import Episode, Examples

LOOK_EVERY = 20  # training steps on a GPU between two that look at values


class FewWaits(LightningModule):
    """A module whose training steps seldom wait for the device.

    Attributes:
        stays_on_cpu: Fields of ``Examples`` that are worked on there: to ask a GPU for them would be to wait for it.
    """

    stays_on_cpu: ClassVar[tuple[str, ...]] = ()
    step_of_epoch: int = 0

    @property
    def looks(self) -> bool:
        """Whether values may be looked at, to tell what is wrong with them: in training on a GPU every 20th step."""
        return not self.training or self.device.type == "cpu" or self.step_of_epoch % LOOK_EVERY == 0

    def transfer_batch_to_device(self, batch: Episode, device: torch.device, dataloader_idx: int) -> Episode:
        """Move an episode, but for what ``stays_on_cpu``."""
        parts = {name: part for name in ("support", "query") if (part := getattr(batch, name)) is not None}
        nothing = dict.fromkeys(self.stays_on_cpu)
        bare = batch._replace(**{name: part._replace(**nothing) for name, part in parts.items()})
        moved = super().transfer_batch_to_device(bare, device, dataloader_idx)
        return moved._replace(**{name: self._whole(getattr(moved, name), part) for name, part in parts.items()})

    def _whole(self, moved: Examples, original: Examples) -> Examples:
        return moved._replace(**{field: getattr(original, field) for field in self.stays_on_cpu})
