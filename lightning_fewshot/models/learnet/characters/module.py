"""Learnet as a LightningModule: train on pairs, evaluate on one-shot recognition problems (sections 3.1 and 3.2)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.exporting import Exportable
from lightning_fewshot.metrics.classification import MatchError
from lightning_fewshot.models.learnet.characters.compare import ComparisonName
from lightning_fewshot.models.learnet.characters.drawings import drawings
from lightning_fewshot.models.learnet.characters.export import StaticPupil, StaticRecogniser
from lightning_fewshot.models.learnet.characters.loss import pair_loss, recognition_loss
from lightning_fewshot.models.learnet.characters.network import (
    Architecture,
    LearnetNetwork,
    PredictedLayer,
    PupilState,
)
from lightning_fewshot.models.learnet.characters.views import Views
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.settings import Optimization, decay_groups


class LabelledPupils(NamedTuple):
    """Pupils of several classes.

    Args:
        pupils: Of P exemplars.
        labels: ``(P,)`` int64, class of each.
    """

    pupils: PupilState
    labels: Tensor


class SiameseLearnet(FewShotModule):
    """Predict the filters of a network that recognises one character, from one drawing of it.

    An episode holds P exemplars (support) and R inputs for each (query, exemplar by exemplar): R = 1 in "pairs" to
    train on, the candidates of a recognition problem in evaluation. ``query.labels`` is 1 where input and exemplar are
    congruous. An episode of "alphabets" is trained on as a whole, see :meth:`loss`. Images of any size, grey or RGB,
    are converted to the networks' drawings, see :mod:`~lightning_fewshot.models.learnet.characters.drawings`.

    Args:
        architecture: Row of table 1.
        comparison: Column of table 1.
        predicted: The layer that is predicted, or factorised; None: the paper's, where the architecture has one.
        batch_norm: Normalise between layers and on predicted filters; the paper says it of tracking only.
        score_norm: Normalise similarities over the batch before the loss; the paper does not say.
        init_std: Standard deviation of the Gaussian initialisation; None scales it by fan-in.
        residual_blocks: Behind each of the first two convolutions of a stream; the paper has none.
        views: Average an input's scores over small affine maps of it in evaluation; None: the input alone.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start training from, as far as names and shapes agree.

    Raises:
        ValueError: An option that does not exist, or that the architecture has no use for.
    """

    monitor = "val/error"
    mode = "min"

    def __init__(
        self,
        architecture: Architecture = "learnet",
        comparison: ComparisonName = "weighted_l1",
        predicted: PredictedLayer | None = None,
        batch_norm: bool = True,
        score_norm: bool = True,
        init_std: float | None = None,
        residual_blocks: int = 0,
        views: Views | None = None,
        optimization: Optimization = Optimization(),
        init_from: str | None = None,
    ) -> None:
        super().__init__(optimization, init_from)
        self.network = LearnetNetwork(
            architecture, comparison, predicted, batch_norm, score_norm, init_std, residual_blocks
        )
        self.views = views

    def adapt(self, support: Examples) -> PupilState:
        """Return the parameters of P pupils for P exemplars; labels are not used, each exemplar is a class."""
        return self.network.adapt(drawings(support.images))

    def predict(self, state: PupilState, query: Examples) -> Tensor:
        """Return scores ``(P, R)`` of ``P * R`` images without running the learnet."""
        images = drawings(query.images)
        if self.views is None or self.training:
            return self.network.predict(state, images)
        return torch.stack([self.network.predict(state, view) for view in self.views.of(images)]).mean(0)

    def adapt_images(self, support: Examples) -> LabelledPupils:
        """Return the pupils of labelled exemplars; a class may have several."""
        return LabelledPupils(self.adapt(support), support.labels)

    def predict_images(self, state: LabelledPupils, query: Examples) -> list[Tensor]:
        """Return the posteriors ``(N,)`` of the classes for each image, given that it shows one of them.

        The score of a class is the mean over its exemplars.
        """
        images, count = drawings(query.images), len(state.labels)
        scores = self.network.predict(state.pupils, images.repeat(count, 1, 1, 1))  # (P, Q)
        of_class = torch.nn.functional.one_hot(state.labels).to(scores)  # (P, N)
        return list((scores.T @ of_class / of_class.sum(0)).softmax(-1))

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the logistic loss over pairs, eq. (2) for learnets and eq. (3) for siamese networks.

        In an episode of "alphabets" every input is compared with all exemplars of its alphabet instead,
        ``len(classes)`` of them, and the loss is that of recognising either from the other.

        Raises:
            ValueError: The episode is neither of "pairs" nor of "alphabets".
        """
        if episode.protocol == "alphabets":
            images = drawings(episode.support.images), drawings(episode.query.images)
            return {"problems": recognition_loss(self.network.compare_all(*images, len(episode.classes)))}
        if episode.protocol != "pairs":
            raise ValueError(f"training episodes are {episode.protocol!r} but must be 'pairs' or 'alphabets'")
        return {"pairs": pair_loss(self(episode).flatten(), episode.query.labels)}

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

    def exportable(self, state: LabelledPupils, images: Tensor) -> Exportable:
        """Return the pupils of all exemplars as one static network, from drawings to posteriors of the classes."""
        count = len(state.pupils.reference)
        network = StaticRecogniser([self.export_pupil(state.pupils.exemplar(i)) for i in range(count)], state.labels)
        return Exportable(
            network, drawings(images), ("posteriors",), "(B, N); images are (B, 1, 28, 28), dark on light"
        )

    @torch.no_grad()
    def draw(self, episode: Episode, preds: Tensor) -> Tensor:
        """Return one ``(3, H, W)`` uint8 picture: ranked problems, and figure 3 where filters are predicted."""
        from lightning_fewshot.models.learnet.characters.visualization import draw_filters, draw_problems
        from lightning_fewshot.models.learnet.tiles import stack

        exemplars, candidates = drawings(episode.support.images), drawings(episode.query.images)
        parts = [draw_problems(exemplars, candidates, labels=episode.query.labels, scores=preds)]
        if self.network.learnet is not None:
            parts.append(draw_filters(self.network, exemplars[:6], candidates[0]))
        return stack(parts)
