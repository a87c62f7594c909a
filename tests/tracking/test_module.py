"""A tracking module through the command line: fits, tests and results."""

import json
from pathlib import Path

import pytest
import torch
from red_module import OTB, RedModule

from lightning_fewshot.episodes import Episode
from lightning_fewshot.tracking.box_files import read_boxes
from lightning_fewshot.tracking.module import SequenceMetrics, TrackingModule
from lightning_fewshot.tracking.supervised import SupervisedRun


def test_a_test_on_otb_writes_results_and_one_file_a_sequence(run):
    record = run("test", "OTB", *OTB)
    metrics = record["metrics"]
    assert metrics["success_auc"]["n"] == 4
    assert metrics["success_auc"]["value"] > 0.9
    assert metrics["precision_20"]["value"] == 1
    assert {"norm_precision_auc", "success_50", "fps", "fps_with_reading"} <= set(metrics)
    assert record["protocol"]["benchmark"] == "otb"
    assert record["protocol"]["evaluation"] == "one-pass"
    written = read_boxes("run/tracks/Deer.txt")
    truth = read_boxes("data/OTB/Deer/groundtruth_rect.txt")
    assert (written - truth).abs().max() <= 1, "in the coordinates of the benchmark's files"
    assert len(list(Path("run/pictures").glob("test_[0-9]*.png"))) == 4


def test_what_test_wrote_scores_the_same(run, cli):
    record = run("test", "OTB", *OTB)
    with pytest.warns(UserWarning, match="tracks lacks 3 of 7"):
        cli("score", "run/tracks", "--benchmark", "otb", "--root", "data", toy=False, run_dir="scored")
    scored = json.loads(Path("scored/results.json").read_text())["trackers"]["tracks"]["metrics"]
    for name in ("success_auc", "precision_20", "norm_precision_auc"):
        assert scored[name]["value"] == pytest.approx(record["metrics"][name]["value"], abs=1e-6)


def _gather(rank, world, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    metric = SequenceMetrics(bounds=(1, 3))
    if rank == 0:
        run = SupervisedRun(torch.zeros(4, 4), torch.ones(4), torch.tensor([1, 0, 0, 0]), torch.ones(4).double())
        metric.update(run, Episode(None, None, (), 0))
    torch.save({name: estimate.n for name, estimate in metric.compute().items()}, f"{folder}/result_{rank}.pt")
    torch.distributed.destroy_process_group()


def test_a_process_without_a_sequence_gathers_what_the_others_do(tmp_path):
    torch.multiprocessing.spawn(_gather, args=(2, str(tmp_path)), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"result_{rank}.pt", weights_only=True)
        assert found == dict.fromkeys(("accuracy", "failures", "robustness", "eao_1_3", "fps"), 1)


def test_a_module_must_name_its_tracker():
    class Nameless(RedModule):
        tracker = TrackingModule.tracker

    with pytest.raises(TypeError, match="tracker"):
        Nameless()


def test_fit_on_pairs_validates_and_tests_on_videos(run, maker):
    maker.make_got10k(Path("data"), 5)
    sizes = ["--data.batch_size", 2, "--data.episodes", "{train: 2, val: 1, test: null}", "--data.max_frames", 5]
    monitor = ["--trainer.max_epochs", 1]
    record = run("fit", "GOT10k", *sizes, *monitor)
    assert record["metrics"]["success_auc"]["n"] == 1
    assert len(read_boxes(next(Path("run/tracks").glob("*.txt")))) == 5


def test_one_own_video_with_its_truth_is_tested(run):
    truth = ["--data.video", "data/OTB/Deer/img", "--data.truth", "data/OTB/Deer/groundtruth_rect.txt"]
    record = run("test", None, "--data", "datamodules.VideoFile", *truth)
    assert record["metrics"]["success_auc"]["n"] == 1
    assert record["metrics"]["success_auc"]["value"] > 0.7, "OTB's files count from 1, one's own from 0"
