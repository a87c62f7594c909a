"""Load the makers of tiny data by their path; tests are no package."""

import importlib.util
from pathlib import Path


def load(name):
    path = Path(__file__).parents[1] / f"data/{name}/make.py"
    spec = importlib.util.spec_from_file_location(f"make_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
