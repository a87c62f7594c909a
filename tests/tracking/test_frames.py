"""Frames from files, videos and arrays; what is wrong with one is said by its name."""

import pickle
import threading
import warnings

import cv2
import numpy as np
import pytest
import torch

from lightning_fewshot.tracking.frames import (
    ArrayFrames,
    Frames,
    ImageFrames,
    ahead,
    list_images,
)
from lightning_fewshot.tracking.reading import read_frame
from lightning_fewshot.tracking.videos import VideoFrames, open_frames


@pytest.fixture(scope="module")
def clip(maker, tmp_path_factory):
    return maker.make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture
def folder(maker, tmp_path):
    maker.write_images(tmp_path / "video", maker.images(12), 1, suffix=".png")
    return tmp_path / "video"


def test_files_come_in_natural_order(folder, maker):
    frames = open_frames(folder)
    assert [p.name for p in list_images(folder)][:3] == ["1.png", "2.png", "3.png"]
    assert (len(frames), frames.name) == (12, "video")
    for frame, image in zip(frames, maker.images(12), strict=True):
        assert frame.dtype == torch.uint8
        np.testing.assert_array_equal(frame.permute(1, 2, 0).numpy(), image)
    assert torch.equal(frames[-1], frames[11])
    with pytest.raises(IndexError, match="frame 12 of video, which has 12 frames"):
        frames[12]


def test_a_part_of_a_video(folder):
    frames = open_frames(folder)
    part = frames[3:9:2]
    assert len(part) == 3
    assert torch.equal(part[1], frames[5])
    assert [torch.equal(a, b) for a, b in zip(part, (frames[3], frames[5], frames[7]), strict=True)] == [True] * 3


def test_a_video_file_decodes_to_its_frames(clip, maker):
    frames = open_frames(clip)
    assert (len(frames), frames.name) == (12, "clip")
    decoded = list(frames)
    assert len(decoded) == 12
    for frame, image in zip(decoded, maker.images(12), strict=True):  # lossy, but the red square is where it was
        truth = torch.from_numpy(image).permute(2, 0, 1)
        assert (frame[0].float() - truth[0].float()).abs().mean() < 25


def test_single_frames_of_a_video_file_are_those_of_the_stream(clip):
    frames, stream = VideoFrames(clip), list(VideoFrames(clip))
    for t in (0, 1, 2, 7, 8, 3, 11):
        assert torch.equal(frames[t], stream[t])
    assert torch.equal(pickle.loads(pickle.dumps(frames))[5], stream[5])


def test_frames_that_follow_each_other_are_decoded_once(clip, monkeypatch):
    frames, opened = VideoFrames(clip), []
    _ = frames[4]
    begin = frames._open
    monkeypatch.setattr(frames, "_open", lambda: opened.append(1) or begin())
    _ = [frames[t] for t in (5, 6, 9)]
    assert not opened
    _ = frames[2]
    assert len(opened) == 1, "what lies behind is decoded from the first frame on: seeking may end elsewhere"


def test_grey_and_16_bit_frames(tmp_path):
    grey = np.arange(60, dtype=np.uint8).reshape(6, 10)
    deep = (np.arange(60, dtype=np.uint16) * 1000).reshape(6, 10)
    color = np.random.default_rng(0).integers(0, 65536, (6, 10, 3), dtype=np.uint16)
    for name, image in {"grey": grey, "deep": deep, "color": color}.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
        frame = read_frame(tmp_path / f"{name}.png")
        assert frame.shape == (3, 6, 10)
        assert frame.dtype == torch.uint8
        expected = (image if image.dtype == np.uint8 else image / 257.0).reshape(6, 10, -1)[..., ::-1]
        assert np.abs(frame.permute(1, 2, 0).numpy() - expected).max() <= 1
        source = image[..., ::-1] if image.ndim == 3 else image
        assert (ArrayFrames([source])[0].int() - frame.int()).abs().max() <= 1


def test_a_missing_a_truncated_and_an_empty_file(folder):
    whole = (folder / "5.png").read_bytes()
    frames = open_frames(folder)
    for data in (whole[: len(whole) // 2], b"", b"no image at all"):
        (folder / "5.png").write_bytes(data)
        with pytest.raises(ValueError, match=r"frame .*5\.png is truncated or not an image"):
            frames[4]
    (folder / "5.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"frame .*5\.png is missing"):
        frames[4]


def test_a_truncated_jpeg_is_not_filled_with_grey(maker, tmp_path):
    maker.write_images(tmp_path, maker.images(1))
    path = tmp_path / "0001.jpg"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    with pytest.raises(ValueError, match=r"0001\.jpg is truncated"):
        read_frame(path)


def test_a_video_file_that_cannot_be_decoded(tmp_path, clip):
    (tmp_path / "broken.mp4").write_bytes(clip.read_bytes()[:200])
    (tmp_path / "text.mp4").write_text("this is no video")
    for name in ("broken.mp4", "text.mp4"):
        with pytest.raises(ValueError, match=f"{name} cannot be decoded"):
            open_frames(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="there is no video file or folder of frames"):
        open_frames(tmp_path / "none.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        open_frames(tmp_path / "empty")


def test_a_video_that_ends_early_says_so(clip, monkeypatch):
    frames = VideoFrames(clip)
    frames.count = 20
    with pytest.warns(UserWarning, match="promises 20 frames, 12 can be decoded"):
        assert len(list(frames)) == 12
    with pytest.raises(ValueError, match=r"frame 15 of .* cannot be decoded"):
        frames[15]


@pytest.mark.parametrize("image", [np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3)), np.zeros(4, np.uint8)])
def test_an_array_of_another_kind_is_refused(image):
    with pytest.raises(ValueError, match=r"expected \(H, W, 1 or 3\) uint8 or uint16"):
        ArrayFrames([image])[0]


def test_no_frame_at_all():
    with pytest.raises(ValueError, match="video x has no frame"):
        ImageFrames([], "x")
    with pytest.raises(ValueError, match="video array has no frame"):
        ArrayFrames(np.zeros((0, 4, 4, 3), np.uint8))


class Slow(Frames):
    def __init__(self, n, broken_at=None):
        super().__init__("slow")
        self.n, self.broken_at, self.decoded = n, broken_at, 0

    def __len__(self):
        return self.n

    def frame(self, t):
        if t == self.broken_at:
            raise ValueError("frame 5 is truncated")
        self.decoded += 1
        return torch.full((3, 2, 2), t % 256, dtype=torch.uint8)


def test_frames_decoded_ahead_come_in_order_and_are_few():
    frames, most = Slow(300), 0
    for t, frame in enumerate(ahead(frames, depth=4)):
        assert int(frame[0, 0, 0]) == t % 256
        most = max(most, frames.decoded - t - 1)
    assert frames.decoded == 300
    assert most <= 5  # the queue, and one in the thread's hand


def test_an_error_in_the_thread_is_raised_at_its_frame():
    stream = ahead(Slow(9, broken_at=5))
    assert [int(next(stream)[0, 0, 0]) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="frame 5 is truncated"):
        next(stream)


def test_a_reader_that_stops_early_leaves_no_thread():
    before = threading.active_count()
    stream = ahead(Slow(10_000), depth=2)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_frames_travel_through_lightning_and_collation_unchanged():
    from lightning_fabric.utilities import move_data_to_device
    from torch.utils.data._utils.pin_memory import pin_memory

    frames = Slow(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert move_data_to_device((frames, torch.zeros(2)), torch.device("cpu"))[0] is frames
        assert pin_memory(frames) is frames
