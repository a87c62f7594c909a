"""The film of a tracked video: boxes and labels of several objects stay apart."""

import numpy as np
import torch

from lightning_fewshot.drawing import mask_colors
from lightning_fewshot.tracking.annotate import WHITE, annotated
from lightning_fewshot.tracking.loop import Step


def step(box, score=0.5):
    frame = torch.zeros(3, 200, 300, dtype=torch.uint8)
    return Step(t=7, frame=frame, box=torch.tensor(box), score=score, seconds=0.0, read_seconds=0.0)


def count(picture, color):
    return int((picture == np.array(color[::-1], np.uint8)).all(2).sum())


def test_labels_of_objects_that_meet_are_both_whole():
    boxes = [[100.0, 80, 160, 140], [104.0, 82, 164, 142]]
    apart = [[20.0, 80, 80, 140], [204.0, 82, 264, 142]]
    together, spread = (annotated([step(box) for box in pair]) for pair in (boxes, apart))
    for color in mask_colors(2):
        assert count(together, color) > 0.85 * count(spread, color), "a label that is covered loses its ground"
    assert count(together, WHITE) > 100, "the number of the frame"


def test_a_box_that_is_lost_is_not_drawn():
    nowhere = [float("nan")] * 4
    assert count(annotated([step(nowhere), step([20.0, 80, 80, 140])]), mask_colors(2)[0]) == 0
    far = annotated([step([-1e9, -1e9, 1e9, 1e9])])
    assert far.shape == (200, 300, 3)
