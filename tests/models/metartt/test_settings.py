"""Every group of settings refuses what cannot work, and says so."""

import dataclasses

import pytest

from lightning_fewshot.models.metartt import settings


@pytest.mark.parametrize(
    ("group", "values", "message"),
    [
        (settings.SimulatedEpisode, {"first": (1, 8)}, r"episode\.first is \(1, 8\) but must be at least 2"),
        (settings.SimulatedEpisode, {"frame": (1, 8)}, r"episode\.frame is \(1, 8\) but must be at least 2"),
        (settings.InnerLoop, {"k_init": 0}, "k_init is 0 but must be at least 1"),
        (settings.InnerLoop, {"initial_rate": 0.0}, r"initial_rate is 0\.0 but must be above 0"),
        (settings.InnerLoop, {"clip": -1.0}, r"clip is -1\.0 but must be above 0"),
        (settings.OnlineAdaptation, {"k_on": 0}, "k_on is 0 but must be at least 1"),
        (settings.OnlineSGD, {"k_on": 0}, "k_on is 0 but must be at least 1"),
        (settings.OnlineSGD, {"lr": 0.0}, r"lr is 0\.0 but must be above 0"),
        (settings.TestLoss, {"gamma": -1.0}, r"gamma is -1\.0 but must be at least 0"),
        (settings.MetaGradient, {"first_order": True, "recompute": True}, "recompute is True but must be False"),
        (settings.MetaGradient, {"rates_lr_factor": -1.0}, r"rates_lr_factor is -1\.0 but must be at least 0"),
        (settings.Perceptrons, {"hidden": 0}, "hidden is 0 but must be at least 1"),
        (settings.Perceptrons, {"drop": 1.0}, r"drop is 1\.0 but must be at least 0 and below 1"),
        (settings.FirstFrame, {"steps": 0}, "steps is 0 but must be at least 1"),
        (settings.FirstFrame, {"lr": 0.0}, r"lr is 0\.0 but must be above 0"),
    ],
)
def test_numbers_are_checked(group, values, message):
    with pytest.raises(ValueError, match=message):
        group(**values)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(group(), next(iter(values)), None)
