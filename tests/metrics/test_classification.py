"""The error of recognition problems against a loop, scipy's standard error, ties and bad input."""

import numpy as np
import pytest
import torch
from scipy import stats

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.metrics.classification import MatchError, match_errors


def _episode(matches, ways):
    labels = torch.zeros(len(matches), ways, dtype=torch.int64)
    labels[torch.arange(len(matches)), torch.tensor(matches)] = 1
    return Episode(None, Examples(torch.empty(0), labels.flatten()), ("incongruous", "congruous"))


def test_error_and_interval_match_numpy():
    rng = np.random.default_rng(0)
    scores, matches = rng.normal(size=(300, 20)), rng.integers(20, size=300)
    scores[np.arange(300), matches] += 2
    wrong = np.array([np.argmax(s) != m for s, m in zip(scores, matches, strict=True)], dtype=float)
    metric = MatchError()
    for part in range(0, 300, 100):
        metric.update(torch.from_numpy(scores[part : part + 100]), _episode(matches[part : part + 100].tolist(), 20))
    error = metric.compute()["error"]
    assert error.n == 300
    assert error.value == pytest.approx(wrong.mean())
    assert error.high - error.value == pytest.approx(1.96 * stats.sem(wrong))


@pytest.mark.parametrize("place", [0, 7, 19])
def test_a_constant_score_has_the_error_of_chance(place):
    assert match_errors(torch.zeros(1, 20), torch.tensor([place])).item() == pytest.approx(0.95)


def test_a_score_that_is_no_number_loses():
    scores = torch.full((1, 4), torch.nan)
    assert match_errors(scores, torch.tensor([0])).item() == 1


def test_every_problem_needs_one_match():
    episode = _episode([0, 1], 3)
    with pytest.raises(ValueError, match="exactly 1 match"):
        MatchError().update(torch.zeros(3, 2), episode)


def test_nothing_counted_is_no_number():
    error = MatchError().compute()["error"]
    assert error.n == 0
    assert np.isnan(error.value)
