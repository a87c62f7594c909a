"""Speed of the command line as ratios within one run. Run with `pytest tests/benchmarks/test_cli_speed.py -s`."""

import os
import subprocess
import sys
from pathlib import Path

from timing import say

ROOT = Path(__file__).parents[2]
ROUNDS = 2


def _processor_seconds(*arguments):
    before = os.times()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_help_against_the_bare_import():
    rounds = [
        (
            _processor_seconds("-m", "lightning_fewshot", "--help"),
            _processor_seconds("-c", "import pytorch_lightning.cli"),
        )
        for _ in range(ROUNDS)
    ]
    ours, bare = map(min, zip(*rounds, strict=True))
    say(f"--help: {ours:.2f} s, bare import of Lightning's CLI: {bare:.2f} s, ratio {ours / bare:.2f} (goal <= 1.3)")
    assert ours / bare <= 1.3


FORWARD = """
import sys, time, torch
from lightning_fewshot.__main__ import keep_freed_memory
from lightning_fewshot.nn.backbones import Backbone
from lightning_fewshot.settings import BackboneSettings
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    assert keep_freed_memory(), "not glibc"
network, images = Backbone(BackboneSettings("efficientnet_lite0")).eval(), torch.rand(24, 3, 192, 192)
with torch.inference_mode():
    network(images)
    start = time.process_time()
    network(images)
print(time.process_time() - start)
"""


def test_kept_memory():
    """What the command line sets for the C library: a backbone's forward pass of 24 images on one core."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    rounds = [
        [
            float(subprocess.check_output([sys.executable, "-c", FORWARD, how], cwd=ROOT, env=own))
            for how in ("kept", "returned")
        ]
        for _ in range(ROUNDS)
    ]
    kept, returned = map(min, zip(*rounds, strict=True))
    say(f"forward pass: memory kept {kept:.2f} s, given back {returned:.2f} s, ratio {returned / kept:.2f}")
    assert kept <= 1.05 * returned
