"""What the meta-learner sees, eq. (2), and what it says, eq. (3).

The gradient of the loss with respect to the last layer is computed in closed form: the layer, its normalisation, the
correlation and the loss are differentiated by hand, so that a tracker needs no graph. The tests compare it with
autograd.

Shapes: P exemplars, M context patches of each, C hidden channels, K kernels, E target-specific kernels, (h, w) an
exemplar's map, (H, W) a patch's, (H', W') the response.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, normalize, relu

from lightning_fewshot.models.mlt.network import LastLayer
from lightning_fewshot.nn.correlation import cross_correlation

HIDDEN, KEEP = 512, 0.7  # units of both intermediate layers, keep probability of the dropout (section 3.2.2)
START = 0.3  # size of the first kernels, relative to ones that keep the size of what they see
EPS = 1e-12  # of a length, as in torch's normalize


class MetaLearner(nn.Module):
    """g_theta of section 3.2.2: three fully-connected layers from the gradient to the target-specific kernels.

    Args:
        channels: C.
        kernels: K; the input is ``K * C`` numbers.
        target_kernels: E; the output is ``E * C`` numbers, 4096 in the paper.
        hidden: Units of both intermediate layers.
        keep: Keep probability of the dropout after each of them.

    Raises:
        ValueError: The keep probability is not in (0, 1].
    """

    def __init__(
        self, channels: int, kernels: int, target_kernels: int, hidden: int = HIDDEN, keep: float = KEEP
    ) -> None:
        super().__init__()
        if not 0 < keep <= 1:
            raise ValueError(f"keep is {keep} but must be in (0, 1]")
        self.shape = (target_kernels, channels)
        self.layers = nn.ModuleList(
            [
                nn.Linear(kernels * channels, hidden),
                nn.Linear(hidden, hidden),
                nn.Linear(hidden, target_kernels * channels),
            ]
        )
        self.dropout = nn.Dropout(1 - keep)
        for layer in self.layers[:2]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        # Start near one common bank of small random kernels: at zero kernels the response has no slope.
        nn.init.normal_(self.layers[2].weight, 0, START / 3 / (hidden * channels) ** 0.5)
        nn.init.normal_(self.layers[2].bias, 0, START * channels**-0.5)

    def forward(self, delta: Tensor) -> Tensor:
        """Return w_target ``(P, E, C)`` for gradients ``(P, K, C)``, eq. (3).

        The gradient's direction is what tells targets apart; its size shrinks while the network learns, so every
        gradient is scaled to a root mean square of 1.
        """
        x = delta.flatten(1)
        x = x * x.square().mean(1, keepdim=True).clamp(min=1e-24).rsqrt()
        for layer in self.layers[:2]:
            x = self.dropout(relu(layer(x)))
        return self.layers[2](x).unflatten(1, self.shape)


def negative_gradient(layer: LastLayer, exemplars: Tensor, contexts: Tensor, target: Tensor) -> Tensor:
    """Return delta of eq. (2): minus the gradient of eq. (6) at w_N, averaged over the patches of each exemplar.

    The paper writes a sum and says "averaged"; here the mean is taken, so that fewer patches give no smaller input.

    Args:
        layer: The last layer, in evaluation mode.
        exemplars: ``(P, C, h, w)`` hidden maps of x.
        contexts: ``(P * M, C, H, W)`` hidden maps of z.
        target: ``(P * M, H', W')`` y, +1 at the target's place and -1 elsewhere.

    Returns:
        ``(P, K, C)``.
    """
    count, each = len(exemplars), len(contexts) // len(exemplars)
    weight = (layer.scale[:, None] * layer.weight)[..., None, None]
    raw_x, raw_z = conv2d(exemplars, weight, layer.shift), conv2d(contexts, weight, layer.shift)
    unit_x, unit_z = normalize(raw_x, dim=1), normalize(raw_z, dim=1)
    cells = unit_x.shape[2] * unit_x.shape[3]
    responses = layer.gain * cross_correlation(unit_x, unit_z) / cells + layer.offset  # (P, M, H', W')
    y = target.view_as(responses)
    slope = -y * torch.sigmoid(-responses * y) / y[0, 0].numel()  # of eq. (6)
    slope = (slope * layer.gain / (cells * each)).flatten(0, 1)  # (P * M, H', W'), of the sum over cells
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
