"""Tiny modules and networks, seeded."""

import candidates
import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def tiny():
    """Keywords of a tiny MetaRTT."""
    return candidates.tiny()


@pytest.fixture
def network():
    return candidates.tiny_network()
