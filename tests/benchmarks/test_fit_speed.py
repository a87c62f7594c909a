"""A whole `fit` of every paper's main experiment against a bare loop of the same steps, by processor time.

Run: pytest tests/benchmarks/test_fit_speed.py -s
"""

import copy
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


class _InTurn(Progress):
    """The progress of a fit, which takes a step of a bare loop after each of the fit's: a slow spell meets both."""

    def on_train_batch_start(self, trainer, module, *args):
        if _BARE.module is None:
            _BARE.start(module, trainer.gradient_clip_val)

    def on_train_batch_end(self, *args):
        super().on_train_batch_end(*args)
        if _BARE.resumed is not None:
            _BARE.fitted.append(time.process_time() - _BARE.resumed)
        _BARE.step()
        _BARE.resumed = time.process_time()  # the hooks of other callbacks come after this: they count as the fit's


class _BareLoop:
    """Forward, backward, clipping and optimiser step of a copy of the module, on prepared episodes."""

    def __init__(self):
        self.module = self.resumed = None
        self.fitted, self.bare = [], []

    def start(self, module, clip):
        self.module, self.clip = copy.deepcopy(module).train(), clip
        self.optimizer = module.optimization.make_optimizer(self.module.parameter_groups())

    def step(self):
        began, i, episodes = time.process_time(), len(self.bare), list(_EPISODES.values())
        torch.manual_seed(i)
        self.optimizer.zero_grad()
        sum(self.module.loss(episodes[i % len(episodes)]).values()).backward()
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)
        self.optimizer.step()
        self.bare.append(time.process_time() - began)


_BARE = _BareLoop()
_EPISODES = {}


def _fit(name, folder, start=None):
    """Run a fit with its loader, loggers and progress, but prepared episodes; return seconds a step, and a bare one."""
    _EPISODES.clear()
    _BARE.__init__()
    options = [f"--trainer.max_steps={STEPS.get(name, 2) + WARM + 1}", "--trainer.limit_val_batches=0"]
    options += ["--test_after_fit=false"]
    options += ["--trainer.accelerator=cpu", "--checkpoint.monitor=null", "--data.num_workers=0"]
    options += [] if start is None else [f"--model.init_from={start}"]
    main(["fit", "--config", f"experiments/{name}.yaml", "--run_dir", str(folder), *options])
    return float(np.median(_BARE.fitted[WARM:])), float(np.median(_BARE.bare[WARM:]))


@pytest.mark.parametrize("name", STEPS)
def test_fit_against_a_bare_loop(name, tmp_path, monkeypatch, one_thread):
    """At least 0.95 of the bare loop's speed. Drawing is left out: another process does it."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(lightning_fewshot.cli.run, "Progress", _InTurn)
    monkeypatch.setattr("lightning_fewshot.data._Episodes.__getitem__", _prepared)
    start = None
    if name == "mlt":  # its second stage starts from its first
        _fit("mlt/matching", tmp_path / "matching")
        start = tmp_path / "matching/checkpoints/last.ckpt"
    fitted, looped = _fit(name, tmp_path / "run", start)
    ratio = looped / fitted
    say(f"{name}: a step of fit {1e3 * fitted:.1f} ms, {ratio:.3f} of a bare loop's speed (goal >= {GOAL})")
    assert ratio >= GOAL


def _prepared(dataset, index):
    """Return the episode of a few, each drawn once."""
    if index % EPISODES not in _EPISODES:
        _EPISODES[index % EPISODES] = dataset.data.episode(dataset.split, index % EPISODES)
    return _EPISODES[index % EPISODES]
