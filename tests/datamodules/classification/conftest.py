"""A tiny folder of class images."""

import pytest
from class_folders import make


@pytest.fixture
def folder(tmp_path):
    return make.make_folders(tmp_path / "own")
