"""Learnet's trackers as a LightningModule: train on pairs, evaluate on videos (section 3.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.learnet.export import StaticTrackingPupil
from lightning_fewshot.models.learnet.loss import response_loss
from lightning_fewshot.models.learnet.tracking.network import TemplateState, TrackingArchitecture, TrackingNetwork
from lightning_fewshot.models.learnet.tracking.streams import EXEMPLAR, STRIDE, Variant
from lightning_fewshot.module import decay_groups
from lightning_fewshot.nn.correlation import cell_coverage, target_cells
from lightning_fewshot.tracking.module import TrackingModule
from lightning_fewshot.tracking.response import ResponseTracker, Search

MATCHING_SIDE = 2.0  # cells: "except for the central 2 x 2 ones" (section 3.3)
ADJUST_LR = 10.0  # of the response's scale and offset, as a multiple of the learning rate
FIVE_SCALES = Search(scales=5, step=1.0255, penalty=0.962, damping=0.34, window=0.168)  # SiamFC's for five


class SiameseLearnetTracker(TrackingModule):
    """Track with a siamese network whose second layer is predicted from the exemplar; and with its baselines.

    Trained on ``datamodules.tracking.base`` episodes of kind "pairs"; evaluated on sequences.

    Args:
        architecture: Row of table 2: "siamese_shared", "siamese_unshared", "siamese_factorised", "siamese_learnet".
        stream: Size of phi: "A", "B", "C" (section 3.3), or "S", small enough to train on a CPU.
        learnet: Size of omega.
        balance: Locations that match and others weigh one half each in the loss of a map; False: all the same.
        search: Scales, penalties and cosine window of the tracker.
        context: Margin of the exemplar, as a share of width plus height; as in the training data.
        channels_last: Store maps pixel by pixel, which convolves faster on most machines.
        kwargs: Optimiser and schedule, see :class:`lightning_fewshot.module.FewShotModule`.
    """

    def __init__(
        self,
        architecture: TrackingArchitecture = "siamese_learnet",
        stream: Variant = "B",
        learnet: Variant = "A",
        balance: bool = True,
        search: Search = FIVE_SCALES,
        context: float = 0.5,
        channels_last: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.network = TrackingNetwork(architecture, stream, learnet, channels_last)
        self.balance, self.search, self.context = balance, search, context

    def adapt(self, support: Examples) -> TemplateState:
        """Return the templates, and the predicted filters, of P exemplar crops."""
        return self.network.adapt(support.images)

    def predict(self, state: TemplateState, query: Examples) -> Tensor:
        """Return responses ``(P, R, 17, 17)`` of ``P * R`` search patches; the learnet is not run."""
        return self.network.predict(state, query.images)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the logistic loss over all locations of the pairs' responses."""
        responses = self(episode).flatten(0, 1)  # (B, H', W')
        return {"locations": response_loss(responses, matching_cells(episode, responses), self.balance)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Keep weight decay off biases and normalisation; let the response's scale and offset move faster."""
        adjust = list(self.network.adjust.parameters())
        rest = [p for p in self.parameters() if not any(p is a for a in adjust)]
        return decay_groups(rest) + decay_groups(adjust, ADJUST_LR)

    def tracker(self) -> SiameseTracker:
        """Return the tracker with the present weights."""
        return SiameseTracker(self)

    def export_pupil(self, state: TemplateState) -> StaticTrackingPupil:
        """Return the pupil of one exemplar as an ordinary static network, ready for torch.export and ONNX.

        The export computes what ``predict`` does in evaluation mode: uint8 search patches ``(N, 3, 255, 255)`` to
        responses ``(N, 17, 17)``.
        """
        return StaticTrackingPupil(self.network, state)

    @torch.no_grad()
    def draw(self, episode: Episode, preds: Any) -> Tensor:
        """Return one ``(3, H, W)`` uint8 picture: the track, and figure 4 where filters are predicted."""
        from lightning_fewshot.models.learnet.tracking.visualization import draw_sequence

        return draw_sequence(self, episode, preds)


class SiameseTracker(ResponseTracker):
    """The exemplar of the first frame, searched for at five scales; nothing is learned on the way (section 3.3)."""

    def __init__(self, module: SiameseLearnetTracker) -> None:
        super().__init__(module.search, module.device, EXEMPLAR, context=module.context)
        self.architecture = module.network.architecture
        self._network = module.network

    def adapt(self, exemplar: Tensor) -> TemplateState:
        """Run the learnet once."""
        return self._network.adapt(exemplar)

    def respond(self, model: TemplateState, crops: Tensor) -> Tensor:
        """Run the pupil on all scales at once."""
        return self._network.predict(model, crops)[0]


def matching_cells(episode: Episode, responses: Tensor) -> Tensor:
    """Return which subwindows show the exemplar's object: 2 x 2 around its middle, none in pairs of two objects.

    With 17 x 17 responses the middle of a centred object is a cell, not a corner of four: the square of 2 x 2 cells
    around it covers that cell, half of its four neighbours and a quarter of the corners.

    Args:
        episode: B pairs, with ``query.boxes`` and ``query.labels``.
        responses: ``(B, H', W')``.

    Returns:
        ``(B, H', W')`` in [0, 1].

    Raises:
        ValueError: Boxes or labels are missing.
    """
    boxes, labels = episode.query.boxes, episode.query.labels
    if boxes is None or labels is None or len(labels) != len(responses):
        raise ValueError("training episodes must be pairs with boxes and labels: set data.train to pairs")
    cells = target_cells(torch.cat(boxes), EXEMPLAR, STRIDE).to(responses)
    coverage = cell_coverage(cells, responses.shape[-1], MATCHING_SIDE)
    return coverage * labels.to(responses)[:, None, None]
