"""Speed of the command line as ratios within one run. Run with `pytest tests/benchmarks/test_cli_speed.py -s`."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from timing import say

from lightning_fewshot.cli import main

ROOT = Path(__file__).parents[2]
ROUNDS = 2


def _processor_seconds(*arguments):
    before = os.times()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _least(*arguments):
    return min(_processor_seconds(*arguments) for _ in range(ROUNDS))


def test_start_against_bare_imports():
    """Help and the bare package need a small part of what PyTorch's import needs."""
    bare = _least("-c", "import torch")
    shares = {
        "--help": (_least("-m", "lightning_fewshot", "--help") / bare, 0.25),
        "import lightning_fewshot": (_least("-c", "import lightning_fewshot") / bare, 0.1),
    }
    for name, (share, goal) in shares.items():
        say(f"{name}: {share:.2f} of the time of a bare import of PyTorch (goal <= {goal})")
    assert all(share <= goal for share, goal in shares.values())


PREDICT = """
import sys
import lightning_fewshot as lf
model = lf.load(sys.argv[1])
support = lf.examples([sys.argv[2]] * 2, labels=["a", "b"])
model.predict(model.adapt(support), lf.examples(sys.argv[2]))
names = [name for name, module in sys.modules.items() if getattr(module, "__file__", None)]
names = [name for name in names if name.partition(".")[0] not in ("lightning_fewshot", "__main__")]
open(sys.argv[3], "w").write("\\n".join(names))
"""
IMPORTS = """
import importlib, sys
for name in open(sys.argv[1]).read().split():
    importlib.import_module(name)
"""


def test_load_and_predict_against_the_imports_that_they_need(tmp_path):
    """At most 1.2 times the bare imports of the same modules."""
    configs = [a for name in ("protonet.yaml", "protonet.tiny.yaml") for a in ("--config", f"experiments/{name}")]
    main(["fit", *configs, "--run_dir", str(tmp_path / "run"), "--test_after_fit", "false"])
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((28, 28, 3), np.uint8))
    files = [str(tmp_path / name) for name in ("run/checkpoints/last.ckpt", "a.png", "names")]
    ours = _least("-c", PREDICT, *files)
    bare = _least("-c", IMPORTS, files[-1])
    say(f"lf.load and one prediction: {ours / bare:.2f} times the bare imports that they need (goal <= 1.2)")
    assert ours / bare <= 1.2


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
