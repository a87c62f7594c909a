"""The matching network as a tracker: MLT's first stage, and the baseline "MLT w/o meta" (sections 3.2.1 and 4.2.1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.exporting import Exportable
from lightning_fewshot.models.mlt.export import StaticMatcher
from lightning_fewshot.models.mlt.meta_learner import Specialiser
from lightning_fewshot.models.mlt.network import MatchingNetwork, MatchState
from lightning_fewshot.models.mlt.settings import MatchingSettings
from lightning_fewshot.models.mlt.tracking import MatchTracker
from lightning_fewshot.nn.response_loss import DiscLoss, pair_targets, query_cells
from lightning_fewshot.nn.siamese import RESPONSE_LR, split_parameters
from lightning_fewshot.settings import Optimization
from lightning_fewshot.tracking.crops import CropSettings
from lightning_fewshot.tracking.module import TrackingModule
from lightning_fewshot.tracking.response import Search

THREE_SCALES = Search(scales=3, step=1.05, penalty=0.95, damping=0.6, window=1.0, rule="multiply")  # section 4.1
ADAM = Optimization("Adam", schedule="constant")  # section 3.2


class MatchingModule(TrackingModule):
    """What both stages are: a matching network that compares crops, and is a tracker.

    Args:
        matching: Sizes of the matching network.
        loss: Which places match, and how they are weighted; the default is eq. (6).
        search: Scales, penalties and cosine window of the tracker (section 4.1).
        crops: Which crops the tracker cuts; as in the training data.
        optimization: Optimiser and learning rate; Adam at a constant rate as in section 3.2.
        init_from: Checkpoint of another run to start training from.
    """

    def __init__(
        self,
        matching: MatchingSettings = MatchingSettings(),
        loss: DiscLoss = DiscLoss(),
        search: Search = THREE_SCALES,
        crops: CropSettings = CropSettings(),
        optimization: Optimization = ADAM,
        init_from: str | None = None,
    ) -> None:
        super().__init__(optimization, init_from)
        self.network = MatchingNetwork(matching, crops.exemplar)
        self.response_loss = loss
        self.search = search
        self.crops = crops

    def adapt(self, support: Examples) -> MatchState:
        """Return the features of P exemplar crops."""
        return self.network.adapt(support.images)

    def predict(self, state: MatchState, query: Examples) -> Tensor:
        """Return responses ``(P, R, 17, 17)`` of ``P * R`` context patches."""
        return self.network.predict(state, query.images)

    def specialiser(self) -> Specialiser | None:
        """Return what makes target-specific kernels, if anything does."""
        return None

    def cells(self, episode: Episode, protocol: str) -> Tensor:
        """Return which cell of the response is each query's target, ``(B, 2)``."""
        return query_cells(episode, protocol, exemplar=self.crops.exemplar, stride=self.network.stream.stride)

    def export_pupil(self, state: MatchState) -> StaticMatcher:
        """Return the adapted matching network of one target as an ordinary static network, for torch.export and ONNX.

        The export computes what ``predict`` does in evaluation mode: uint8 patches ``(N, 3, 255, 255)`` to responses
        ``(N, 17, 17)``.
        """
        return StaticMatcher(self.network, state)

    def exportable(self, state: MatchState, images: Tensor) -> Exportable:
        """Return the network of one target as a static one: search patches to responses, as ``export_pupil``."""
        says = "(N, h, w): how like the target every place of a search patch is"
        return Exportable(self.export_pupil(state), images, ("responses",), says)

    @torch.no_grad()
    def draw(self, episode: Episode, preds: Any) -> Tensor:
        """Return one ``(3, H, W)`` uint8 picture: the track, and responses before and after an update."""
        from lightning_fewshot.models.mlt.visualization import draw_sequence

        return draw_sequence(episode, preds, network=self.network, crops=self.crops, specialiser=self.specialiser())


class MatchingTracker(MatchingModule):
    """Match an exemplar with search windows; nothing is learned on the way. Trained on "pairs".

    With the default sizes it is the matching network that :class:`MetaLearnerTracker` starts from; with
    ``matching.kernels`` 128 it is the baseline "MLT w/o meta".
    """

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return eq. (6) on pairs; a pair of two objects matches nowhere."""
        cells = self.cells(episode, "pairs")
        responses = self(episode).flatten(0, 1)  # (B, H', W')
        target = pair_targets(self.response_loss, episode, cells, responses)
        return {"matching": self.response_loss(responses, target)}  # eq. (6)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Let the response's scale and offset move faster than the rest."""
        rest, adjust = split_parameters(self, self.network.response)
        return [{"params": rest}, {"params": adjust, "lr_factor": RESPONSE_LR}]

    def tracker(self) -> MatchTracker:
        """Return the tracker with the present weights."""
        return MatchTracker(self.network, self.search, self.crops, self.device)
