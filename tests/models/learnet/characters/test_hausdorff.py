"""The modified Hausdorff distance against scipy, and the baseline on problems that shape alone solves."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from datamodules import OmniglotPairs
from lightning_fewshot import ModifiedHausdorff
from lightning_fewshot.episodes import Examples
from lightning_fewshot.metrics.classification import MatchError
from lightning_fewshot.models.learnet.characters.hausdorff import ink_points, modified_hausdorff


def _reference(a, b, threshold=0.25):
    a, b = (np.argwhere(1 - image / 255 >= threshold).astype(float) for image in (a, b))
    distances = cdist(a - a.mean(0), b - b.mean(0))
    return max(distances.min(0).mean(), distances.min(1).mean())


def _drawings(count, seed, side=28):
    rng = np.random.default_rng(seed)
    inked = rng.random((count, 1, side, side)) < rng.uniform(0.02, 0.2, (count, 1, 1, 1))
    return np.where(inked, 0, 255).astype(np.uint8)


def test_distance_matches_scipy():
    a, b = _drawings(6, 0), _drawings(6, 1)
    points = (ink_points(1 - torch.from_numpy(x).float() / 255, 0.25) for x in (a, b))
    expected = [_reference(x[0], y[0]) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(modified_hausdorff(*points).numpy(), expected, rtol=1e-5)


def test_shifted_drawing_is_found():
    z = _drawings(3, 0)
    z[..., :2, :], z[..., -2:, :] = 255, 255
    candidates = np.stack(
        [np.roll(z[p], 2, axis=1) if r == p else _drawings(1, 10 * p + r)[0] for p in range(3) for r in range(5)]
    )
    module = ModifiedHausdorff()
    scores = module.predict(module.adapt(Examples(torch.from_numpy(z))), Examples(torch.from_numpy(candidates)))
    assert scores.argmax(1).tolist() == [0, 1, 2]
    torch.testing.assert_close(scores.max(1).values, torch.ones(3))  # distance 0


def test_empty_drawing_has_a_finite_distance():
    module = ModifiedHausdorff()
    blank = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    assert module.predict(module.adapt(Examples(blank)), Examples(torch.from_numpy(_drawings(2, 0)))).isfinite().all()


def test_drawings_of_any_side():
    a, b = _drawings(2, 0, 105), _drawings(2, 1, 105)
    module = ModifiedHausdorff()
    scores = module.predict(module.adapt(Examples(torch.from_numpy(a))), Examples(torch.from_numpy(b)))
    expected = [1 - _reference(x[0], y[0]) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(scores[:, 0].detach().numpy(), expected, rtol=1e-5)


@pytest.mark.real_data
@pytest.mark.skipif("FEWSHOT_DATA" not in os.environ, reason="needs FEWSHOT_DATA")
def test_lakes_runs_have_the_published_error():
    """38.8 % of 400, in full size: github.com/brendenlake/omniglot, one-shot-classification demo."""
    if not (Path(os.environ["FEWSHOT_DATA"]) / "omniglot").is_dir():
        pytest.skip("no omniglot below FEWSHOT_DATA")
    data = OmniglotPairs(test_problems="lake", side=105)
    data.setup("test")
    module, metric = ModifiedHausdorff(), MatchError()
    for i in range(20):
        episode = data.episode("test", i)
        metric.update(module(episode), episode)
    assert metric.compute()["error"].value == pytest.approx(0.388, abs=0.0013)


def test_threshold_is_checked():
    with pytest.raises(ValueError, match="threshold is 1 but must be between 0 and 1"):
        ModifiedHausdorff(threshold=1)
