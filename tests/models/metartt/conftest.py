"""Sizes that run in a blink: scenes of 160 pixels, four channels."""

import pytest
import torch

from lightning_fewshot.models.metartt.adaptation import Batches
from lightning_fewshot.models.metartt.network import Network
from lightning_fewshot.models.metartt.simulation import EpisodeSettings
from lightning_fewshot.models.metartt.tracker import TrackerSettings


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def tiny():
    """Keywords of a tiny module."""
    return {
        "channels": (3, 4, 5),
        "hidden": 6,
        "target_pixels": 40,
        "scene": 4.0,
        "episode": EpisodeSettings((6, 8), (4, 6), 16),
        "batches": Batches(4, 6, 8),
        "tracking": TrackerSettings(
            candidates=64, first=(20, 60), first_scenes=2, frame=(6, 12), every=3, regression_samples=40
        ),
    }


@pytest.fixture
def network():
    return Network((3, 4, 5), 6, 40, 4.0)
