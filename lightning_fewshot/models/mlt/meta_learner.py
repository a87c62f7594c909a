"""The meta-learner: from the gradient of eq. (2) to target-specific kernels, eqs. (3) and (4).

Shapes: P exemplars, M context patches of each, C hidden channels, K kernels, E target-specific kernels,
(H', W') the response.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from lightning_fewshot.models.mlt.gradient import negative_gradient
from lightning_fewshot.models.mlt.network import MatchingNetwork, MatchState
from lightning_fewshot.models.mlt.settings import MetaLearnerSettings
from lightning_fewshot.nn.response_loss import ResponseLoss
from lightning_fewshot.precision import full_precision

START = 0.3  # size of the first kernels, relative to ones that keep the size of what they see


class MetaLearner(nn.Module):
    """g_theta of section 3.2.2: three fully-connected layers from the gradient to the target-specific kernels.

    Args:
        channels: C.
        kernels: K; the input is ``K * C`` numbers.
        settings: Units, dropout, and E; the output is ``E * C`` numbers, 4096 in the paper.
    """

    def __init__(self, channels: int, kernels: int, settings: MetaLearnerSettings = MetaLearnerSettings()) -> None:
        super().__init__()
        hidden = settings.hidden
        self.shape = (settings.target_kernels, channels)
        sizes = (kernels * channels, hidden, hidden, settings.target_kernels * channels)
        self.layers = nn.ModuleList(nn.Linear(sizes[i], sizes[i + 1]) for i in range(3))
        self.dropout = nn.Dropout(1 - settings.keep)
        for layer in self.layers[:2]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        # Start near one common bank of small random kernels: at zero kernels the response has no slope.
        nn.init.normal_(self.layers[2].weight, 0, START / 3 / (hidden * channels) ** 0.5)
        nn.init.normal_(self.layers[2].bias, 0, START * channels**-0.5)

    def forward(self, delta: Tensor) -> Tensor:
        """Return w_target ``(P, E, C)`` float32 for gradients ``(P, K, C)``, eq. (3).

        The gradient's direction is what tells targets apart; its size shrinks while the network learns, so every
        gradient is scaled to a root mean square of 1.
        """
        x = delta.to(self.layers[0].weight.dtype).flatten(1)
        x = x * x.square().mean(1, keepdim=True).clamp(min=1e-24).rsqrt()
        for layer in self.layers[:2]:
            x = self.dropout(relu(layer(x)))
        return self.layers[2](x).unflatten(1, self.shape).float()


class Specialiser(NamedTuple):
    """A matching network with the meta-learner that adapts it to targets, in one forward pass.

    Args:
        network: The matching network, in evaluation mode.
        meta: The meta-learner.
        loss: The loss whose gradient the meta-learner is given.
    """

    network: MatchingNetwork
    meta: MetaLearner
    loss: ResponseLoss

    @torch.no_grad()
    def from_patches(self, state: MatchState, patches: Tensor) -> MatchState:
        """Return the state with kernels from context patches.

        Args:
            state: Of P exemplars.
            patches: ``(P * M, 3, S, S)`` with the target at the centre.
        """
        hidden = self.network.hidden(patches)
        side = hidden.shape[-1] - state.hidden.shape[-1] + 1
        middle = hidden.new_full((len(patches), 2), (side - 1) / 2, dtype=torch.float32)
        return self.from_hidden(state, hidden, self.loss.target(middle, side))

    def from_hidden(self, state: MatchState, hidden: Tensor, target: Tensor) -> MatchState:
        """Return the state with kernels from hidden maps; differentiable in the meta-learner's parameters.

        Args:
            state: Of P exemplars.
            hidden: ``(P * M, C, H, W)`` what the last layer sees of the patches.
            target: ``(P * M, H', W')``, 1 at the target's place.
        """
        with full_precision(hidden.device):
            layer, maps = self.network.last_layer(), (state.hidden.float(), hidden.float())
            delta = negative_gradient(layer, *maps, target=target, loss=self.loss)  # eq. (2)
        return self.network.with_kernels(state, self.meta(delta))  # eqs. (3) and (4)
