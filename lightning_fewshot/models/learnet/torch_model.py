"""Learning feed-forward one-shot learners (Bertinetto et al., 2016): the networks of sections 3.1 and 3.2.

A stream phi is conv 5x5x1x16, pool, conv 5x5x16x64, pool, conv 4x4x64x512. The five architectures of table 1 differ in
where the exemplar z enters; all of them fit ``adapt(z) -> PupilState`` and ``predict(state, x) -> scores``:

    siamese shared / unshared     reference = phi(z) / phi'(z)                    score = Gamma(phi(x), reference)
    siamese unshared, factorised  the same, one layer is M' * w *_d M, own w
    siamese learnet               w = omega(z), reference = phi(z; w)             score = Gamma(phi(x; w), reference)
    learnet (single stream)       w, reference (and weights of Gamma) = omega(z)  score = Gamma(phi(x; w), reference)

Shapes: P exemplars, R inputs of each, D = 512 features, F filter side.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, max_pool2d, relu

from lightning_fewshot.models.learnet.compare import Comparison, ComparisonName
from lightning_fewshot.nn.dynamic import DynamicConv2d, FactorisedConv2d, FactorisedDynamicConv2d

Architecture = Literal[
    "siamese_shared", "siamese_unshared", "siamese_unshared_factorised", "siamese_learnet", "learnet"
]
Predictor = Literal["factorised", "naive"]

CHANNELS, KERNELS = (1, 16, 64, 512), (5, 5, 4)  # section 3.2
SIDE = 28  # pixels of an input, section 3.2
FILTER_VARIATION = 0.5  # of the predicted filters' initial spread, the part that depends on z; the rest is common


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
        predicted_layer: 1, 2 or 3: the convolution whose filters are predicted (or factorised).
        predictor: "factorised" (eq. 8) or "naive" (eq. 7, all weights predicted; an ablation).
        predict_bias: Also predict b(z). The paper's 1600 outputs leave no room for it, so b is learned by default.
        batch_norm: Batch normalisation after every convolution but the last, of predicted filters and of similarities.
        init_std: Standard deviation of the Gaussian initialisation; None scales it by fan-in.

    Raises:
        ValueError: An option that is not among the ones named here.
    """

    def __init__(
        self,
        architecture: Architecture = "learnet",
        comparison: ComparisonName = "weighted_l1",
        predicted_layer: int = 2,
        predictor: Predictor = "factorised",
        predict_bias: bool = False,
        batch_norm: bool = True,
        init_std: float | None = None,
    ) -> None:
        super().__init__()
        _check_choice("architecture", architecture, get_args(Architecture))
        _check_choice("predictor", predictor, get_args(Predictor))
        _check_choice("predicted_layer", predicted_layer, (1, 2, 3))
        self.architecture = architecture
        dynamic, single = architecture in ("siamese_learnet", "learnet"), architecture == "learnet"
        kind = predictor if dynamic else "own" if architecture == "siamese_unshared_factorised" else "plain"
        self.stream = Stream(kind, predicted_layer - 1, batch_norm)
        self.other = Stream(kind, predicted_layer - 1, batch_norm) if "unshared" in architecture else None
        self.compare = Comparison(comparison, CHANNELS[-1], not single, batch_norm)
        initialise(self, init_std)
        self.learnet = None
        if dynamic:
            outputs = {"reference": CHANNELS[-1] * single, "weights": CHANNELS[-1] * self.compare.needs_weights}
            bias = CHANNELS[predicted_layer] if predict_bias else 0
            shape = self.stream.convs[predicted_layer - 1].weight_shape
            self.learnet = Learnet(shape, {"bias": bias, **outputs}, batch_norm, init_std)

    def adapt(self, exemplars: Tensor) -> PupilState:
        """Turn exemplars ``(P, 1, 28, 28)`` uint8, black ink on white, into the state of P pupils."""
        z = ink(exemplars)
        if self.learnet is None:
            return PupilState(None, None, (self.other or self.stream)(z), None)
        told = self.learnet(z)
        filters, bias = told["filters"], told.get("bias")
        reference = told["reference"] if "reference" in told else self.stream(z, filters, bias)
        return PupilState(filters, bias, reference, told.get("weights"))

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


class Stream(nn.Module):
    """The network phi. One of its convolutions may take its filters from outside.

    Args:
        kind: What stands at ``layer``: "plain", "own" (factorised, own filters), "factorised" or "naive" (predicted).
        layer: Index of that convolution.
        batch_norm: Normalise after every convolution but the last.
    """

    def __init__(self, kind: str = "plain", layer: int = 1, batch_norm: bool = True) -> None:
        super().__init__()
        self.dynamic = layer if kind in ("factorised", "naive") else None
        sizes = list(zip(CHANNELS[:-1], CHANNELS[1:], KERNELS, strict=True))
        self.convs = nn.ModuleList(_conv(kind if i == layer else "plain", *size) for i, size in enumerate(sizes))
        self.norms = nn.ModuleList(_norm(size[1], batch_norm) for size in sizes[:-1])

    def forward(self, x: Tensor, filters: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Return features ``(B, D)`` of ``x`` ``(B, 1, 28, 28)``."""
        for i, norm in enumerate(self.norms):
            x = relu(max_pool2d(norm(self._convolve(i, x, filters, bias)), 2))
        return self._convolve(len(self.norms), x, filters, bias).flatten(1)

    def first_response(self, x: Tensor, filters: Tensor) -> Tensor:
        """Return what the predicted filters answer to ``x``, before M': ``(B, factors, H, W)`` (figure 3)."""
        for i in range(self.dynamic):
            x = relu(max_pool2d(self.norms[i](self.convs[i](x)), 2))
        layer = self.convs[self.dynamic]
        return layer.respond(x, filters) if hasattr(layer, "respond") else layer(x, filters)

    def _convolve(self, i: int, x: Tensor, filters: Tensor | None, bias: Tensor | None) -> Tensor:
        if i == self.dynamic:
            return self.convs[i](x, filters, bias)
        return _convolve_whole(self.convs[i], x) if i == len(self.norms) else self.convs[i](x)


class Learnet(nn.Module):
    """The network omega: the layers of phi, but its last convolution has one output for every predicted number.

    Args:
        filter_shape: Shape of one exemplar's predicted filters; ``(64, 5, 5)`` gives the paper's 1600 outputs.
        outputs: Further outputs by name, with their number; 0 leaves one out.
        batch_norm: Normalise between the layers, and every predicted filter element over the batch.
        init_std: As for the whole network.
    """

    def __init__(
        self, filter_shape: tuple[int, ...], outputs: dict[str, int], batch_norm: bool, init_std: float | None
    ) -> None:
        super().__init__()
        self.filter_shape = filter_shape
        self.sizes = {"filters": math.prod(filter_shape), **{name: n for name, n in outputs.items() if n}}
        self.trunk = Stream(batch_norm=batch_norm)
        self.trunk.convs[-1] = nn.Conv2d(CHANNELS[-2], sum(self.sizes.values()), KERNELS[-1])
        self.norm = nn.BatchNorm1d(self.sizes["filters"]) if batch_norm else nn.Identity()
        initialise(self, init_std)
        self._start_near_common_filters()

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        """Return every predicted part of ``z`` ``(P, 1, 28, 28)`` by name: ``(P, size)``, filters in their shape."""
        parts = dict(zip(self.sizes, self.trunk(z).split(list(self.sizes.values()), 1), strict=True))
        parts["filters"] = self.norm(parts["filters"]).unflatten(1, self.filter_shape)
        return parts

    @torch.no_grad()
    def _start_near_common_filters(self) -> None:
        """Start from one random filter bank for all exemplars, and vary around it; a l1 weight starts near 1."""
        fan_in = math.prod(self.filter_shape[1:])  # of one output channel
        spread = 1 / math.sqrt(fan_in)
        last, n = self.trunk.convs[-1], self.sizes["filters"]
        own = FILTER_VARIATION * spread
        if isinstance(self.norm, nn.BatchNorm1d):
            self.norm.weight.fill_(own)
            self.norm.bias.normal_(0, spread)
        else:
            last.weight[:n] *= own
            last.bias[:n].normal_(0, spread)
        for name, first, size in _ranges(self.sizes):
            if name in ("weights", "bias"):
                last.weight[first : first + size] *= 0.1
                last.bias[first : first + size] = float(name == "weights")


def ink(images: Tensor) -> Tensor:
    """Turn uint8 pictures of black ink on white paper into float32 in [0, 1], ink 1.

    Raises:
        ValueError: The pictures are not grey of 28 x 28 pixels, or not uint8.

    >>> ink(torch.tensor([255, 0], dtype=torch.uint8).repeat(14 * 28).view(1, 1, 28, 28)).mean().item()
    0.5
    """
    if images.shape[1:] != (1, SIDE, SIDE):
        raise ValueError(f"images are {tuple(images.shape[1:])} but the network takes (1, {SIDE}, {SIDE})")
    if images.dtype != torch.uint8:
        raise ValueError(f"images are {images.dtype} but the network takes uint8 in [0, 255]")
    return 1 - images.float() / 255


def initialise(module: nn.Module, std: float | None) -> None:
    """Draw the weights of all convolutions from a Gaussian: ``std``, or sqrt(2 / fan_in) where it is None."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, 0, math.sqrt(2 / fan_in) if std is None else std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _convolve_whole(conv: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution; where its window is the whole input, as one matrix product, twice as quick on a CPU."""
    if not isinstance(conv, nn.Conv2d) or x.shape[-2:] != conv.weight.shape[-2:]:
        return conv(x)
    return linear(x.flatten(1), conv.weight.flatten(1), conv.bias)


def _conv(kind: str, in_channels: int, out_channels: int, kernel: int) -> nn.Module:
    if kind == "plain":
        return nn.Conv2d(in_channels, out_channels, kernel)
    if kind == "naive":
        return DynamicConv2d(in_channels, out_channels, kernel)
    layer = FactorisedConv2d if kind == "own" else FactorisedDynamicConv2d
    return layer(in_channels, out_channels, kernel, factors=out_channels)


def _norm(channels: int, batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


def _between(weights: Tensor | None) -> Tensor | None:
    return None if weights is None else weights.unsqueeze(1)


def _ranges(sizes: dict[str, int]) -> list[tuple[str, int, int]]:
    starts = [sum(list(sizes.values())[:i]) for i in range(len(sizes))]
    return list(zip(sizes, starts, sizes.values(), strict=True))


def _check_choice(name: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r} but must be one of {', '.join(map(str, allowed))}")
