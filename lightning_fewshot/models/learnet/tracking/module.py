"""Learnet's trackers as a LightningModule: train on pairs, evaluate on videos (section 3.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.exporting import Exportable
from lightning_fewshot.models.learnet.tracking.export import StaticTrackingPupil
from lightning_fewshot.models.learnet.tracking.network import TemplateState, TrackingArchitecture, TrackingNetwork
from lightning_fewshot.models.learnet.tracking.omega import Variant
from lightning_fewshot.nn.response_loss import SquareLoss, pair_targets, query_cells
from lightning_fewshot.nn.siamese import RESPONSE_LR, folded, split_parameters
from lightning_fewshot.settings import Optimization, decay_groups
from lightning_fewshot.tracking.crops import CropSettings
from lightning_fewshot.tracking.module import TrackingModule
from lightning_fewshot.tracking.response import ResponseTracker, Search

FIVE_SCALES = Search(scales=5, step=1.0255, penalty=0.962, damping=0.34, window=0.168)  # SiamFC's for five


class SiameseLearnetTracker(TrackingModule):
    """Track with a siamese network whose second layer is predicted from the exemplar; and with its baselines.

    Trained on episodes of "pairs", see ``lightning_fewshot.tracking.episodes``; evaluated on sequences.

    Args:
        architecture: Row of table 2: "siamese_shared", "siamese_unshared", "siamese_factorised", "siamese_learnet".
        stream: Size of phi: "A", "B", "C" (section 3.3), or "S", small enough to train on a CPU.
        learnet: Size of omega, of "siamese_learnet" alone; None: phi's.
        loss: Which places match, and how they are weighted.
        search: Scales, penalties and cosine window of the tracker.
        crops: Which crops the tracker cuts; as in the training data.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start training from, as far as names and shapes agree.

    Raises:
        ValueError: An option that does not exist, or a learnet where there is none.
    """

    def __init__(
        self,
        architecture: TrackingArchitecture = "siamese_learnet",
        stream: Variant = "B",
        learnet: Variant | None = None,
        loss: SquareLoss = SquareLoss(),
        search: Search = FIVE_SCALES,
        crops: CropSettings = CropSettings(),
        optimization: Optimization = Optimization(),
        init_from: str | None = None,
    ) -> None:
        super().__init__(optimization, init_from)
        self.network = TrackingNetwork(architecture, stream, learnet, exemplar=crops.exemplar)
        self.response_loss = loss
        self.search = search
        self.crops = crops

    def adapt(self, support: Examples) -> TemplateState:
        """Return the templates, and the predicted filters, of P exemplar crops."""
        return self.network.adapt(support.images)

    def predict(self, state: TemplateState, query: Examples) -> Tensor:
        """Return responses ``(P, R, 17, 17)`` of ``P * R`` search patches; the learnet is not run."""
        return self.network.predict(state, query.images)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the logistic loss over all locations of the pairs' responses (section 3.3)."""
        cells = query_cells(episode, "pairs", self.crops.exemplar, self.network.stream.stride)
        responses = self(episode).flatten(0, 1)  # (B, H', W')
        target = pair_targets(self.response_loss, episode, cells, responses)
        return {"locations": self.response_loss(responses, target)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Keep weight decay off biases and normalisation; let the response's scale and offset move faster."""
        rest, adjust = split_parameters(self, self.network.response)
        return decay_groups(rest) + decay_groups(adjust, RESPONSE_LR)

    def tracker(self) -> SiameseTracker:
        """Return the tracker with the present weights."""
        return SiameseTracker(self.network, self.search, self.crops, self.device)

    def export_pupil(self, state: TemplateState) -> StaticTrackingPupil:
        """Return the pupil of one exemplar as an ordinary static network, ready for torch.export and ONNX.

        The export computes what ``predict`` does in evaluation mode: uint8 search patches ``(N, 3, 255, 255)`` to
        responses ``(N, 17, 17)``.
        """
        return StaticTrackingPupil(self.network, state)

    def exportable(self, state: TemplateState, images: Tensor) -> Exportable:
        """Return the network of one target as a static one: search patches to responses, as ``export_pupil``."""
        says = "(N, h, w): how like the target every place of a search patch is"
        return Exportable(self.export_pupil(state), images, ("responses",), says)

    @torch.no_grad()
    def draw(self, episode: Episode, preds: Any) -> Tensor:
        """Return one ``(3, H, W)`` uint8 picture: the track, and figure 4 where filters are predicted."""
        from lightning_fewshot.models.learnet.tracking.visualization import draw_sequence

        return draw_sequence(episode, preds, network=self.network, crops=self.crops, device=self.device)


class SiameseTracker(ResponseTracker):
    """The exemplar of the first frame, searched for at five scales; nothing is learned on the way (section 3.3).

    Args:
        network: One row of table 2, in evaluation mode.
        search: How responses become a box.
        crops: Which crops are cut.
        device: The network's.
    """

    def __init__(
        self, network: TrackingNetwork, search: Search, crops: CropSettings, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(search, crops, network.stream.stride, device)
        self.architecture = network.architecture
        self._network = network
        self.predict = folded(network).predict

    def adapt(self, exemplar: Tensor) -> TemplateState:
        """Run the learnet once."""
        return self._network.adapt(exemplar)

    def respond(self, model: TemplateState, crops: Tensor) -> Tensor:
        """Run the pupil on all scales at once."""
        return self.predict(model, crops)[0]
