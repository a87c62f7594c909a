"""MetaLearnerTracker: the meta-learner on a trained matching network, MLT's second stage (section 3.2.2)."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from lightning_fewshot.checkpoint_files import load_weights
from lightning_fewshot.episodes import Episode
from lightning_fewshot.models.mlt.matching import ADAM, THREE_SCALES, MatchingModule
from lightning_fewshot.models.mlt.meta_learner import MetaLearner, Specialiser
from lightning_fewshot.models.mlt.network import MatchState
from lightning_fewshot.models.mlt.settings import MatchingSettings, Memory, MetaLearnerSettings
from lightning_fewshot.models.mlt.tracking import MetaTracker
from lightning_fewshot.nn.response_loss import DiscLoss
from lightning_fewshot.settings import Optimization
from lightning_fewshot.tracking.crops import CropSettings
from lightning_fewshot.tracking.response import Search

RANDOM = "random"  # init_from: untrained features on purpose


class MetaLearnerTracker(MatchingModule):
    """Match an exemplar with search windows, and adapt the features to the target in one forward pass.

    The matching network of ``init_from`` is frozen; the meta-learner is trained on "clips".

    Args:
        init_from: Checkpoint of a MatchingTracker of the same ``matching`` sizes; or "random", untrained features, a
            control.
        matching: Sizes of the matching network.
        meta: The meta-learner.
        memory: What the tracker remembers, and how often it updates.
        loss: Which places match, and how they are weighted; the default is eq. (6). Its gradient is what the
            meta-learner is given.
        search: Scales, penalties and cosine window of the tracker (section 4.1).
        crops: Which crops the tracker cuts; as in the training data.
        optimization: Optimiser and learning rate; Adam at a constant rate as in section 3.2.
    """

    def __init__(
        self,
        init_from: str | None = None,
        matching: MatchingSettings = MatchingSettings(),
        meta: MetaLearnerSettings = MetaLearnerSettings(),
        memory: Memory = Memory(),
        loss: DiscLoss = DiscLoss(),
        search: Search = THREE_SCALES,
        crops: CropSettings = CropSettings(),
        optimization: Optimization = ADAM,
    ) -> None:
        super().__init__(matching, loss, search, crops=crops, optimization=optimization, init_from=init_from)
        self.meta = MetaLearner(matching.channels[-1], matching.kernels, meta)
        self.memory = memory
        self.network.requires_grad_(False)

    def on_fit_start(self) -> None:
        """Refuse to train a meta-learner on features that have learned nothing.

        Raises:
            ValueError: Nothing was given to start from.
        """
        self.train()
        if self.init_from is None and self.trainer.ckpt_path is None:
            raise ValueError(
                "init_from names no matching network: train one with `python -m lightning_fewshot fit "
                "--config experiments/mlt/matching.yaml`, then --model.init_args.init_from "
                "runs/mlt-matching/latest/checkpoints/best.ckpt"
            )

    def train(self, mode: bool = True) -> MetaLearnerTracker:
        """Keep the frozen matching network in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def load_initial(self, path: str) -> None:
        """Take the matching network of a finished first stage, all of it.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: Its matching network has other sizes; names the first parameter that differs.
        """
        if path == RANDOM:
            return
        saved = {n.removeprefix("network."): v for n, v in load_weights(path).items() if n.startswith("network.")}
        for name, value in self.network.state_dict().items():
            shape = tuple(saved[name].shape) if name in saved else "absent"
            if shape != tuple(value.shape):
                raise ValueError(f"init_from {path}: {name} is {shape} there but {tuple(value.shape)} here")
        self.network.load_state_dict(saved)

    def specialiser(self) -> Specialiser:
        """Return what makes target-specific kernels, with the present weights."""
        return Specialiser(self.network, self.meta, self.response_loss)

    def specialise(self, state: MatchState, patches: Tensor) -> MatchState:
        """Make target-specific kernels from context patches, in one forward pass: eqs. (2), (3) and (4).

        Args:
            state: Of P exemplars.
            patches: ``(P * M, 3, S, S)`` with the target at the centre.
        """
        return self.specialiser().from_patches(state, patches)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return eq. (7): make kernels from M patches of each clip, and judge them on all T.

        They must not fit the M alone.

        Raises:
            ValueError: The episode is not of "clips", or clips are shorter than the memory.
        """
        cells = self.cells(episode, "clips")
        count = len(episode.support.images)
        frames = len(episode.query.images) // count
        if frames < self.memory.size:
            raise ValueError(
                f"memory.size is {self.memory.size} but clips have {frames} patches: raise data.training.frames"
            )
        with torch.no_grad():
            state = self.network.adapt(episode.support.images)
            hidden = self.network.hidden(episode.query.images)  # (P * T, C, H, W)
        side = hidden.shape[-1] - state.hidden.shape[-1] + 1
        target = self.response_loss.target(cells, side).to(hidden.device, non_blocking=True)
        chosen = _chosen(count, frames, self.memory.size).to(hidden.device, non_blocking=True)
        state = self.specialiser().from_hidden(state, hidden[chosen], target[chosen])
        responses = self.network.match(state, hidden).flatten(0, 1)  # (P * T, H', W')
        return {"meta": self.response_loss(responses, target)}  # eq. (7)

    def on_validation_epoch_start(self) -> None:
        """Forget how long the last validation's sequences were."""
        self._longest = 0

    def validation_step(self, episode: Episode, batch_idx: int) -> Any:
        """Track one sequence."""
        self._longest = max(self._longest, len(episode.query.images))
        return super().validation_step(episode, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Say so where no sequence was long enough for an update: all checkpoints then tie."""
        super().on_validation_epoch_end()
        period = self.memory.update_every
        if self._longest <= period and not self.trainer.sanity_checking:
            warnings.warn(
                f"memory.update_every is {period} but the longest validation sequence has {self._longest} frames: "
                "no update was used, so every checkpoint is as good as the next",
                stacklevel=2,
            )

    def tracker(self) -> MetaTracker:
        """Return the tracker of Algorithm 1 with the present weights."""
        return MetaTracker(self.specialiser(), self.memory, self.search, crops=self.crops, device=self.device)


def _chosen(clips: int, frames: int, size: int) -> Tensor:
    """Choose ``size`` patches of each clip at random: their numbers ``(clips * size,)`` among all."""
    return torch.stack([torch.randperm(frames)[:size] + p * frames for p in range(clips)]).flatten()
