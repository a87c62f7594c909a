"""A tracking module through the command line: results, resume, prediction; on a tracker that follows the red square."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from lightning_fewshot.episodes import Episode
from lightning_fewshot.tracking.box_files import read_boxes
from lightning_fewshot.tracking.module import SequenceMetrics, TrackingModule
from lightning_fewshot.tracking.supervised import SupervisedRun

calls = []


class RedTracker:
    """Finds red; its only setting is how red."""

    def __init__(self, least, bias):
        self.least, self._bias = least, bias

    def init(self, frame, box):
        calls.append("init")
        return box

    def update(self, state, frame):
        seen = ((frame[0] > self.least) & (frame[1] < 100)).nonzero()
        low, high = seen.amin(0), seen.amax(0) + 1
        box = torch.tensor([low[1], low[0], high[1], high[0]]).float()
        return box, box + self._bias, 0.5


class RedModule(TrackingModule):
    """A tracker with one weight, so that there is something to train.

    Args:
        least: How red.
    """

    def __init__(self, least: int = 150):
        super().__init__()
        self.least = least
        self.bias = torch.nn.Parameter(torch.zeros(4))

    def tracker(self):
        return RedTracker(self.least, self.bias.detach().cpu())

    def adapt(self, support):
        return support.images.float().mean((1, 2, 3))

    def predict(self, state, query):
        return state + self.bias.sum()

    def loss(self, episode):
        return {"bias": (self.bias**2).sum() + 0 * self(episode).sum()}


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Give this file a name that a config can say."""
    monkeypatch.setitem(sys.modules, "red_module", sys.modules[__name__])
    calls.clear()


MODEL = ["--model", "red_module.RedModule", "--trainer.accelerator", "cpu"]


@pytest.fixture
def run(cli, maker, in_tmp):
    """Run a command on the tiny OTB and VOT."""
    maker.make_otb(in_tmp / "data")
    maker.make_vot(in_tmp / "data")

    def start(subcommand, data, *args, run_dir="run"):
        data = [] if data is None else ["--data", f"datamodules.{data}", "--data.root", "data", "--data.num_workers", 0]
        cli(subcommand, *MODEL, *data, *args, toy=False, run_dir=run_dir)
        path = Path(run_dir) / "results.json"
        return json.loads(path.read_text()) if path.exists() else None

    return start


OTB = ["--data.sequences", '["Deer","Couple","Football1","Jogging.1"]']


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
    assert len(list(Path("run/pictures").glob("test_*.png"))) == 4


def test_what_test_wrote_scores_the_same(run, cli):
    record = run("test", "OTB", *OTB)
    with pytest.warns(UserWarning, match="tracks lacks 3 of 7"):
        cli("score", "run/tracks", "--benchmark", "otb", "--root", "data", toy=False, run_dir="scored")
    scored = json.loads(Path("scored/results.json").read_text())["trackers"]["tracks"]["metrics"]
    for name in ("success_auc", "precision_20", "norm_precision_auc"):
        assert scored[name]["value"] == pytest.approx(record["metrics"][name]["value"], abs=1e-6)


def test_a_stopped_test_goes_on_where_it_was(run):
    first = run("test", "OTB", *OTB)
    assert len(calls) == 4
    Path("run/tracks/Deer.txt").unlink()
    again = run("test", "OTB", *OTB)
    assert len(calls) == 5, "one sequence was tracked again"
    for name in ("success_auc", "precision_20", "norm_precision_auc", "success_50"):
        assert again["metrics"][name] == first["metrics"][name]


def test_every_sequence_is_tracked_with_several_seeds(run):
    once = run("test", "OTB", *OTB, run_dir="once")["metrics"]
    assert len(calls) == 4
    record = run("test", "OTB", *OTB, "--data.repeats", 3)
    assert len(calls) == 16
    assert record["protocol"]["repeats"] == 3
    assert record["metrics"]["success_auc"]["n"] == 4
    assert record["metrics"]["success_auc"]["value"] == pytest.approx(once["success_auc"]["value"])
    assert record["metrics"]["success_auc_seed_std"] == {"value": 0, "ci95": [None, None], "n": 3}
    assert sorted(path.name for path in Path("run/tracks").glob("repeat_*")) == ["repeat_2", "repeat_3"]
    again = run("test", "OTB", *OTB, "--data.repeats", 3)
    assert len(calls) == 16, "all are taken up"
    assert again["metrics"]["success_auc"] == record["metrics"]["success_auc"]


def test_the_report_says_where_each_sequence_was_lost(run):
    run("test", "OTB", *OTB, "--data.repeats", 2)
    lines = Path("run/tracks/report.csv").read_text().splitlines()
    assert lines[0] == "sequence,repeat,frames,share_found,first_loss,mean_iou,mean_score"
    rows = [line.split(",") for line in lines[1:]]
    assert [(row[0], row[1]) for row in rows[:2]] == [("Couple", "1"), ("Couple", "2")]
    assert len(rows) == 8
    assert all(row[3] == "1.0" and row[4] == "" for row in rows), "the object was never lost"


@pytest.mark.parametrize("changed", [["--model.least", 160], ["--seed_everything", 7]])
def test_another_tracker_takes_nothing_up(run, changed):
    run("test", "OTB", *OTB)
    run("test", "OTB", *OTB, *changed)
    assert len(calls) == 8


def test_tracks_of_changed_truth_are_not_taken(run):
    run("test", "OTB", *OTB)
    truth = Path("data/OTB/Deer/groundtruth_rect.txt")
    truth.write_text("".join(f"{line}\n" for line in truth.read_text().splitlines()[:-1]) + "9,9,9,9\n")
    run("test", "OTB", *OTB)
    assert len(calls) == 5, "one sequence was tracked again"
    fresh = run("test", "OTB", *OTB, run_dir="fresh")["metrics"]
    again = run("test", "OTB", *OTB)["metrics"]
    assert len(calls) == 9
    assert again["success_auc"] == fresh["success_auc"]


def test_tracks_of_changed_images_are_not_taken(run):
    run("test", "OTB", *OTB)
    path = sorted(Path("data/OTB/Deer/img").iterdir())[3]
    path.write_bytes(path.read_bytes())
    run("test", "OTB", *OTB)
    assert len(calls) == 5


def test_one_pass_and_supervised_tracks_are_not_taken_for_each_other(run):
    reference = run("test", "VOT", run_dir="reference")["metrics"]
    run("test", "VOT", "--data.evaluation", "one-pass")
    supervised = run("test", "VOT")["metrics"]
    assert len(calls) == 6
    for name in ("accuracy", "failures", "robustness"):
        assert supervised[name]["value"] == reference[name]["value"]
    one_pass = run("test", "VOT", "--data.evaluation", "one-pass")["metrics"]
    assert len(calls) == 8
    assert "success_auc" in one_pass


def test_supervised_evaluation_resumes_too(run):
    first = run("test", "VOT")
    assert len(calls) == 2
    assert first["protocol"]["evaluation"] == "supervised"
    assert first["metrics"]["failures"]["value"] == 0
    assert first["metrics"]["accuracy"]["value"] > 0.8
    again = run("test", "VOT")
    assert len(calls) == 2
    for name in ("accuracy", "failures", "robustness", "eao_108_371"):
        assert again["metrics"][name]["value"] == pytest.approx(first["metrics"][name]["value"], abs=1e-6)


def test_a_longer_supervised_run_is_not_taken_for_a_shorter_one(run):
    run("test", "VOT")
    run("test", "VOT", "--data.max_frames", 7)
    assert len(calls) == 4
    assert len(Path(next(Path("run/tracks").glob("*.txt"))).read_text().split()) == 7


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


@pytest.fixture
def trained(run, maker):
    maker.make_got10k(Path("data"), 5)
    sizes = ["--data.batch_size", 2, "--data.episodes", "{train: 1, val: 1, test: null}", "--data.max_frames", 3]
    run("fit", "GOT10k", *sizes, "--trainer.max_epochs", 1, run_dir="fit")
    return "fit/checkpoints/best.ckpt"


PREDICT = ["--data", "datamodules.VideoFile", "--data.video", "clip.mp4", "--data.box", "10,12,12,12"]


def test_predict_writes_boxes_an_annotated_video_and_the_speed(run, trained, maker, capsys):
    maker.make_clip(Path("clip.mp4"))
    run("predict", None, *PREDICT, "--ckpt_path", trained)
    boxes = read_boxes("run/tracks/clip.txt").numpy()
    np.testing.assert_allclose(boxes, maker.boxes(12), atol=3)
    film = cv2.VideoCapture("run/tracks/clip.mp4")
    assert int(film.get(cv2.CAP_PROP_FRAME_COUNT)) == 12
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    picture = film.read()[1]
    assert picture.shape == (48, 64, 3)
    (record,) = json.loads(Path("run/predictions.json").read_text())
    assert record["frames"] == 12
    assert record["fps"] > record["fps_with_reading"] > 0
    shown = capsys.readouterr().out
    assert "12 frames," in shown
    assert "frames/s" in shown
    assert "clip 12/12" in shown, "progress"


def test_predict_on_a_folder_of_frames(run, trained):
    run(
        "predict",
        None,
        *PREDICT[:2],
        "--data.video",
        "data/OTB/Deer/img",
        "--data.box",
        "10 12 12 12",
        "--ckpt_path",
        trained,
    )
    assert len(read_boxes("run/tracks/Deer.txt")) == 10


def test_predict_without_weights_says_where_they_come_from(run, maker):
    maker.make_clip(Path("clip.mp4"))
    with pytest.raises(SystemExit, match=r"error: RedModule needs trained weights: .*fit .*--ckpt_path"):
        run("predict", None, *PREDICT)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ("10,12,12", "must be four numbers"),
        ("10,12,0,12", "width and height must be positive"),
        ("100,12,12,12", "outside the frame of 64 x 48 pixels"),
    ],
)
def test_a_bad_box_is_one_line(run, trained, maker, capsys, box, message):
    maker.make_clip(Path("clip.mp4"))
    with pytest.raises(SystemExit) as end:
        run("predict", None, *PREDICT[:4], "--data.box", box, "--ckpt_path", trained)
    assert message in str(end.value.code) + capsys.readouterr().err


def test_a_video_that_is_missing_or_broken_is_one_line(run, trained):
    with pytest.raises(SystemExit, match=r"error: there is no video file or folder of frames at none\.mp4"):
        run("predict", None, *PREDICT[:2], "--data.video", "none.mp4", *PREDICT[4:], "--ckpt_path", trained)
    Path("text.mp4").write_text("no video")
    with pytest.raises(SystemExit, match=r"error: video text\.mp4 cannot be decoded"):
        run("predict", None, *PREDICT[:2], "--data.video", "text.mp4", *PREDICT[4:], "--ckpt_path", trained)
    with pytest.raises(SystemExit, match="error: no box is given"):
        run("predict", None, *PREDICT[:2], "--data.video", "data/OTB/Deer/img", "--ckpt_path", trained)


def test_one_own_video_with_its_truth_is_tested(run):
    truth = ["--data.video", "data/OTB/Deer/img", "--data.truth", "data/OTB/Deer/groundtruth_rect.txt"]
    record = run("test", None, "--data", "datamodules.VideoFile", *truth)
    assert record["metrics"]["success_auc"]["n"] == 1
    assert record["metrics"]["success_auc"]["value"] > 0.7, "OTB's files count from 1, one's own from 0"


def test_several_boxes_are_followed_in_one_pass(run, trained, maker):
    maker.make_clip(Path("clip.mp4"))
    run("predict", None, *PREDICT, "--data.box=20,20,10,10", "--ckpt_path", trained)
    (record,) = json.loads(Path("run/predictions.json").read_text())
    assert record["objects"] == 2
    assert record["frames"] == 12
    tracks = [read_boxes(f"run/tracks/clip_{number}.txt").numpy() for number in (1, 2)]
    assert tracks[1][0].tolist() == [20, 20, 10, 10]
    np.testing.assert_allclose(tracks[0][1:], tracks[1][1:], err_msg="both find what is red")
    rows = np.loadtxt("run/tracks/clip.mot.txt", delimiter=",")
    assert rows[:, 0].tolist() == [t for t in range(1, 13) for _ in range(2)]
    assert rows[:, 1].tolist() == [1, 2] * 12
    np.testing.assert_allclose(rows[::2, 2:6], tracks[0], atol=0.01)
    assert Path("run/tracks/clip.mp4").exists()
