"""Learning feed-forward one-shot learners (Bertinetto et al., 2016): the networks of sections 3.1 and 3.2.

A stream phi is conv 5x5x1x16, pool, conv 5x5x16x64, pool, conv 4x4x64x512. The five architectures of table 1 differ in
where the exemplar z enters; all of them fit ``adapt(z) -> PupilState`` and ``predict(state, x) -> scores``:

    siamese shared / unshared     reference = phi(z) / phi'(z)                    score = Gamma(phi(x), reference)
    siamese unshared, factorised  the same, one layer is M' * w *_d M, learned w
    siamese learnet               w = omega(z), reference = phi(z; w)             score = Gamma(phi(x; w), reference)
    learnet (single stream)       w, reference (and weights of Gamma) = omega(z)  score = Gamma(phi(x; w), reference)

Shapes: P exemplars, R inputs of each, D = 512 features, F filter side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from torch import Tensor, nn

from lightning_fewshot.models.learnet.characters.compare import Comparison, ComparisonName
from lightning_fewshot.models.learnet.characters.drawings import ink
from lightning_fewshot.models.learnet.characters.streams import CHANNELS, Learnet, Stream, initialise

Architecture = Literal[
    "siamese_shared", "siamese_unshared", "siamese_unshared_factorised", "siamese_learnet", "learnet"
]
Predictor = Literal["factorised", "naive"]
PLAIN = ("siamese_shared", "siamese_unshared")  # neither predict a layer nor factorise one
DYNAMIC = ("siamese_learnet", "learnet")  # predict a layer


@dataclass(frozen=True)
class PredictedLayer:
    """The layer that a learnet predicts; in a factorised siamese network, the layer that is factorised.

    Args:
        number: 1, 2 or 3, of the convolutions; the paper found 2 best.
        predictor: "factorised" (eq. 8) or "naive" (eq. 7, all weights predicted; an ablation).
        bias: Also predict b(z). The paper's 1600 outputs leave no room for it, so b is learned by default.

    Raises:
        ValueError: An option that is not among the ones named here.
    """

    number: int = 2
    predictor: Predictor = "factorised"
    bias: bool = False

    def __post_init__(self) -> None:
        _check_choice("number", self.number, (1, 2, 3))
        _check_choice("predictor", self.predictor, get_args(Predictor))


class PupilState(NamedTuple):
    """What an exemplar fixes in the pupil network.

    Args:
        filters: ``(P, ...)`` predicted weights of one layer; None where nothing is predicted.
        bias: ``(P, K)`` predicted bias of that layer, or None.
        reference: ``(P, D)`` what the pupil's output is compared with.
        weights: ``(P, D)`` predicted weights of the weighted l1 distance, or None.
    """

    filters: Tensor | None
    bias: Tensor | None
    reference: Tensor
    weights: Tensor | None

    def exemplar(self, index: int) -> PupilState:
        """Return the state of one exemplar."""
        return PupilState(*(None if part is None else part[index : index + 1] for part in self))


class LearnetNetwork(nn.Module):
    """One cell of table 1.

    Args:
        architecture: Where the exemplar enters: see the module's table.
        comparison: Gamma: inner product, Euclidean distance or weighted l1 distance.
        predicted: The layer that is predicted, or factorised; None: the paper's, where the architecture has one.
        batch_norm: Batch normalisation after every convolution but the last, and of predicted filters.
        score_norm: Batch normalisation of similarities.
        init_std: Standard deviation of the Gaussian initialisation; None scales it by fan-in.
        residual_blocks: Behind each of the first two convolutions of a stream; the paper has none.

    Raises:
        ValueError: An option that is not among the ones named here, or that the architecture has no use for.
    """

    def __init__(
        self,
        architecture: Architecture = "learnet",
        comparison: ComparisonName = "weighted_l1",
        predicted: PredictedLayer | None = None,
        batch_norm: bool = True,
        score_norm: bool = True,
        init_std: float | None = None,
        residual_blocks: int = 0,
    ) -> None:
        super().__init__()
        if residual_blocks < 0:
            raise ValueError(f"residual_blocks is {residual_blocks} but must be at least 0")
        _check_choice("architecture", architecture, get_args(Architecture))
        _check_predicted(architecture, predicted)
        layer = predicted or PredictedLayer()
        self.architecture = architecture
        dynamic, single = architecture in DYNAMIC, architecture == "learnet"
        kind = layer.predictor if dynamic else "plain" if architecture in PLAIN else "learned"
        stream = (kind, layer.number - 1, batch_norm, residual_blocks)
        self.stream = Stream(*stream)
        self.other = Stream(*stream) if "unshared" in architecture else None
        self.compare = Comparison(comparison, CHANNELS[-1], not single, score_norm)
        initialise(self, init_std)
        self.learnet = None
        if dynamic:
            outputs = {"reference": CHANNELS[-1] * single, "weights": CHANNELS[-1] * self.compare.needs_weights}
            bias = CHANNELS[layer.number] if layer.bias else 0
            shape = self.stream.convs[layer.number - 1].weight_shape
            self.learnet = Learnet(shape, {"bias": bias, **outputs}, batch_norm, init_std)

    def adapt(self, exemplars: Tensor) -> PupilState:
        """Turn exemplars ``(P, 1, 28, 28)`` uint8, black ink on white, into the state of P pupils."""
        z = ink(exemplars)
        if self.learnet is None:
            return PupilState(None, None, (self.other or self.stream)(z), None)
        parts = self.learnet(z)
        filters, bias = parts["filters"], parts.get("bias")
        reference = parts["reference"] if "reference" in parts else self.stream(z, filters, bias)
        return PupilState(filters, bias, reference, parts.get("weights"))

    def predict(self, state: PupilState, images: Tensor) -> Tensor:
        """Score images against the exemplars; the learnet is not run.

        Args:
            state: P exemplars.
            images: ``(P * R, 1, 28, 28)`` uint8; image ``p * R + r`` is the r-th input of exemplar p.

        Returns:
            ``(P, R)`` scores; more means more alike, 0 is the boundary of the logistic loss.

        Raises:
            ValueError: P * R is not a multiple of P.
        """
        count = len(state.reference)
        if count == 0 or len(images) % count:
            raise ValueError(f"{len(images)} images cannot be shared out equally among {count} exemplars")
        features = self.stream(ink(images), state.filters, state.bias).unflatten(0, (count, -1))  # (P, R, D)
        return self.compare(features, state.reference.unsqueeze(1), _between(state.weights))

    def compare_all(self, exemplars: Tensor, images: Tensor, n_way: int) -> Tensor:
        """Score every image of an alphabet against every exemplar of it, as ``predict`` does pair by pair.

        A network without predicted filters sees each image once; a pupil of its own has to see all images.

        Args:
            exemplars: ``(A * N, 1, 28, 28)`` uint8, alphabet by alphabet.
            images: ``(A * N, 1, 28, 28)`` uint8, likewise.
            n_way: N.

        Returns:
            ``(A, N, N)``: exemplar by image.
        """
        state = self.adapt(exemplars)
        if state.filters is not None:
            each = images.unflatten(0, (-1, 1, n_way)).expand(-1, n_way, -1, -1, -1, -1)  # (A, N, N, 1, 28, 28)
            return self.predict(state, each.flatten(0, 2)).unflatten(0, (-1, n_way))
        features = self.stream(ink(images)).unflatten(0, (-1, 1, n_way))  # (A, 1, N, D)
        return self.compare(features, state.reference.unflatten(0, (-1, n_way)).unsqueeze(2))


def _between(weights: Tensor | None) -> Tensor | None:
    return None if weights is None else weights.unsqueeze(1)


def _check_predicted(architecture: str, predicted: PredictedLayer | None) -> None:
    if predicted is None or architecture in DYNAMIC:
        return
    if architecture in PLAIN:
        raise ValueError(f"predicted is {predicted} but architecture {architecture!r} predicts nothing")
    if predicted.predictor != "factorised" or predicted.bias:
        raise ValueError(f"predicted is {predicted} but architecture {architecture!r} has number alone")


def _check_choice(name: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r} but must be one of {', '.join(map(str, allowed))}")
