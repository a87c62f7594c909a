"""The segmenters through the command line: fit, test of another baseline from one checkpoint, predict."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_fewshot.cli import main

ROOT = Path(__file__).parents[3]
EXPERIMENT = [*("--config", "experiments/oslsm.yaml"), *("--config", "experiments/oslsm/tiny.yaml")]


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(ROOT)
    return tmp_path


def test_fit_draws_the_best_and_the_worst_cases_and_the_baselines_share_a_checkpoint(offline):
    common = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--data.episodes.test=5", "--pictures.count=2"]
    logistic, nearest = (["--config", f"experiments/oslsm/baselines/{name}.yaml"] for name in ("logistic", "nearest"))
    main(["fit", *EXPERIMENT, *logistic, *common, "--run_dir", str(offline / "run")])
    names = {p.name[: len("test_worst_1")] for p in (offline / "run/pictures").glob("test_*")}
    assert names >= {"test_best_1_", "test_best_2_", "test_worst_1", "test_worst_2"}
    record = json.loads((offline / "run/results.json").read_text())
    assert record["metrics"]["miou"]["n"] == 5
    assert set(record["metrics"]) == {"miou", "fb_iou", "pairs", "seconds"}
    best = next((offline / "run/checkpoints").glob("best*.ckpt"))
    checkpoint = ["--ckpt_path", str(best), "--run_dir", str(offline / "two")]
    cli = main(["test", *EXPERIMENT, *nearest, *common, *checkpoint])
    assert cli.model.classify.out_channels == 1 + 6


def test_predict_writes_masks_and_overlays_of_ones_own_folder(offline):
    spec = importlib.util.spec_from_file_location("make_masks", ROOT / "tests/data/masks/make.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    root = maker.make_folder_masks(offline / "mine")
    data = ["--config", "experiments/data/folder_masks.yaml", "--data.root", str(root), "--data.images.size=64"]
    steps = ["--trainer.max_steps=1", "--test_after_fit=false", "--trainer.accelerator=cpu"]
    main(["fit", *EXPERIMENT, *steps, "--run_dir", str(offline / "fit")])
    checkpoint = ["--ckpt_path", str(offline / "fit/checkpoints/last.ckpt"), "--trainer.accelerator=cpu"]
    main(["predict", *EXPERIMENT, *data, *checkpoint, "--run_dir", str(offline / "run")])
    names = {"images/unmasked.png", "query/q0.png", "query/q1.png", "query/q2.png"}
    for folder in (offline / "run/masks", offline / "run/pictures"):
        assert {str(p.relative_to(folder)) for p in folder.rglob("*.png") if not p.stem.startswith("val_")} == names
    mask = Image.open(offline / "run/masks/query/q0.png")
    assert mask.mode == "P"
    assert mask.size == maker.SIZE
    found = set(np.unique(np.asarray(mask)).tolist()) - {0}
    records = [r for r in json.loads((offline / "run/predictions.json").read_text()) if r["image"] == "query/q0.png"]
    assert found <= {r["value"] for r in records} <= {1, 2, 3}
    assert all(r["mask"] == "masks/query/q0.png" and 0 < r["share"] <= 1 for r in records)


def test_prototypes_are_tested_without_fit_and_calibrated_by_it(offline):
    prototypes = ["--config", "experiments/oslsm/baselines/prototypes.yaml", "--trainer.accelerator=cpu"]
    cli = main(["test", *EXPERIMENT, *prototypes, "--run_dir", str(offline / "plain")])
    assert not cli.model.segmentation.norm.calibrated
    main(["fit", *EXPERIMENT, *prototypes, "--trainer.max_epochs=1", "--run_dir", str(offline / "run")])
    checkpoint = ["--ckpt_path", str(next((offline / "run/checkpoints").glob("best*.ckpt")))]
    cli = main(["test", *EXPERIMENT, *prototypes, *checkpoint, "--run_dir", str(offline / "calibrated")])
    assert int(cli.model.segmentation.norm.num_batches_tracked) == 2
    fitted, tested = (json.loads((offline / f"{name}/results.json").read_text()) for name in ("run", "calibrated"))
    assert fitted["metrics"]["fb_iou"] == tested["metrics"]["fb_iou"]
