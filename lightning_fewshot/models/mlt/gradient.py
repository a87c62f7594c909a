"""What the meta-learner sees, eq. (2): the negative gradient of the matching loss at the last layer.

It is computed in closed form, through the loss (``ResponseLoss.slope``), the correlation, the normalisation and the
layer, so that a tracker needs no graph. The tests compare it with autograd of that same loss.

Shapes: P exemplars, M context patches of each, C hidden channels, K kernels, (h, w) an exemplar's map, (H, W) a
patch's, (H', W') the response.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, normalize

from lightning_fewshot.models.mlt.network import LastLayer
from lightning_fewshot.nn.correlation import cross_correlation
from lightning_fewshot.nn.response_loss import ResponseLoss

EPS = 1e-12  # of a length, as in torch's normalize


def negative_gradient(
    layer: LastLayer, exemplars: Tensor, contexts: Tensor, target: Tensor, loss: ResponseLoss
) -> Tensor:
    """Return delta of eq. (2): minus the gradient of a loss at w_N, averaged over the patches of each exemplar.

    The paper writes a sum and says "averaged"; here the mean is taken, so that fewer patches give no smaller input.

    Args:
        layer: The last layer, in evaluation mode.
        exemplars: ``(P, C, h, w)`` hidden maps of x.
        contexts: ``(P * M, C, H, W)`` hidden maps of z.
        target: ``(P * M, H', W')``, 1 at the target's place and 0 elsewhere.
        loss: Of a response and a target; eq. (6) is ``DiscLoss(balance=False)``.

    Returns:
        ``(P, K, C)``.
    """
    count, each = len(exemplars), len(contexts) // len(exemplars)
    weight = (layer.scale[:, None] * layer.weight)[..., None, None]
    raw_x, raw_z = conv2d(exemplars, weight, layer.shift), conv2d(contexts, weight, layer.shift)
    unit_x, unit_z = normalize(raw_x, dim=1), normalize(raw_z, dim=1)
    cells = unit_x.shape[2] * unit_x.shape[3]
    responses = layer.gain * cross_correlation(unit_x, unit_z) / cells + layer.offset  # (P, M, H', W')
    slope = loss.slope(responses.flatten(0, 1), target)  # (P * M, H', W')
    slope = slope * layer.gain / (cells * each)  # of the sum over cells
    grad_x, grad_z = _correlation_gradients(unit_x, unit_z, slope)
    at_x = _through_length(grad_x, unit_x, raw_x)  # (P, K, h, w)
    at_z = _through_length(grad_z, unit_z, raw_z)  # (P * M, K, H, W)
    total = _outer(at_x, exemplars, count) + _outer(at_z, contexts, count)
    return -layer.scale[:, None] * total


def _correlation_gradients(unit_x: Tensor, unit_z: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of both sides of a correlation with responses whose gradient is ``slope``.

    Args:
        unit_x: ``(P, K, h, w)``.
        unit_z: ``(P * M, K, H, W)``.
        slope: ``(P * M, H', W')``.
    """
    count, total = len(unit_x), len(unit_z)
    repeated = unit_x.repeat_interleave(total // count, 0)
    grad_z = conv_transpose2d(slope[None], repeated, groups=total)[0].view_as(unit_z)
    # One exemplar's map is the sum over its patches, which stand as further channels of one convolution.
    patches = unit_z.unflatten(0, (count, -1)).transpose(1, 2).flatten(0, 1)  # (P * K, M, H, W)
    kernels = slope.unflatten(0, (count, -1))  # (P, M, H', W')
    grad_x = torch.stack([conv2d(z, k[None])[:, 0] for z, k in zip(patches.chunk(count), kernels, strict=True)])
    return grad_x, grad_z


def _through_length(grad: Tensor, unit: Tensor, raw: Tensor) -> Tensor:
    """Take a gradient at unit vectors ``raw / |raw|`` (over channels) back to ``raw``."""
    along = (grad * unit).sum(1, keepdim=True)
    return (grad - along * unit) / raw.norm(dim=1, keepdim=True).clamp(min=EPS)


def _outer(grad: Tensor, hidden: Tensor, count: int) -> Tensor:
    """Sum ``grad hidden^T`` over the locations and patches of every exemplar: ``(P, K, C)``."""
    rows = grad.flatten(2).unflatten(0, (count, -1)).transpose(1, 2).flatten(2)  # (P, K, M * H * W)
    columns = hidden.flatten(2).unflatten(0, (count, -1)).transpose(1, 2).flatten(2)  # (P, C, M * H * W)
    return rows @ columns.transpose(1, 2)
