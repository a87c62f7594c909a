"""Video files as people have them: without a number of frames, on their side, at varying times, far too large."""

import struct

import cv2
import numpy as np
import pytest

from lightning_fewshot.tracking import videos
from lightning_fewshot.tracking.videos import VideoFrames, open_frames


def write(path, codec, images, fps=25):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, images[0].shape[1::-1])
    if not writer.isOpened():
        pytest.skip(f"OpenCV cannot write {codec}")
    for image in images:
        writer.write(np.ascontiguousarray(image[..., ::-1]))
    writer.release()
    return path


def left_edge(frame):
    """Return where the red square begins."""
    return ((frame[0] > 150) & (frame[1] < 100)).nonzero()[:, 1].min().item()


def moving(n, width=96, height=64):
    images = np.full((n, height, width, 3), 90, np.uint8)
    for t, image in enumerate(images):
        image[20:40, t : t + 20] = (200, 30, 30)
    return images


def test_a_browsers_webm_has_no_number_of_frames(tmp_path):
    path = write(tmp_path / "clip.webm", "VP80", moving(50))
    data = bytearray(path.read_bytes())
    at = data.find(b"\x44\x89")  # the element Duration becomes Void
    size = 3 + (data[at + 2] & 0x7F)
    data[at], data[at + 1], data[at + 2 : at + size] = 0xEC, 0x80 | (size - 2), bytes(size - 2)
    path.write_bytes(data)
    assert not cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) > 0
    frames = VideoFrames(path)
    assert len(frames) == len(list(frames)) == 50
    assert 0 < frames.fps <= 1000
    assert abs(left_edge(frames[30]) - 30) <= 2


def test_a_phones_video_is_upright(tmp_path):
    """The film lies on its side in the file; the matrix of its track header says how to turn it."""
    path = write(tmp_path / "clip.mp4", "mp4v", moving(6))
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 4 + 40  # version 0: flags, times, ids, duration, layer, group, volume
    one = 1 << 16
    assert struct.unpack(">9i", data[at : at + 36])[0] == one
    data[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 64 << 16, 0, 1 << 30)  # a quarter to the right
    path.write_bytes(data)
    frame = VideoFrames(path)[0]
    assert tuple(frame.shape) == (3, 96, 64)
    rows, columns = ((frame[0] > 150) & (frame[1] < 100)).nonzero().T
    assert rows.max() < 25, "the left of the film is above now"
    assert columns.min() > 20


def test_frames_at_varying_times_are_not_sought(tmp_path):
    """A written gif has its own time for each picture."""
    from PIL import Image

    pictures = [Image.fromarray(image) for image in moving(12)]
    durations = [40, 400, 40, 1000, 40, 40, 200, 40, 40, 600, 40, 40]
    pictures[0].save(tmp_path / "clip.gif", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    frames = open_frames(tmp_path / "clip.gif")
    edges = [left_edge(frame) for frame in frames]
    assert edges == list(range(12))
    assert [left_edge(frames[t]) for t in (9, 3, 11)] == [9, 3, 11]


def test_frames_of_a_size_that_no_memory_holds_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "clip.mp4", "mp4v", moving(3))
    monkeypatch.setattr(videos, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="96x64 pixels but 1000 are the most"):
        VideoFrames(path)
