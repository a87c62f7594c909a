"""A tracker that follows the red square, and its module."""

import torch

from lightning_fewshot.tracking.module import TrackingModule

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


MODEL = ["--model", "red_module.RedModule", "--trainer.accelerator", "cpu"]
OTB = ["--data.sequences", '["Deer","Couple","Football1","Jogging.1"]']
