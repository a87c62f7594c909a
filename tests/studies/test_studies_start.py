"""Every study starts: its imports exist, and its options are explained."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.py")), ids=lambda path: path.stem)
def test_help_is_shown(path):
    paths = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True, env=paths, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert "usage:" in run.stdout
