"""What the tracking engine costs beside the network. Run with ``pytest tests/benchmarks/test_tracking_speed.py -s``."""

import resource
import time

import numpy as np
import torch
from timing import say, seconds
from torch import nn
from torch.nn.functional import conv2d

from datamodules.tracking.drawn_videos import DrawnVideos
from lightning_fewshot.tracking.crops import SEARCH, crop, exemplar_windows, mean_color, search_windows
from lightning_fewshot.tracking.frames import ArrayFrames, ImageFrames
from lightning_fewshot.tracking.loop import follow, track
from lightning_fewshot.tracking.tracker import IdentityTracker

SCALES = torch.tensor([1 / 1.0375, 1.0, 1.0375])
BOX = torch.tensor([200.0, 150.0, 260.0, 220.0])


def alexnet():
    """The convolutions of SiamFC's stream."""
    return nn.Sequential(
        *(nn.Conv2d(3, 96, 11, 2), nn.BatchNorm2d(96), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, groups=2), nn.BatchNorm2d(256), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3), nn.BatchNorm2d(384), nn.ReLU()),
        *(nn.Conv2d(384, 384, 3, groups=2), nn.BatchNorm2d(384), nn.ReLU()),
        nn.Conv2d(384, 256, 3, groups=2),
    ).eval()


class Siamese:
    """A siamese tracker of three scales, without a paper's refinements."""

    def __init__(self):
        torch.manual_seed(0)
        self.network = alexnet()

    def init(self, frame, box):
        fill = mean_color(frame)
        return box, fill, self.network(crop(frame, exemplar_windows(box)[None], 127, fill))

    def update(self, state, frame):
        box, fill, exemplar = state
        windows = search_windows(box, SCALES)
        response = conv2d(self.network(crop(frame, windows, SEARCH, fill)), exemplar)
        score, place = response.flatten().max(0)
        _ = divmod(int(place) % response[0].numel(), response.shape[-1])
        return state, box, score


def video(n, height=384, width=512):
    images = np.random.default_rng(0).integers(0, 256, (4, height, width, 3), dtype=np.uint8)
    return ArrayFrames([images[t % 4] for t in range(n)])


@torch.no_grad()
def test_the_siamese_tracker_costs_little_more_than_its_network():
    """Goal: at most 1.25 times the bare network on prepared crops, in one run."""
    tracker, frames, n = Siamese(), video(9), 8
    windows = search_windows(BOX, SCALES)
    crops, exemplar = crop(frames[0], windows, SEARCH), tracker.init(frames[0], BOX)[2]
    ratios = []
    for _ in range(4):
        began = time.process_time()
        for _ in range(n):
            conv2d(tracker.network(crops), exemplar)
        bare = (time.process_time() - began) / n
        began = time.process_time()
        track(tracker, frames, BOX)
        whole = (time.process_time() - began) / n
        ratios.append(whole / bare)
    say(f"bare network {1e3 * bare:.1f} ms, tracker {1e3 * whole:.1f} ms, ratios {np.round(ratios, 3)}")
    assert min(ratios) <= 1.25


@torch.no_grad()
def test_crops_are_a_small_part():
    """Three search windows take at most a fifth of the network's time on them."""
    frame, windows, network = video(1)[0], search_windows(BOX, SCALES), alexnet()
    fill = mean_color(frame)
    crops = crop(frame, windows, SEARCH, fill)
    ratio = seconds(lambda: crop(frame, windows, SEARCH, fill), 10) / seconds(lambda: network(crops), 5)
    say(f"three search windows: {ratio:.2f} of the network's time on them")
    assert ratio <= 0.2


def test_decoding_runs_beside_the_tracker(tmp_path):
    """With a tracker that takes as long as a frame's decoding, the loop takes little more than one of both."""
    import cv2

    image = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    for t in range(40):
        cv2.imwrite(str(tmp_path / f"{t:04d}.jpg"), image)
    frames = ImageFrames(sorted(tmp_path.glob("*.jpg")), "video")
    began = time.perf_counter()
    for t in range(40):
        _ = frames[t]
    decoding = (time.perf_counter() - began) / 40

    class Waits(IdentityTracker):
        def update(self, state, frame):
            time.sleep(decoding)
            return super().update(state, frame)

    found = track(Waits(), frames, BOX)
    per_frame = float(found.seconds.sum() + found.read_seconds.sum()) / 40
    say(f"decoding {1e3 * decoding:.1f} ms, decoding and tracking {1e3 * per_frame:.1f} ms a frame")
    assert per_frame < 1.7 * decoding


def test_memory_is_flat_over_6_000_frames():
    peaks = []
    for step in follow(IdentityTracker(), video(6_000, 120, 160), BOX / 4):
        if step.t in (2000, 5999):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    say(f"peak memory {peaks[0]:.0f} MB after 2,000 frames, {peaks[1]:.0f} MB after 6,000")
    assert peaks[1] - peaks[0] < 5


def test_training_pairs_are_drawn_faster_than_trained_on():
    """One process that draws keeps up with the network's forward and backward pass."""
    data, network = DrawnVideos(batch_size=8), alexnet()
    data.setup("fit")
    indices = iter(range(10**6))

    def train():
        (network(torch.rand(8, 3, 127, 127)).sum() + network(torch.rand(8, 3, 255, 255)).sum()).backward()

    ratio = seconds(lambda: data.episode("train", next(indices)), 5) / seconds(train, 2)
    say(f"drawing eight pairs: {ratio:.2f} of the time of a training step on them")
    assert ratio <= 1
