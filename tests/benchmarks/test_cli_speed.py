"""Speed of the command line as ratios within one run. Run with `pytest tests/benchmarks/test_cli_speed.py -s`."""

import os
import subprocess
import sys
import time
from pathlib import Path

import torch

import lightning_fewshot.cli.run
from lightning_fewshot.callbacks.progress import Progress
from lightning_fewshot.cli import main

ROOT = Path(__file__).parents[2]
STEPS, WARM, ROUNDS = 20, 4, 2


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
    print(
        f"\n--help: {ours:.2f} s, bare import of Lightning's CLI: {bare:.2f} s, ratio {ours / bare:.2f} (goal <= 1.3)"
    )
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
    print(f"\nforward pass: memory kept {kept:.2f} s, given back {returned:.2f} s, ratio {returned / kept:.2f}")
    assert kept <= 1.05 * returned


class _Clock(Progress):
    """The progress of a fit, which also notes the wall and processor time of its steps."""

    def on_train_batch_end(self, trainer, module, *args):
        super().on_train_batch_end(trainer, module, *args)
        _CLOCK.append((time.perf_counter(), time.process_time()))


_CLOCK = []


def _fit(run_dir, *options):
    """Return seconds per step (wall, processor) of a whole fit with loader, loggers and progress, and the CLI."""
    _CLOCK.clear()
    command = ["fit", "--config", str(ROOT / "experiments/repmet.yaml"), "--run_dir", str(run_dir), *options]
    steps = [f"--trainer.max_steps={STEPS + WARM}", "--trainer.limit_val_batches=0", "--test_after_fit=false"]
    cli = main([*command, *steps, "--trainer.accelerator=cpu", "--checkpoint.monitor=null"])
    return _per_step(_CLOCK), cli


def _per_step(clock):
    return [(end - start) / STEPS for start, end in zip(clock[WARM - 1], clock[-1], strict=True)]


def _bare(module, episodes):
    """Return seconds per step of the same forward, backward and optimiser step on prepared tensors."""
    optimizer = module.optimization.make_optimizer(module.parameter_groups())
    module.train()
    clock = []
    for i in range(STEPS + WARM):
        optimizer.zero_grad()
        torch.stack(list(module.loss(episodes[i % len(episodes)]).values())).sum().backward()
        optimizer.step()
        clock.append((time.perf_counter(), time.process_time()))
    return _per_step(clock)


def test_fit_against_a_bare_loop(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(lightning_fewshot.cli.run, "Progress", _Clock)
    fitted, looped = [], []
    for i in range(ROUNDS):
        seconds, cli = _fit(tmp_path / str(i))
        fitted.append(seconds)
        looped.append(_bare(cli.model, [cli.datamodule.episode("train", i) for i in range(12)]))
    images = cli.datamodule.batch_size
    for name, fit, bare in zip(
        ("wall", "processor"), zip(*fitted, strict=True), zip(*looped, strict=True), strict=True
    ):
        fit, bare = min(fit), min(bare)
        print(
            f"\n{name} time, {torch.get_num_threads()} threads: fit {images / fit:.1f} images a second, "
            f"bare loop {images / bare:.1f}, ratio {bare / fit:.2f} (goal >= 0.9)"
        )
        if name == "wall":  # the processor time has the loader's share, which is hidden behind training
            assert bare / fit >= 0.9
