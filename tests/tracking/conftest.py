"""The makers of tiny videos, by their path; tests are no package."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def maker():
    path = Path(__file__).parents[1] / "data/videos/make.py"
    spec = importlib.util.spec_from_file_location("make_videos", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
