"""Layers whose weights are an input: one filter bank for every exemplar, all computed as one grouped convolution.

Learnet (Bertinetto et al., 2016), sections 2.1 to 2.3. A layer of ``P`` predicted filter banks is applied to ``P * R``
inputs; consecutive groups of ``R`` inputs share a bank. ``R = 1`` in training (a bank for every image), ``R`` is the
number of candidates when one adapted network looks at many images.

    y = w(z) x + b(z)                      eq. (5)   dynamic_linear
    y = M' diag(w(z)) M x + b(z)           eq. (6)   FactorisedDynamicLinear
    y = w(z) * x + b(z)                    eq. (7)   dynamic_conv2d, the naive predictor of section 2.1
    y = M' * w(z) *_d M * x + b(z)         eq. (8)   FactorisedDynamicConv2d

Everything is pure in ``(x, w, b)``: predicted weights are passed, never stored.

Shapes: P exemplars, R inputs of each, C channels in, K out, D factors (channels between M and M'), F filter side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d


def dynamic_conv2d(x: Tensor, w: Tensor, b: Tensor | None = None, padding: int = 0, groups: int = 1) -> Tensor:
    """Convolve every input with the filter bank of its exemplar.

    Args:
        x: ``(P * R, C, H, W)``; inputs ``p * R`` to ``p * R + R - 1`` use bank ``p``.
        w: ``(P, K, C / groups, F, F)``.
        b: ``(P, K)`` or None.
        padding: Zeros around the input, in pixels.
        groups: Groups within one bank; ``C`` for an independent filter on each channel.

    Returns:
        ``(P * R, K, H', W')``.

    Raises:
        ValueError: The number of inputs is not a multiple of the number of banks, or the channels do not fit.

    >>> x = torch.ones(2, 1, 3, 3)
    >>> w = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1, 1).expand(2, 1, 1, 3, 3)
    >>> dynamic_conv2d(x, w).flatten().tolist()
    [9.0, 18.0]
    """
    banks, out, width = w.shape[:3]
    repeats = _inputs_of_each(x, banks)
    if x.shape[1] != width * groups:
        raise ValueError(
            f"x has {x.shape[1]} channels but w {tuple(w.shape)} with groups {groups} takes {width * groups}"
        )
    x = x.unflatten(0, (banks, repeats)).transpose(0, 1).flatten(1, 2)  # (R, P * C, H, W)
    bias = None if b is None else b.flatten()
    y = conv2d(x, w.flatten(0, 1), bias, padding=padding, groups=banks * groups)
    return y.unflatten(1, (banks, out)).transpose(0, 1).flatten(0, 1)


def dynamic_depthwise_conv2d(x: Tensor, w: Tensor, padding: int = 0) -> Tensor:
    """Filter every channel of every input on its own: the ``*_d`` of eq. (8).

    Args:
        x: ``(P * R, D, H, W)``.
        w: ``(P, D, F, F)``.
        padding: Zeros around the input, in pixels.

    Returns:
        ``(P * R, D, H', W')``.

    >>> x = torch.ones(1, 2, 3, 3)
    >>> w = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    >>> dynamic_depthwise_conv2d(x, w).flatten().tolist()
    [9.0, 18.0]
    """
    banks, factors = w.shape[:2]
    repeats = _inputs_of_each(x, banks)
    if x.shape[1] != factors:
        raise ValueError(f"x has {x.shape[1]} channels but w {tuple(w.shape)} filters {factors}")
    x = x.unflatten(0, (banks, repeats)).transpose(0, 1).flatten(1, 2)  # (R, P * D, H, W)
    y = _Depthwise.apply(x, w.flatten(0, 1).unsqueeze(1), padding)
    return y.unflatten(1, (banks, factors)).transpose(0, 1).flatten(0, 1)


def dynamic_linear(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """Apply the matrix of its exemplar to every input, eq. (5).

    Args:
        x: ``(P * R, C)``.
        w: ``(P, K, C)``.
        b: ``(P, K)`` or None.

    Returns:
        ``(P * R, K)``.

    >>> dynamic_linear(torch.ones(4, 2), torch.tensor([[[1.0, 1.0]], [[2.0, 2.0]]])).flatten().tolist()
    [2.0, 2.0, 4.0, 4.0]
    """
    y = x.unflatten(0, (len(w), _inputs_of_each(x, len(w)))) @ w.transpose(1, 2)  # (P, R, K)
    return (y if b is None else y + b.unsqueeze(1)).flatten(0, 1)


class DynamicConv2d(nn.Module):
    """Every element of the filter bank is predicted: ``F * F * C * K`` outputs of the learnet (section 2.1).

    Args:
        in_channels: C.
        out_channels: K.
        kernel_size: F.
        padding: Zeros around the input, in pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, padding: int = 0) -> None:
        super().__init__()
        self.weight_shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.padding = padding

    def forward(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        """Return ``(P * R, K, H', W')`` for ``w`` of ``(P, K, C, F, F)`` and ``b`` of ``(P, K)``."""
        y = dynamic_conv2d(x, w, b, self.padding)
        return y + self.bias.view(-1, 1, 1)

    def fuse(self, w: Tensor, b: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the weight ``(K, C, F, F)`` and bias ``(K,)`` of the ordinary convolution for one exemplar."""
        return w, self.bias if b is None else self.bias + b


class FactorisedDynamicConv2d(nn.Module):
    """Eq. (8): project to D factors, filter each with its predicted filter, project back.

    Args:
        in_channels: C.
        out_channels: K.
        kernel_size: F.
        factors: D; None takes C, as eq. (8) is written. The paper's character network has C = 16 but 64 predicted
            filters (section 3.2: 1600 = 64 * 5 * 5), so there D = 64.
        padding: Zeros around the input, in pixels.
        groups: Groups of M and of M'; the whole is then a convolution of so many groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        factors: int | None = None,
        padding: int = 0,
        groups: int = 1,
    ) -> None:
        super().__init__()
        factors = factors or in_channels
        self.weight_shape = (factors, kernel_size, kernel_size)
        self.project = nn.Conv2d(in_channels, factors, 1, groups=groups, bias=False)  # M
        self.back = nn.Conv2d(factors, out_channels, 1, groups=groups)  # M' and the part of b that is not predicted
        self.padding = padding
        self.groups = groups

    def forward(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        """Return ``(P * R, K, H', W')`` for ``w`` of ``(P, D, F, F)`` and ``b`` of ``(P, K)``."""
        y = self.back(self.respond(x, w))  # eq. (8)
        return y if b is None else y + b.repeat_interleave(len(x) // len(b), 0)[..., None, None]

    def respond(self, x: Tensor, w: Tensor) -> Tensor:
        """Return the responses ``(P * R, D, H', W')`` of the predicted filters, what figure 3 shows."""
        return dynamic_depthwise_conv2d(self.project(x), w, self.padding)

    def fuse(self, w: Tensor, b: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the weight ``(K, C / groups, F, F)`` and bias ``(K,)`` of the ordinary convolution for one exemplar.

        Nothing nonlinear stands between the three factors, so ``W[k, c] = sum_d M'[k, d] w[d] M[d, c]``.
        """
        factors = (self.back.weight[..., 0, 0], w, self.project.weight[..., 0, 0])
        after, filters, before = (part.unflatten(0, (self.groups, -1)) for part in factors)
        weight = torch.einsum("gkd,gdij,gdc->gkcij", after, filters, before).flatten(0, 1)
        return weight, self.back.bias if b is None else self.back.bias + b


class FactorisedConv2d(nn.Module):
    """The factorised convolution with filters of its own instead of predicted ones: section 3.1's control.

    Args:
        in_channels: C.
        out_channels: K.
        kernel_size: F.
        factors: D; None takes C.
        groups: Groups of both projections.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, factors: int | None = None, groups: int = 1
    ) -> None:
        super().__init__()
        self.layer = FactorisedDynamicConv2d(in_channels, out_channels, kernel_size, factors, groups=groups)
        self.groups = groups
        self.filters = nn.Parameter(torch.randn(self.layer.weight_shape) / kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, K, H', W')`` for ``x`` of ``(B, C, H, W)``."""
        return self.layer(x, self.filters[None])

    def fuse(self) -> tuple[Tensor, Tensor]:
        """Return the weight ``(K, C / groups, F, F)`` and bias ``(K,)`` of the ordinary convolution."""
        return self.layer.fuse(self.filters)


class FactorisedDynamicLinear(nn.Module):
    """Eq. (6): ``y = M' diag(w) M x + b``; the learnet predicts D numbers instead of C * K.

    Args:
        in_features: C.
        out_features: K.
        factors: D; None takes C, as eq. (6) is written.
    """

    def __init__(self, in_features: int, out_features: int, factors: int | None = None) -> None:
        super().__init__()
        factors = factors or in_features
        self.weight_shape = (factors,)
        self.project = nn.Linear(in_features, factors, bias=False)  # M
        self.back = nn.Linear(factors, out_features)  # M'

    def forward(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        """Return ``(P * R, K)`` for ``x`` of ``(P * R, C)``, ``w`` of ``(P, D)`` and ``b`` of ``(P, K)``."""
        repeats = _inputs_of_each(x, len(w))
        y = self.back(self.project(x) * w.repeat_interleave(repeats, 0))  # eq. (6)
        return y if b is None else y + b.repeat_interleave(repeats, 0)


class _Depthwise(torch.autograd.Function):
    """A convolution with one channel in every group, whose gradients are such convolutions themselves.

    Convolution's own backward is several times slower than its forward for thousands of groups on a CPU. Here the
    gradient of the input is a transposed convolution, and that of a filter is its input filtered with the gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, padding: int) -> Tensor:
        """Return ``(R, N, H', W')`` of ``x`` ``(R, N, H, W)`` and ``w`` ``(N, 1, F, F)``."""
        ctx.save_for_backward(x, w)
        ctx.padding = padding
        return conv2d(x, w, padding=padding, groups=len(w))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Return the gradients of ``x`` and ``w``; they can be differentiated again."""
        x, w = ctx.saved_tensors
        grad_x = grad_w = None
        if ctx.needs_input_grad[0]:
            grad_x = conv_transpose2d(grad, w.to(grad.dtype), padding=ctx.padding, groups=len(w)).to(x.dtype)
        if ctx.needs_input_grad[1]:
            each = grad.flatten(0, 1).unsqueeze(1)  # (R * N, 1, H', W')
            each = conv2d(x.flatten(0, 1)[None].to(grad.dtype), each, padding=ctx.padding, groups=len(each))
            grad_w = each.view(-1, *w.shape).sum(0).to(w.dtype)
        return grad_x, grad_w, None


def _inputs_of_each(x: Tensor, banks: int) -> int:
    if banks == 0 or len(x) % banks:
        raise ValueError(f"x holds {len(x)} inputs but w holds {banks} filter banks: not a whole number of inputs each")
    return len(x) // banks
