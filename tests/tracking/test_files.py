"""Result files: what was written is read, whatever separates numbers; half a result is none."""

import os
import warnings
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch

from lightning_fewshot.tracking.box_files import read_boxes, write_boxes
from lightning_fewshot.tracking.episodes import sequence_episode
from lightning_fewshot.tracking.files import TrackFiles, fingerprint, sequence_fingerprint
from lightning_fewshot.tracking.frames import ArrayFrames, ImageFrames
from lightning_fewshot.tracking.loop import Track
from lightning_fewshot.tracking.videos import VideoFrames


@pytest.fixture
def frames():
    found = ArrayFrames(np.zeros((5, 20, 30, 3), np.uint8), "Deer")
    found.origin = 1.0
    return found


@pytest.fixture
def track():
    g = torch.Generator().manual_seed(0)
    corner = torch.rand(5, 2, generator=g) * 20
    times = torch.rand(2, 5, generator=g, dtype=torch.float64) / 10
    asked = torch.tensor([torch.nan, -torch.inf, 1.5, -2.25, 0.0]), torch.tensor([torch.nan, 1.0, 0.0, 1.0, 1.0])
    return Track(torch.cat((corner, corner + 9), 1), torch.rand(5, generator=g), times[0], times[1], *asked)


def test_a_track_is_read_as_it_was_written(frames, track, tmp_path):
    TrackFiles(tmp_path, "me").write(frames, track)
    found = TrackFiles(tmp_path, "me").read(frames)
    for ours, theirs in zip(track, found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4, equal_nan=True)


def test_files_of_earlier_versions_say_nothing_of_the_truth(frames, track, tmp_path):
    TrackFiles(tmp_path, "me").write(frames, track._replace(truth_scores=None, found=None))
    assert {line.count(",") for line in (tmp_path / "times/Deer_more.txt").read_text().split()} == {1}
    found = TrackFiles(tmp_path, "me").read(frames)
    torch.testing.assert_close(found.scores, track.scores, atol=1e-5, rtol=1e-5)
    assert (found.truth_scores, found.found) == (None, None)


def test_files_have_the_benchmarks_coordinates_and_layout(frames, track, tmp_path):
    TrackFiles(tmp_path, "me").write(frames, track)
    rows = np.loadtxt(tmp_path / "Deer.txt", delimiter=",")
    np.testing.assert_allclose(rows[:, :2], track.boxes[:, :2] + 1, atol=1e-4)
    np.testing.assert_allclose(rows[:, 2:], 9, atol=1e-4)
    np.testing.assert_allclose(np.loadtxt(tmp_path / "times/Deer_time.txt"), track.seconds, atol=1e-7)


def test_what_another_tracker_left_is_not_taken(frames, track, tmp_path):
    TrackFiles(tmp_path, "me").write(frames, track)
    assert TrackFiles(tmp_path, "other").read(frames) is None
    assert TrackFiles(tmp_path / "elsewhere", "me").read(frames) is None


@pytest.mark.parametrize("name", ["Deer.txt", "times/Deer_time.txt", "times/Deer_more.txt", "times/Deer_made_by.txt"])
@pytest.mark.parametrize("how", ["gone", "cut", "empty"])
def test_half_a_result_is_none(frames, track, tmp_path, name, how):
    TrackFiles(tmp_path, "me").write(frames, track)
    path = tmp_path / name
    text = path.read_text()
    path.unlink() if how == "gone" else path.write_text("" if how == "empty" else text[: len(text) // 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's word on empty files
        assert TrackFiles(tmp_path, "me").read(frames) is None


@pytest.mark.parametrize("separator", [",", "\t", " ", ", ", ";"])
def test_any_separator(tmp_path, separator):
    lines = separator.join("1234"), separator.join(("5", "6", "7", "NaN"))
    (tmp_path / "x.txt").write_text("\n".join(lines) + "\n\n")
    boxes = read_boxes(tmp_path / "x.txt")
    assert boxes[0].tolist() == [1, 2, 3, 4]
    assert boxes[1, :3].tolist() == [5, 6, 7]
    assert boxes[1, 3].isnan()


def test_polygons_become_their_bounding_boxes(tmp_path):
    (tmp_path / "x.txt").write_text("5,0,10,5,5,10,0,5\n")
    assert read_boxes(tmp_path / "x.txt").tolist() == [[0, 0, 10, 10]]
    assert read_boxes(tmp_path / "x.txt", polygons=True).tolist() == [[5, 0, 10, 5, 5, 10, 0, 5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4\n1,2,3\n", "line 2 has 3 values, expected 4"),
        ("1,2,3\n", "line 1 has 3 values"),
        ("", "has no box"),
        ("1,2,3,four\n", "something that is no number"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, text, message):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_boxes(tmp_path / "x.txt")


def test_boxes_are_written_whole(tmp_path):
    write_boxes(tmp_path / "deep/x.txt", torch.tensor([[1.0, 2, 3, 4.56789]]))
    assert (tmp_path / "deep/x.txt").read_text() == "1.0000,2.0000,3.0000,4.5679\n"
    assert len(list((tmp_path / "deep").iterdir())) == 1


@dataclass(frozen=True)
class Group:
    scale: float = 1.0


class Settings:
    def __init__(self, scale):
        self.scale, self.network, self._private = scale, object(), 3


def test_the_fingerprint_tells_weights_settings_and_seeds_apart():
    module = torch.nn.Linear(2, 2)
    first = fingerprint(module, Settings(1.0), 0)
    assert fingerprint(module, Settings(1.0), 0) == first
    assert fingerprint(module, Settings(1.1), 0) != first
    assert fingerprint(module, Settings(1.0), 1) != first
    assert fingerprint(module, Settings(Group()), 0) == fingerprint(module, Settings(Group()), 0)
    assert fingerprint(module, Settings(Group(1.1)), 0) != fingerprint(module, Settings(Group()), 0)
    assert fingerprint(module, Settings({"a": Group(1.1)}), 0) != fingerprint(module, Settings({"a": Group()}), 0)
    torch.nn.init.zeros_(module.weight)
    assert fingerprint(module, Settings(1.0), 0) != first


def _image(path, value):
    cv2.imwrite(str(path), np.full((20, 30, 3), value, np.uint8))
    return str(path)


def test_the_fingerprint_of_a_sequence_tells_protocol_boxes_and_images_apart(tmp_path):
    paths = [_image(tmp_path / f"{t}.png", t) for t in range(6)]
    boxes = torch.tensor([[2.0, 3.0, 12.0, 9.0]]).repeat(6, 1)

    def of(paths=paths, boxes=boxes, origin=0.0, cut=None, **changes):
        episode = sequence_episode(ImageFrames(paths, "video", origin)[:cut], boxes)
        return sequence_fingerprint(episode._replace(**changes))

    first = of()
    assert of() == first
    assert of(index=3) == first, "where a sequence stands in its split does not matter"
    assert of(protocol="supervised") != first
    assert of(boxes=boxes + 1) != first
    moved = boxes.clone()
    moved[4] += 1
    assert of(boxes=moved) != first, "the truth of any frame"
    assert of(boxes=boxes[:5]) != first
    assert of(origin=1.0) != first
    assert of(cut=5) != first
    assert of(paths=paths[::-1]) != first
    _image(tmp_path / "3.png", 77)
    assert of() != first, "any image"


def test_the_fingerprint_of_images_in_memory_and_of_a_video_file(tmp_path, maker):
    boxes = torch.tensor([[2.0, 3.0, 12.0, 9.0]])

    def of(frames):
        return sequence_fingerprint(sequence_episode(frames, boxes))

    images = np.zeros((5, 20, 30, 3), np.uint8)
    first = of(ArrayFrames(images))
    assert of(ArrayFrames(images.copy())) == first
    images[2, 0, 0] = 1
    assert of(ArrayFrames(images)) != first
    maker.make_clip(tmp_path / "clip.mp4")
    film = of(VideoFrames(tmp_path / "clip.mp4"))
    assert of(VideoFrames(tmp_path / "clip.mp4")) == film
    os.utime(tmp_path / "clip.mp4", (1, 1))
    assert of(VideoFrames(tmp_path / "clip.mp4")) != film
