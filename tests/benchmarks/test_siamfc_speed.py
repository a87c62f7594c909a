"""Trackers of ours against the per-frame work of siamfc-pytorch, re-stated here, with one network and equal scales.

Run: pytest tests/benchmarks/test_siamfc_speed.py -s
"""

import time

import cv2
import numpy as np
import pytest
import torch
from timing import say
from torch.nn.functional import conv2d

from lightning_fewshot import MetaLearnerTracker, SiameseLearnetTracker
from lightning_fewshot.models.mlt.settings import MatchingSettings, Memory, MetaLearnerSettings
from lightning_fewshot.tracking.frames import ArrayFrames
from lightning_fewshot.tracking.response import Search

BOX = torch.tensor([140.0, 100.0, 200.0, 150.0])
SCALES, STEP, PENALTY, DAMPING, WINDOW, UPSAMPLED = 3, 1.0375, 0.9745, 0.59, 0.176, 272
FRAMES = 12

pytestmark = pytest.mark.usefixtures("one_thread")


class SiamFC:
    """What siamfc-pytorch does for a frame: one crop a scale by OpenCV, one forward, upsampled responses, one peak."""

    def __init__(self, module):
        self.convs = [conv.weight.detach().contiguous() for conv in module.network.stream.convs]
        self.norms, self.groups = module.network.stream.norms, [conv.groups for conv in module.network.stream.convs]
        self.adjust = module.network.response.adjust
        hann = np.hanning(UPSAMPLED)
        self.window = np.outer(hann, hann) / np.outer(hann, hann).sum()
        self.factors = STEP ** np.linspace(-(SCALES // 2), SCALES // 2, SCALES)

    def features(self, x):
        for i, weight in enumerate(self.convs):
            x = self.norms[i](conv2d(x, weight, stride=2 if i == 0 else 1, groups=self.groups[i]))
            x = torch.relu(x) if i < len(self.convs) - 1 else x
            x = torch.max_pool2d(x, 3, 2) if i < 2 else x
        return x

    def init(self, image, box):
        x1, y1, x2, y2 = box.tolist()
        self.centre, self.size = np.array([(y1 + y2) / 2, (x1 + x2) / 2]), np.array([y2 - y1, x2 - x1])
        side = np.sqrt(np.prod(self.size + self.size.sum() / 2))
        self.search, self.fill = side * 255 / 127, image.mean((0, 1))
        self.kernel = self.features(_batch([_crop(image, self.centre, side, 127, self.fill)]))

    def update(self, image):
        crops = [_crop(image, self.centre, self.search * f, 255, self.fill) for f in self.factors]
        responses = self.adjust(conv2d(self.features(_batch(crops)), self.kernel))[:, 0].numpy()
        responses = [cv2.resize(r, (UPSAMPLED, UPSAMPLED), interpolation=cv2.INTER_CUBIC) for r in responses]
        responses = np.stack(responses)
        responses[[0, -1]] *= PENALTY
        best = int(responses.max((1, 2)).argmax())
        response = responses[best] - responses[best].min()
        response = (1 - WINDOW) * response / (response.sum() + 1e-16) + WINDOW * self.window
        place = np.array(np.unravel_index(response.argmax(), response.shape)) - (UPSAMPLED - 1) / 2
        scale = (1 - DAMPING) + DAMPING * self.factors[best]
        self.centre = self.centre + place / 16 * 8 * self.search * self.factors[best] / 255
        self.size, self.search = self.size * scale, self.search * scale


def _crop(image, centre, size, out, fill):
    side = round(size)
    corners = np.concatenate((np.round(centre - (side - 1) / 2), np.round(centre - (side - 1) / 2) + side))
    corners = corners.astype(int)
    beyond = max(0, int(max(*-corners[:2], *(corners[2:] - image.shape[:2]))))
    if beyond:
        image = cv2.copyMakeBorder(image, *(beyond,) * 4, cv2.BORDER_CONSTANT, value=fill)
        corners = corners + beyond
    patch = image[corners[0] : corners[2], corners[1] : corners[3]]
    return cv2.resize(patch, (out, out), interpolation=cv2.INTER_LINEAR)


def _batch(crops):
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()


@torch.no_grad()
def _seconds_of_both(tracker, reference, images):
    """Return the median processor time of a frame of each, measured in turn so that a slow spell meets both."""
    frames, times = ArrayFrames(images), []
    state = tracker.init(frames[0], BOX)
    reference.init(images[0], BOX)
    for t in range(1, len(images)):
        frame, start = frames[t], time.process_time()
        state = tracker.update(state, frame)[0]
        middle = time.process_time()
        reference.update(images[t])
        times.append((middle - start, time.process_time() - middle))
    return np.median(np.array(times)[2:], axis=0)


@pytest.mark.parametrize("stream", ["S", "B"])
@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_against_siamfc_pytorch(stream, engine):
    """At least 2.5 times its frames a second."""
    module = SiameseLearnetTracker("siamese_shared", stream=stream, search=Search(scales=SCALES, step=STEP)).eval()
    module.use_engine(engine)
    images = np.random.default_rng(0).integers(0, 256, (FRAMES, 360, 480, 3), dtype=np.uint8)
    ours, theirs = _seconds_of_both(module.running_tracker(), SiamFC(module), images)
    say(f"siamese {stream}, {engine}: {theirs / ours:.2f} times the speed of siamfc-pytorch's work (goal >= 2.5)")
    assert theirs / ours >= 2.5


@pytest.mark.parametrize("name", ["learnet", "mlt"])
def test_onnxruntime_against_eager(name):
    """Faster than eager, whole frames counted."""
    memory = {"memory": Memory(update_every=90), "meta": MetaLearnerSettings(target_kernels=16)}
    mlt = MetaLearnerTracker(MatchingSettings((32, 64, 96, 96), 48), **memory)
    module = (SiameseLearnetTracker("siamese_learnet", stream="S") if name == "learnet" else mlt).eval()
    frames = ArrayFrames(np.random.default_rng(0).integers(0, 256, (FRAMES, 360, 480, 3), dtype=np.uint8))
    eager = _frame_seconds(module, frames)
    module.use_engine("onnxruntime")
    other = _frame_seconds(module, frames)
    say(f"{name}: onnxruntime {eager / other:.2f} times eager's frames a second (goal > 1)")
    assert eager / other > 1


@torch.no_grad()
def _frame_seconds(module, frames):
    tracker, times = module.running_tracker(), []
    state = tracker.init(frames[0], BOX)
    for t in range(1, len(frames)):
        frame, start = frames[t], time.process_time()
        state = tracker.update(state, frame)[0]
        times.append(time.process_time() - start)
    return float(np.median(times[2:]))
