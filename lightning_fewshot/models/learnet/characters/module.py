"""Learnet as a LightningModule: train on pairs, evaluate on one-shot recognition problems (sections 3.1 and 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.metrics.classification import MatchError
from lightning_fewshot.models.learnet.characters.compare import ComparisonName
from lightning_fewshot.models.learnet.characters.network import Architecture, LearnetNetwork, Predictor, PupilState
from lightning_fewshot.models.learnet.export import StaticPupil
from lightning_fewshot.models.learnet.loss import pair_loss, recognition_loss
from lightning_fewshot.module import FewShotModule, decay_groups


class SiameseLearnet(FewShotModule):
    """Predict the filters of a network that recognises one character, from one drawing of it.

    An episode holds P exemplars (support) and R inputs for each (query, exemplar by exemplar): R = 1 in training, the
    candidates of a recognition problem in evaluation. ``query.labels`` is 1 where input and exemplar are congruous.
    Exemplars that have labels are whole alphabets to train on, see :meth:`loss`.

    Args:
        architecture: Row of table 1.
        comparison: Column of table 1.
        predicted_layer: The convolution, 1 to 3, whose filters are predicted; the paper found 2 best.
        predictor: "factorised" (eq. 8), or "naive" (section 2.1) as an ablation.
        predict_bias: Predict b(z) too, beyond the paper's 1600 outputs.
        batch_norm: Normalise between layers and on predicted filters; the paper says it of tracking only.
        init_std: Standard deviation of the Gaussian initialisation; None scales it by fan-in.
        kwargs: Optimiser and schedule, see :class:`lightning_fewshot.module.FewShotModule`.
    """

    monitor = "val/error"
    mode = "min"

    def __init__(
        self,
        architecture: Architecture = "learnet",
        comparison: ComparisonName = "weighted_l1",
        predicted_layer: int = 2,
        predictor: Predictor = "factorised",
        predict_bias: bool = False,
        batch_norm: bool = True,
        init_std: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.network = LearnetNetwork(
            architecture, comparison, predicted_layer, predictor, predict_bias, batch_norm, init_std
        )

    def adapt(self, support: Examples) -> PupilState:
        """Return the parameters of P pupils for P exemplars; labels are not used, each exemplar is a class."""
        return self.network.adapt(support.images)

    def predict(self, state: PupilState, query: Examples) -> Tensor:
        """Return scores ``(P, R)`` of ``P * R`` images without running the learnet."""
        return self.network.predict(state, query.images)

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the logistic loss over pairs, eq. (2) for learnets and eq. (3) for siamese networks.

        Where exemplars have labels (``data.train: alphabets``), every input is compared with all exemplars of its
        alphabet instead, ``len(classes)`` of them, and the loss is that of recognising either from the other.
        """
        if episode.support.labels is None:
            return {"pairs": pair_loss(self(episode).flatten(), episode.query.labels)}
        scores = self.network.compare_all(episode.support.images, episode.query.images, len(episode.classes))
        return {"problems": recognition_loss(scores)}

    def build_metrics(self) -> MatchError:
        """Return the error rate of one-shot recognition, table 1."""
        return MatchError()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Keep weight decay off biases, normalisation, scale and l1 weights."""
        return decay_groups(self.parameters())

    def export_pupil(self, state: PupilState) -> StaticPupil:
        """Return the adapted pupil of one exemplar as an ordinary static network, ready for torch.export and ONNX.

        The export computes what ``predict`` does in evaluation mode: uint8 images ``(B, 1, 28, 28)`` to ``(B,)``.
        """
        return StaticPupil(self.network, state)

    @torch.no_grad()
    def draw(self, episode: Episode, preds: Tensor) -> Tensor:
        """Return one ``(3, H, W)`` uint8 picture: ranked problems, and figure 3 where filters are predicted."""
        from lightning_fewshot.models.learnet.characters.visualization import draw_filters, draw_problems, stack

        parts = [draw_problems(episode, preds)]
        if self.network.learnet is not None:
            parts.append(draw_filters(self.network, episode.support.images[:6], episode.query.images[0]))
        return stack(parts)
