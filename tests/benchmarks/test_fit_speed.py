"""A whole `fit` of every paper's main experiment against a bare loop of the same steps, by processor time.

Run: pytest tests/benchmarks/test_fit_speed.py -s
"""

import sys
import time

import numpy as np
import pytest
import torch
from timing import say

import lightning_fewshot.cli.run
from lightning_fewshot.callbacks.progress import Progress
from lightning_fewshot.cli import main

GOAL = 0.95
STEPS = {"repmet": 16, "repmet_classifier": 16, "oslsm": 8, "learnet": 24}
STEPS |= {"learnet_tracker": 4, "mlt": 4, "metartt": 4}
WARM, EPISODES = 2, 3


class _Clock(Progress):
    """The progress of a fit, which also notes the processor time of its steps."""

    def on_train_batch_end(self, *args):
        super().on_train_batch_end(*args)
        _CLOCK.append(time.process_time())


_CLOCK = []


def _fit(name, folder, start=None):
    """Run a fit with its loader, loggers and progress, but prepared episodes; return seconds a step, and the CLI."""
    _CLOCK.clear()
    options = [f"--trainer.max_steps={STEPS.get(name, 2) + WARM + 1}", "--trainer.limit_val_batches=0"]
    options += ["--test_after_fit=false"]
    options += ["--trainer.accelerator=cpu", "--checkpoint.monitor=null", "--data.num_workers=0"]
    options += [] if start is None else [f"--model.init_from={start}"]
    cli = main(["fit", "--config", f"experiments/{name}.yaml", "--run_dir", str(folder), *options])
    return _per_step(_CLOCK), cli


def _per_step(clock):
    return float(np.median(np.diff(clock)[WARM:]))


def _bare(module, episodes, clip, steps):
    """Return seconds per step of the same forward, backward, clipping and optimiser step on prepared episodes."""
    optimizer = module.optimization.make_optimizer(module.parameter_groups())
    module.train()
    clock = []
    for i in range(steps + WARM + 1):
        torch.manual_seed(i)
        optimizer.zero_grad()
        sum(module.loss(episodes[i % len(episodes)]).values()).backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimizer.step()
        clock.append(time.process_time())
    return _per_step(clock)


@pytest.mark.parametrize("name", STEPS)
def test_fit_against_a_bare_loop(name, tmp_path, monkeypatch, one_thread):
    """At least 0.95 of the bare loop's speed. Drawing is left out: another process does it."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(lightning_fewshot.cli.run, "Progress", _Clock)
    monkeypatch.setattr("lightning_fewshot.data._Episodes.__getitem__", _prepared)
    _EPISODES.clear()
    start = None
    if name == "mlt":  # its second stage starts from its first
        _fit("mlt/matching", tmp_path / "matching")
        start = tmp_path / "matching/checkpoints/last.ckpt"
        _EPISODES.clear()
    fitted, cli = _fit(name, tmp_path / "run", start)
    looped = _bare(cli.model, list(_EPISODES.values()), cli.trainer.gradient_clip_val, STEPS[name])
    ratio = looped / fitted
    say(f"{name}: a step of fit {1e3 * fitted:.1f} ms, {ratio:.3f} of a bare loop's speed (goal >= {GOAL})")
    assert ratio >= GOAL


_EPISODES = {}


def _prepared(dataset, index):
    """Return the episode of a few, each drawn once."""
    if index % EPISODES not in _EPISODES:
        _EPISODES[index % EPISODES] = dataset.data.episode(dataset.split, index % EPISODES)
    return _EPISODES[index % EPISODES]
