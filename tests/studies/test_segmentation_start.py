"""The study of what segmentation scores before training: its own parts, without data."""

import oslsm_start as study
import torch

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.metrics.estimate import Estimate


def video(n_frames):
    images = [torch.full((3, 2, 2), i, dtype=torch.uint8) for i in range(n_frames)]
    masks = [torch.zeros(2, 2, dtype=torch.uint8)] * n_frames
    query = Examples(images, torch.zeros(n_frames, dtype=torch.int64), class_masks=masks)
    return Episode(None, query, ("a",), 0, (0,), "video")


def test_a_video_keeps_every_eighth_frame_and_its_last():
    kept = study.thinned(video(18)).query
    assert [int(image[0, 0, 0]) for image in kept.images] == [0, 8, 16, 17]
    assert len(kept.labels) == len(kept.class_masks) == 4
    photo = video(3)._replace(protocol="episode")
    assert study.thinned(photo) is photo


def test_a_row_names_the_metric_its_interval_and_what_it_is_over():
    found = {"miou": Estimate(0.5, 0.4, 0.6, 7), "pairs": Estimate(9.0, 9.0, 9.0, 7)}
    assert study.line("copy mask", found) == "| copy mask | miou | 50.0 ± 10.0 | 7 | 9 | - |"
