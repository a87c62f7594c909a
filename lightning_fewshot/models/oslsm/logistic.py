"""Logistic regression of labelled locations, the baseline "LogReg" of section 6.

Shapes: M locations, D features.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

Solver = Literal["torch", "lbfgs", "liblinear"]


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


def scikit_logistic_regression(
    features: Tensor, objects: Tensor, c: float = 1.0, *, solver: str = "liblinear"
) -> tuple[Tensor, Tensor]:
    """Fit with one of scikit-learn's solvers: "liblinear" was its default when the paper was written, "lbfgs" is now.

    The objective is that of ``logistic_regression``; liblinear regularises b too. Where all locations are
    of one kind, which scikit-learn refuses, ``logistic_regression`` is what answers.

    Args:
        features: ``(M, D)``.
        objects: ``(M,)`` bool.
        c: Inverse strength of the regularisation.
        solver: scikit-learn's name.

    Returns:
        w ``(D,)`` and b, a scalar.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"solver {solver!r} is scikit-learn's: pip install scikit-learn") from error
    if objects.all() or not objects.any():
        return logistic_regression(features, objects, c)
    model = LogisticRegression(C=c, solver=solver).fit(features.cpu().numpy(), objects.cpu().numpy())
    return features.new_tensor(model.coef_[0]), features.new_tensor(model.intercept_[0])
