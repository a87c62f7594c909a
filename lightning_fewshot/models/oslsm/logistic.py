"""Logistic regression of labelled locations, the baseline "LogReg" of section 6.

Shapes: M locations, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def logistic_regression(
    features: Tensor, objects: Tensor, c: float = 1.0, *, max_iter: int = 100, tolerance: float = 1e-4
) -> tuple[Tensor, Tensor]:
    """Minimise ``|w|^2 / 2 + c * sum(log loss)`` with L-BFGS; scikit-learn's objective, b unregularised.

    Args:
        features: ``(M, D)``.
        objects: ``(M,)`` bool.
        c: Inverse strength of the regularisation.
        max_iter: Iterations at most.
        tolerance: Greatest gradient at which it stops.

    Returns:
        w ``(D,)`` and b, a scalar.
    """
    features, target = features.detach(), objects.to(features.dtype)
    parameters = torch.zeros(features.shape[1] + 1, device=features.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [parameters], max_iter=max_iter, tolerance_grad=tolerance, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        weight, bias = parameters[:-1], parameters[-1]
        losses = binary_cross_entropy_with_logits(features @ weight + bias, target, reduction="sum")
        objective = weight.square().sum() / 2 + c * losses
        objective.backward()
        return objective

    with torch.enable_grad():
        optimizer.step(closure)
    return parameters.detach()[:-1], parameters.detach()[-1]
