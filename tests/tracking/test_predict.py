"""A tracking module predicts one's own videos through the command line."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from lightning_fewshot.tracking.box_files import read_boxes


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


def test_a_video_of_zero_frames_is_one_line(run, trained):
    film = cv2.VideoWriter("empty.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    film.release()
    Path("folder").mkdir()
    assert Path("empty.mp4").stat().st_size > 0, "a header"
    for name in ("empty.mp4", "folder"):
        with pytest.raises(SystemExit, match=f"error: .*{name}") as end:
            run("predict", None, *PREDICT[:2], "--data.video", name, *PREDICT[4:], "--ckpt_path", trained)
        assert "\n" not in str(end.value.code).strip()


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
