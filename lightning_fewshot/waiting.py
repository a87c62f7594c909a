"""What makes the host wait for a GPU is done seldom: a step is queued while the one before is computed."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

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

    def _check_finite(self, total: Tensor, terms: dict[str, Tensor], episode: Episode) -> None:
        if torch.isfinite(total):
            return
        values = ", ".join(f"{name} {float(value):g}" for name, value in terms.items())
        raise FloatingPointError(
            f"the loss is {float(total)} at step {self.global_step} ({values}); training episode {episode.index}, "
            f"images {', '.join(episode.query.names or ()) or 'unnamed'}. {self._advice()}"
        )

    def _advice(self) -> str:
        checkpoint = getattr(self.trainer.checkpoint_callback, "last_good_path", None) or "none was saved yet"
        return (
            f"Last good checkpoint: {checkpoint}. "
            "Lower the learning rate, or clip gradients with --trainer.gradient_clip_val 10."
        )


def without(episode: Episode, fields: tuple[str, ...]) -> Episode:
    """Return an episode without some fields of its support and query."""
    return _with(episode, {name: dict.fromkeys(fields) for name in _parts(episode)})


def with_those_of(episode: Episode, other: Episode, fields: tuple[str, ...]) -> Episode:
    """Return an episode with some fields of another one's support and query."""
    taken = {name: {f: getattr(part, f) for f in fields} for name, part in _parts(other).items()}
    return _with(episode, taken)


def _parts(episode: Episode) -> dict[str, Examples]:
    return {name: part for name in ("support", "query") if (part := getattr(episode, name)) is not None}


def _with(episode: Episode, fields: dict[str, dict[str, Any]]) -> Episode:
    parts = {name: part._replace(**fields[name]) for name, part in _parts(episode).items()}
    return episode._replace(**parts)
