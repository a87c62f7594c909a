"""Supervised evaluation: overlaps against painted pixels, EAO against the definition written as loops."""

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from lightning_fewshot.boxes import polygon_boxes
from lightning_fewshot.episodes import Episode
from lightning_fewshot.metrics.vot import Code, Supervised, accuracy, expected_overlap, fragments, polygon_iou


def rotated(rng):
    """Draw a rotated rectangle ``(8,)``, its corners in either order."""
    centre, size, angle = rng.uniform(20, 80, 2), rng.uniform(10, 50, 2), rng.uniform(0, np.pi)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = corners @ turn.T + centre
    return torch.from_numpy((corners[::-1] if rng.random() < 0.5 else corners).copy()).float().flatten()


def painted_iou(polygon, box, height, width, fine=8):
    """Count fine pixels inside both, and inside any, within the frame."""
    y, x = (np.mgrid[0 : height * fine, 0 : width * fine] + 0.5) / fine
    corners = polygon.reshape(4, 2).numpy().astype(np.float64)
    sides = [
        (corners[(i + 1) % 4, 0] - corners[i, 0]) * (y - corners[i, 1])
        - (corners[(i + 1) % 4, 1] - corners[i, 1]) * (x - corners[i, 0])
        for i in range(4)
    ]
    inside = np.all([s >= 0 for s in sides], axis=0) | np.all([s <= 0 for s in sides], axis=0)
    x1, y1, x2, y2 = box.tolist()
    boxed = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    union = (inside | boxed).sum()
    return (inside & boxed).sum() / union if union else 0.0


@pytest.mark.parametrize("seed", range(12))
def test_overlap_equals_painted_pixels(seed):
    rng = np.random.default_rng(seed)
    polygon = rotated(rng)
    corner = torch.from_numpy(rng.uniform(-10, 60, 2)).float()
    box = torch.cat((corner, corner + torch.from_numpy(rng.uniform(15, 70, 2)).float()))
    assert polygon_iou(polygon, box, 90, 100) == pytest.approx(painted_iou(polygon, box, 90, 100), abs=0.01)


def test_overlap_of_what_does_not_meet_is_zero():
    polygon = torch.tensor([0.0, 0, 10, 0, 10, 10, 0, 10])
    assert polygon_iou(polygon, torch.tensor([20.0, 20, 30, 30]), 50, 50) == 0
    assert polygon_iou(polygon, torch.tensor([-30.0, -30, -20, -20]), 50, 50) == 0
    assert polygon_iou(polygon, torch.tensor([0.0, 0, 10, 10]), 50, 50) == pytest.approx(1, abs=1e-6)


def test_the_upright_box_of_a_polygon_has_its_area_and_centre():
    rng = np.random.default_rng(5)
    polygons = torch.stack([rotated(rng) for _ in range(20)])
    boxes = polygon_boxes(polygons)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    expected = [cv2.contourArea(p.reshape(4, 2).numpy()) for p in polygons]
    np.testing.assert_allclose(area.numpy(), expected, rtol=1e-4)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    torch.testing.assert_close(centre, polygons.reshape(-1, 4, 2).mean(1), atol=1e-3, rtol=0)


def random_run(seed, n=80):
    """Overlaps and codes of a run with failures, restarts five frames later."""
    rng = np.random.default_rng(seed)
    overlaps, codes, t, fresh = np.zeros(n), np.full(n, int(Code.SKIPPED)), 0, True
    while t < n:
        if fresh:
            overlaps[t], codes[t], fresh = 1, Code.START, False
        elif rng.random() < 0.05:
            codes[t], fresh = Code.FAILURE, True
            t += 4
        else:
            overlaps[t], codes[t] = rng.uniform(0.2, 1), Code.TRACKED
        t += 1
    return torch.from_numpy(overlaps), torch.from_numpy(codes)


def loop_accuracy(overlaps, codes, burn_in):
    kept, last = [], None
    for t, (o, c) in enumerate(zip(overlaps.tolist(), codes.tolist(), strict=True)):
        last = t if c == Code.START else last
        if c == Code.TRACKED and t - last >= burn_in:
            kept.append(o)
    return sum(kept) / len(kept) if kept else 0.0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("burn_in", [0, 1, 10])
def test_accuracy_equals_a_loop(seed, burn_in):
    run = random_run(seed)
    assert accuracy(*run, burn_in) == pytest.approx(loop_accuracy(*run, burn_in), abs=1e-9)


def loop_eao(runs, low, high):
    """Kristan et al. 2015, section 4: mean over lengths of the mean over fragments that are known at that length."""
    parts = []
    for overlaps, codes in runs:
        start = None
        for t, code in enumerate([*codes.tolist(), None]):
            if code == Code.START:
                start = t
            elif code == Code.FAILURE:
                parts.append((overlaps[start:t].tolist(), False))
                start = None
            elif code is None and start is not None:
                parts.append((overlaps[start:].tolist(), True))
    values = []
    for length in range(low, min(high, max(len(p) for p, _ in parts) - 1) + 1):
        means = []
        for overlaps, whole in parts:
            if whole and len(overlaps) <= length:
                continue
            filled = overlaps + [0.0] * (length + 1 - len(overlaps))
            means.append(sum(filled[1 : length + 1]) / length)
        values.append(sum(means) / len(means))
    return sum(values) / len(values)


def test_eao_failures_and_robustness_equal_loops():
    runs = [random_run(seed, n) for seed, n in enumerate((80, 60, 100, 45))]
    metric = Supervised(bounds=(10, 30))
    for index, (overlaps, codes) in enumerate(runs):
        metric.update(SimpleNamespace(overlaps=overlaps, codes=codes, fps=20.0), Episode(None, None, (), index))
    found = metric.compute()
    failed = [int((codes == Code.FAILURE).sum()) for _, codes in runs]
    lengths = [len(codes) for _, codes in runs]
    assert sum(failed) > 3
    assert found["failures"].value == sum(failed)
    assert found["eao_10_30"].value == pytest.approx(loop_eao(runs, 10, 30), abs=1e-6)
    weighted = sum(f * n for f, n in zip(failed, lengths, strict=True)) / sum(lengths)
    assert found["robustness"].value == pytest.approx(math.exp(-30 * weighted / np.mean(lengths)), abs=1e-9)
    accurate = sum(loop_accuracy(*run, 10) * len(run[0]) for run in runs) / sum(lengths)
    assert found["accuracy"].value == pytest.approx(accurate, abs=1e-6)
    eao = found["eao_10_30"]
    assert eao.n == 4
    assert eao.low <= eao.value <= eao.high


def test_fragments_end_at_failures():
    codes = torch.tensor([1, 0, 2, 3, 1, 0, 0])
    parts = fragments(torch.arange(7.0), codes)
    assert [(p.overlaps.tolist(), p.whole) for p in parts] == [([0, 1], False), ([4, 5, 6], True)]
    assert fragments(torch.arange(3.0), torch.tensor([1, 0, 2]))[0].whole is False


def test_a_failed_fragment_counts_as_zero_and_a_whole_one_not_at_all_beyond_its_end():
    from lightning_fewshot.metrics.vot import Fragment

    long = Fragment(torch.ones(5), True)
    ones = torch.ones(1, 2).double()
    assert expected_overlap([long, Fragment(torch.ones(3), True)], ones)[0, 4] == 1
    assert expected_overlap([long, Fragment(torch.ones(3), False)], ones)[0, 4] == pytest.approx((1 + 0.5) / 2)


def test_no_sequence_gives_nothing():
    assert Supervised().compute() == {}


def _supervised(runs, bounds):
    metric = Supervised(bounds=bounds)
    for index, (overlaps, codes) in enumerate(runs):
        preds = SimpleNamespace(overlaps=torch.tensor(overlaps), codes=torch.tensor(codes), fps=20.0)
        metric.update(preds, Episode(None, None, (), index))
    return metric.compute()


def test_both_bounds_of_the_eao_count():
    """By hand: means over frames 1 to j are 1, 0.5, 1 / 3 at j = 1, 2, 3."""
    runs = [([1.0, 1.0, 0.0, 0.0, 0.0, 0.0], [1, 0, 0, 0, 0, 0])]
    assert _supervised(runs, (1, 3))["eao_1_3"].value == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert _supervised(runs, (2, 3))["eao_2_3"].value == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert _supervised(runs, (1, 2))["eao_1_2"].value == pytest.approx((1 + 1 / 2) / 2)


def test_the_eao_ends_with_the_longest_part_and_its_name_says_where():
    """Frame 3 is a failure in the second case: nobody was followed for four frames."""
    for codes, name in (([1, 0, 0, 0], "eao_1_3"), ([1, 0, 0, 2], "eao_1_2")):
        found = _supervised([([1.0, 1.0, 1.0, 0.0], codes), ([1.0, 1.0], [1, 0])], (1, 371))
        assert [key for key in found if key.startswith("eao")] == [name]
    message = "no EAO: it begins at 108 frames after a start, the longest part without a failure has 3"
    with pytest.warns(UserWarning, match=message):
        found = _supervised([([1.0, 1.0, 1.0, 0.0], [1, 0, 0, 2])], (108, 371))
    assert not [name for name in found if name.startswith("eao")]
    assert all(math.isfinite(estimate.value) for estimate in found.values())


def test_runs_of_one_sequence_with_several_seeds_count_as_one_sequence():
    runs = [([1.0, 0.8, 0.0], [1, 0, 2]), ([1.0, 0.6, 0.6], [1, 0, 0])]
    metric = Supervised(bounds=(1, 2), burn_in=0)
    for index, (overlaps, codes) in enumerate(runs):
        preds = SimpleNamespace(overlaps=torch.tensor(overlaps), codes=torch.tensor(codes), fps=20.0)
        metric.update(preds, Episode(None, None, (), index, class_ids=(0, index)))
    found = metric.compute()
    assert found["failures"].value == 0.5
    assert found["failures"].n == found["accuracy"].n == 1
    assert found["accuracy"].value == pytest.approx((0.8 + 0.6) / 2)


def test_the_overlap_of_two_polygons_and_without_a_frame():
    square, shifted = (torch.tensor([x, 0.0, x + 10, 0, x + 10, 10, x, 10]) for x in (0.0, 5.0))
    assert polygon_iou(square, shifted, 100, 100) == pytest.approx(1 / 3, abs=1e-6)
    assert polygon_iou(square - 50, shifted - 50, math.inf, math.inf) == pytest.approx(1 / 3, abs=1e-6)
