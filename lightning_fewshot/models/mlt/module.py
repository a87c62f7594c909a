"""MetaLearnerTracker: the matching network and its meta-learner, trained one after the other (MLT, section 3.2)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from lightning_fewshot.checkpoint_files import load_weights
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.mlt.export import StaticMatcher
from lightning_fewshot.models.mlt.loss import match_loss, target_map
from lightning_fewshot.models.mlt.meta_learner import HIDDEN, KEEP, MetaLearner, negative_gradient
from lightning_fewshot.models.mlt.network import (
    CHANNELS,
    EXEMPLAR,
    KERNELS,
    STRIDE,
    TARGET_KERNELS,
    MatchingNetwork,
    MatchState,
)
from lightning_fewshot.models.mlt.tracking import MetaTracker
from lightning_fewshot.nn.correlation import target_cells
from lightning_fewshot.settings import Optimization
from lightning_fewshot.tracking.module import TrackingModule
from lightning_fewshot.tracking.response import Search

RANDOM = "random"  # init_from: untrained features on purpose
ADJUST_LR = 10.0  # of the response's scale and offset, as a multiple of the learning rate
THREE_SCALES = Search(scales=3, step=1.05, penalty=0.95, damping=0.6, window=1.0, rule="multiply")  # section 4.1


class MetaLearnerTracker(TrackingModule):
    """Match an exemplar with search windows, and adapt the features to the target in one forward pass.

    Two stages, two runs: "matching" trains the matching network on pairs (section 3.2.1) and gives the baseline "MLT
    w/o meta"; "meta" trains the meta-learner on clips, the matching network of ``init_from`` frozen (section 3.2.2).

    Args:
        stage: "matching" or "meta".
        init_from: Checkpoint of a "matching" run that a "meta" run starts from; or "random", untrained features, a
            control.
        channels: Of the matching network's first four layers.
        kernels: Of its last layer; the baseline "MLT w/o meta" has 128.
        target_kernels: Kernels that the meta-learner makes for a target.
        hidden: Units of both intermediate layers of the meta-learner.
        keep: Keep probability of its dropout.
        memory: M, patches that the gradient is taken on.
        update_every: T, frames from one update of the tracker to the next; 0: no updates.
        least_score: Logit that a response must exceed somewhere for its patch to be remembered; None: every patch
            may be, as in the paper.
        radius: Cells around the target that count as matching too; 0 as in the paper.
        balance: Places of the target and others weigh one half each; False as in eq. (6).
        search: Scales, penalties and cosine window of the tracker (section 4.1).
        context: Margin of the exemplar, as a share of width plus height; as in the training data.
        channels_last: Store maps pixel by pixel, which convolves faster on most machines.
        optimization: Optimiser and learning rate; Adam at a constant rate as in section 3.2.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        stage: Literal["matching", "meta"] = "matching",
        init_from: str | None = None,
        channels: tuple[int, int, int, int] = CHANNELS,
        kernels: int = KERNELS,
        target_kernels: int = TARGET_KERNELS,
        hidden: int = HIDDEN,
        keep: float = KEEP,
        memory: int = 4,
        update_every: int = 90,
        least_score: float | None = None,
        radius: float = 0.0,
        balance: bool = False,
        search: Search = THREE_SCALES,
        context: float = 0.5,
        channels_last: bool = True,
        optimization: Optimization = Optimization("Adam", schedule="constant"),
    ) -> None:
        super().__init__(optimization, init_from)
        counts = {"memory": (memory, 1), "target_kernels": (target_kernels, 1), "update_every": (update_every, 0)}
        for name, (count, least) in counts.items():
            if count < least:
                raise ValueError(f"{name} is {count} but must be at least {least}")
        if radius < 0:
            raise ValueError(f"radius is {radius} but must be at least 0")
        self.network = MatchingNetwork(tuple(channels), kernels, channels_last)
        self.meta = MetaLearner(channels[-1], kernels, target_kernels, hidden, keep) if stage == "meta" else None
        self.memory, self.update_every, self.least_score = memory, update_every, least_score
        self.radius, self.balance = radius, balance
        self.search, self.context = search, context
        if self.meta is not None:
            self.network.requires_grad_(False)

    def on_fit_start(self) -> None:
        """Refuse to train a meta-learner on features that have learned nothing.

        Raises:
            ValueError: Nothing was given to start from.
        """
        self.train()
        if self.meta is not None and self.init_from is None and self.trainer.ckpt_path is None:
            raise ValueError(
                "stage is 'meta' but init_from names no matching network: train one with "
                "experiments/mlt/matching.yaml, then --model.init_args.init_from runs/mlt_matching/.../best.ckpt"
            )

    def train(self, mode: bool = True) -> MetaLearnerTracker:
        """Keep the frozen matching network in evaluation mode."""
        super().train(mode)
        if self.meta is not None:
            self.network.eval()
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Let the response's scale and offset move faster than the rest."""
        adjust = [p for p in self.network.adjust.parameters() if p.requires_grad]
        own = [p for p in self.parameters() if p.requires_grad and not any(p is a for a in adjust)]
        return [{"params": own}] + ([{"params": adjust, "lr_factor": ADJUST_LR}] if adjust else [])

    # adapting and predicting ------------------------------------------------------------------------------------

    def adapt(self, support: Examples) -> MatchState:
        """Return the features of P exemplar crops; target-specific kernels come later, from :meth:`specialise`."""
        return self.network.adapt(support.images)

    def predict(self, state: MatchState, query: Examples) -> Tensor:
        """Return responses ``(P, R, 17, 17)`` of ``P * R`` context patches."""
        return self.network.predict(state, query.images)

    @torch.no_grad()
    def specialise(self, state: MatchState, patches: Tensor) -> MatchState:
        """Make target-specific kernels from context patches, in one forward pass: eqs. (2), (3) and (4).

        Args:
            state: Of P exemplars.
            patches: ``(P * M, 3, S, S)`` with the target at the centre.

        Raises:
            ValueError: There is no meta-learner.
        """
        if self.meta is None:
            raise ValueError("this MetaLearnerTracker has no meta-learner: its stage is 'matching'")
        hidden = self.network.hidden(patches)
        side = hidden.shape[-1] - state.hidden.shape[-1] + 1
        middle = hidden.new_full((len(patches), 2), (side - 1) / 2, dtype=torch.float32)
        return self._specialised(state, hidden, target_map(middle, side, self.radius))

    def _specialised(self, state: MatchState, hidden: Tensor, target: Tensor) -> MatchState:
        with torch.autocast(self.device.type, enabled=False):
            delta = negative_gradient(
                self.network.last_layer(), state.hidden.float(), hidden.float(), target
            )  # eq. (2)
        kernels = self.meta(delta.to(self.meta.layers[0].weight.dtype)).float()  # eq. (3)
        return self.network.with_kernels(state, kernels)  # eq. (4)

    # training ---------------------------------------------------------------------------------------------------

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return eq. (6) on pairs, or eq. (7) on clips."""
        return self._matching_loss(episode) if self.meta is None else self._meta_loss(episode)

    def _matching_loss(self, episode: Episode) -> dict[str, Tensor]:
        responses = self(episode).flatten(0, 1)  # (B, H', W')
        target = self._target(episode, responses.shape[-1])
        labels = episode.query.labels
        if labels is not None:  # a pair of two objects matches nowhere
            target = torch.where(labels.bool()[:, None, None], target, -1.0)
        return {"matching": match_loss(responses, target, self.balance)}

    def _meta_loss(self, episode: Episode) -> dict[str, Tensor]:
        """Make kernels from M patches of each clip, and judge them on all T, so that they do not fit the M alone."""
        count = len(episode.support.images)
        frames = len(episode.query.images) // count
        if frames < self.memory:
            raise ValueError(f"memory is {self.memory} but clips have {frames} patches: raise data.clip_frames")
        with torch.no_grad():
            state = self.network.adapt(episode.support.images)
            hidden = self.network.hidden(episode.query.images)  # (P * T, C, H, W)
        target = self._target(episode, hidden.shape[-1] - state.hidden.shape[-1] + 1)
        chosen = torch.stack([torch.randperm(frames)[: self.memory] + p * frames for p in range(count)]).flatten()
        chosen = chosen.to(hidden.device)
        state = self._specialised(state, hidden[chosen], target[chosen])
        responses = self.network.match(state, hidden).flatten(0, 1)  # (P * T, H', W')
        return {"meta": match_loss(responses, target, self.balance)}  # eq. (7)

    def _target(self, episode: Episode, side: int) -> Tensor:
        """Return y ``(B, side, side)`` of the query's boxes."""
        if episode.query.boxes is None or episode.support is None:
            raise ValueError("training episodes must have boxes: set data.train to pairs or clips")
        cells = target_cells(torch.cat(episode.query.boxes), EXEMPLAR, STRIDE).float()
        return target_map(cells, side, self.radius).to(self.device)

    def load_initial(self, path: str) -> None:
        """Take the weights of a finished first stage, all of them.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: Its matching network has other sizes; names the first parameter that differs.
        """
        if self.meta is None or path == RANDOM:
            return
        saved = load_weights(path)
        own = self.network.state_dict()
        found = {n.removeprefix("network."): v for n, v in saved.items() if n.startswith("network.")}
        for name, value in own.items():
            shape = tuple(found[name].shape) if name in found else "absent"
            if shape != tuple(value.shape):
                raise ValueError(f"init_from {path}: {name} is {shape} there but {tuple(value.shape)} here")
        self.network.load_state_dict(found)

    # tracking ---------------------------------------------------------------------------------------------------

    def tracker(self) -> MetaTracker:
        """Return the tracker of Algorithm 1 with the present weights."""
        return MetaTracker(self)

    def export_pupil(self, state: MatchState) -> StaticMatcher:
        """Return the adapted matching network of one target as an ordinary static network, for torch.export and ONNX.

        The export computes what ``predict`` does in evaluation mode: uint8 patches ``(N, 3, 255, 255)`` to responses
        ``(N, 17, 17)``.
        """
        return StaticMatcher(self.network, state)

    @torch.no_grad()
    def draw(self, episode: Episode, preds: Any) -> Tensor:
        """Return one ``(3, H, W)`` uint8 picture: the track, and responses before and after an update."""
        from lightning_fewshot.models.mlt.visualization import draw_sequence

        return draw_sequence(self, episode, preds)
