"""The metric-learning head of RepMet: class posteriors from distances to representatives.

RepMet: representative-based metric learning (Karlinsky et al., CVPR 2019), section 3, eqs. (1)-(3) and (5).

Shapes: R rois, F pooled features, e embedding, N classes, K modes (representatives) of a class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lightning_fewshot.models.repmet.settings import LogitKind

SMALLEST = 1e-6  # posteriors below it do not change the cross-entropy any more
CLASS_SPREAD = 0.1  # initial representatives: class centre N(0, .1) ...
MODE_SPREAD = 0.05  # ... and offset N(0, .05), as in the authors' code


class Representatives(nn.Module):
    """The modes of every training class, learned as parameters (section 3: "an FC layer with a fixed input 1").

    Args:
        n_classes: N.
        n_modes: K.
        dim: e.
    """

    def __init__(self, n_classes: int, n_modes: int, dim: int) -> None:
        super().__init__()
        centres = torch.randn(n_classes, 1, dim) * CLASS_SPREAD
        self.weight = nn.Parameter(centres + torch.randn(n_classes, n_modes, dim) * MODE_SPREAD)

    def forward(self) -> Tensor:
        """Return the representatives, ``(N, K, e)`` of unit length."""
        return normalize(self.weight, dim=-1)


def mode_probabilities(distances: Tensor, sigma: float, used: Tensor | None = None) -> Tensor:
    """Return the probability of every mode, ``exp(-d^2 / 2 sigma^2)``, eq. (1): ``(R, N, K)`` in [0, 1].

    Args:
        distances: Squared distances, ``(R, N, K)``.
        sigma: Standard deviation of a mode, in units of the embedding space.
        used: ``(N, K)`` bool; a slot that is not used has probability 0.

    >>> mode_probabilities(torch.tensor([[[0.0, 2.0]]]), sigma=1.0)
    tensor([[[1.0000, 0.3679]]])
    """
    probs = torch.exp(-distances / (2 * sigma**2))  # eq. (1)
    return probs if used is None else probs * used


def class_posterior(probs: Tensor) -> Tensor:
    """Return the posterior of every class: its best mode, eq. (2); ``(R, N)``."""
    return probs.amax(dim=-1)  # eq. (2)


def background_posterior(posterior: Tensor) -> Tensor:
    """Return the posterior of the open background class, one minus the best class, eq. (3); ``(R,)``."""
    return 1 - posterior.amax(dim=-1)  # eq. (3)


def remaining_posterior(posterior: Tensor, negative: Tensor | None) -> Tensor:
    """Return the posteriors of classes ``(R, N)``, times what the background's posterior ``(R,)`` leaves them."""
    return posterior if negative is None else posterior * (1 - negative)[:, None]


def soft_class_posterior(probs: Tensor) -> Tensor:
    """Return the posterior with equally weighted modes and no background, eq. (5); ``(R, N)`` that sums to 1."""
    return probs.sum(dim=-1) / probs.sum(dim=(-1, -2)).unsqueeze(-1).clamp(min=1e-12)  # eq. (5)


def posterior_logits(probs: Tensor, scale: float, kind: LogitKind = "log", negative: Tensor | None = None) -> Tensor:
    """Return logits of (background, class 1..N), whose softmax the cross-entropy takes; ``(R, 1 + N)``.

    The paper takes the cross-entropy of the posteriors of eqs. (2) and (3) and leaves open how they are normalised.

    Args:
        probs: ``(R, N, K)`` of eq. (1).
        scale: Sharpness; with "log", 1 normalises the posteriors to a sum of 1.
        kind: "log", ``scale`` times the logarithm of the posteriors; or "scaled", ``scale`` times the posteriors
            themselves as in the authors' code (there 15), whose slope vanishes far from every representative.
        negative: ``(R,)``, posterior of the background's own representatives, which is taken from the classes.
    """
    posterior = remaining_posterior(class_posterior(probs), negative)
    posteriors = torch.cat([background_posterior(posterior).unsqueeze(1), posterior], dim=1)
    return scale * (posteriors.clamp(min=SMALLEST).log() if kind == "log" else posteriors)
