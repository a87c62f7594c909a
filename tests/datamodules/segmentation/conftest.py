"""Tiny data of every set of photos with masks."""

import pytest
from masked_sets import SETS


@pytest.fixture(scope="session")
def roots(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp(name)) for name, (_, make, _) in SETS.items()}
