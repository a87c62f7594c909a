"""Trackers run by onnxruntime answer as PyTorch does, for several targets by one exported file."""

import sys

import numpy as np
import pytest
import torch

from lightning_fewshot import MetaLearnerTracker, MetaRTT, SiameseLearnetTracker
from lightning_fewshot.cli import main
from lightning_fewshot.models.mlt.settings import MatchingSettings, Memory, MetaLearnerSettings
from lightning_fewshot.tracking.frames import ArrayFrames
from lightning_fewshot.tracking.loop import track

MATCHING = MatchingSettings((8, 8, 8, 8), 8)
BOXES = [torch.tensor([60.0, 50.0, 100.0, 90.0]), torch.tensor([20.0, 30.0, 50.0, 80.0])]


def _module(name):
    torch.manual_seed(0)
    if name == "meta":
        memory = Memory(size=2, update_every=2, least_score=None)
        return MetaLearnerTracker(MATCHING, meta=MetaLearnerSettings(target_kernels=4), memory=memory).eval()
    return SiameseLearnetTracker(name, "S").eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ["siamese_learnet", "meta"])
def test_responses_agree(name):
    """Within 1e-4; two targets and, of MLT, new kernels on the way need no new file but for new shapes."""
    module, frames = _module(name), np.random.default_rng(0).integers(0, 256, (4, 120, 160, 3), dtype=np.uint8)
    plain = [track(module.running_tracker(), ArrayFrames(frames), box) for box in BOXES]
    module.use_engine("onnxruntime")
    other = [track(module.running_tracker(), ArrayFrames(frames), box) for box in BOXES]
    for here, there in zip(plain, other, strict=True):
        torch.testing.assert_close(there.scores, here.scores, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(there.boxes, here.boxes, rtol=1e-4, atol=1e-3)
    assert len(module.engine._sessions) == (2 if name == "meta" else 1)
    module.use_engine("torch")
    assert module.engine is None


def test_what_cannot_run_so_says_so(monkeypatch):
    with pytest.raises(ValueError, match="MetaRTT learns on the way"):
        MetaRTT().use_engine("onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="onnxruntime is missing: pip install"):
        _module("siamese_shared").use_engine("onnxruntime")


def test_the_command_line_refuses_it_where_nothing_tracks(tmp_path):
    options = ["--config", "experiments/protonet.yaml", "--config", "experiments/protonet.tiny.yaml"]
    with pytest.raises(SystemExit, match="validate, test and predict of a tracker"):
        main(["test", *options, "--engine", "onnxruntime", "--run_dir", str(tmp_path)])
