"""Load the makers of tiny data by their path; tests are no package."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def omniglot_maker():
    path = Path(__file__).parents[1] / "data" / "omniglot" / "make.py"
    spec = importlib.util.spec_from_file_location("make_omniglot", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
