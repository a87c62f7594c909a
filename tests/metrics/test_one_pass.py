"""One-pass evaluation against a plain numpy reference written frame by frame, and its conventions."""

import math
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.metrics.one_pass import OnePass, centre_errors, one_pass_curves, paired_iou


def reference(boxes, target):
    """Scores of one sequence, frame by frame."""
    overlaps, errors, normalised = [], [], []
    for t, (b, g) in enumerate(zip(boxes, target, strict=False)):
        if any(math.isnan(v) for v in g):
            continue
        b = g if t == 0 else b
        w, h = min(b[2], g[2]) - max(b[0], g[0]), min(b[3], g[3]) - max(b[1], g[1])
        inter = max(w, 0) * max(h, 0)
        union = max(b[2] - b[0], 0) * max(b[3] - b[1], 0) + (g[2] - g[0]) * (g[3] - g[1]) - inter
        overlaps.append(inter / union if union > 0 else 0)
        dx, dy = (b[0] + b[2] - g[0] - g[2]) / 2, (b[1] + b[3] - g[1] - g[3]) / 2
        errors.append(math.hypot(dx, dy))
        normalised.append(math.hypot(dx / (g[2] - g[0]), dy / (g[3] - g[1])))
    success = [sum(o > k / 20 for o in overlaps) / len(overlaps) for k in range(21)]
    return {
        "success_auc": sum(success) / 21,
        "precision_20": sum(e <= 20 for e in errors) / len(errors),
        "norm_precision_auc": sum(sum(n <= k / 100 for n in normalised) / len(normalised) for k in range(51)) / 51,
    }


def random_sequence(seed, n=60, absent=0.0):
    g = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=g, dtype=torch.float64) * 100
    target = torch.cat((corner, corner + 20 + torch.rand(n, 2, generator=g, dtype=torch.float64) * 60), dim=1)
    boxes = target + torch.randn(n, 4, generator=g, dtype=torch.float64) * 8
    target[torch.rand(n, generator=g) < absent] = math.nan
    return boxes, target


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_a_frame_by_frame_reference(seed):
    boxes, target = random_sequence(seed, absent=0.2)
    scores = one_pass_curves(boxes, target).scores
    for name, value in reference(boxes.tolist(), target.tolist()).items():
        assert scores[name] == pytest.approx(value, abs=1e-12), name


def test_thresholds_are_strict_for_overlap_and_not_for_distance():
    target = torch.tensor([[0.0, 0.0, 40.0, 40.0]] * 2)
    half = torch.tensor([[0.0, 0.0, 40.0, 40.0], [20.0, 0.0, 40.0, 40.0]])  # IoU exactly 0.5
    assert one_pass_curves(half, target).success[10].item() == 0.5
    assert one_pass_curves(half, target).success[9].item() == 1.0
    assert one_pass_curves(target, target).success[20].item() == 0.0, "no overlap is above 1"
    away = target + torch.tensor([[0.0, 0, 0, 0], [20, 0, 20, 0]])  # 20 pixels off
    assert one_pass_curves(away, target).precision[20].item() == 1.0
    assert one_pass_curves(away, target).precision[19].item() == 0.5


def test_frame_0_counts_with_the_truth():
    boxes, target = random_sequence(0)
    wrong = boxes.clone()
    wrong[0] = 1e4
    assert one_pass_curves(wrong, target).scores == one_pass_curves(boxes, target).scores


def test_boxes_without_truth_do_not_count_and_truths_without_box_are_misses():
    boxes, target = random_sequence(1)
    expected = one_pass_curves(boxes[:40], target[:40]).scores
    assert one_pass_curves(boxes, target[:40]).scores == expected
    far = torch.cat((boxes[:40], boxes[40:] + 1e5))
    assert one_pass_curves(boxes[:40], target).scores == one_pass_curves(far, target).scores


def test_a_trackers_nan_is_a_miss_and_an_absent_object_no_frame():
    boxes, target = random_sequence(2)
    lost = boxes.clone()
    lost[30:] = math.nan
    far = boxes.clone()
    far[30:] += 1e5
    assert one_pass_curves(lost, target).scores == one_pass_curves(far, target).scores
    target[30:] = math.nan
    assert one_pass_curves(lost, target).scores == one_pass_curves(boxes[:30], target[:30]).scores
    with pytest.raises(ValueError, match="no frame has a truth"):
        one_pass_curves(boxes, torch.full_like(target, math.nan))


def test_scores_do_not_change_when_all_is_moved_or_scaled():
    boxes, target = random_sequence(3)
    moved = one_pass_curves(boxes + 37.5, target + 37.5)
    torch.testing.assert_close(moved.success, one_pass_curves(boxes, target).success)
    scaled = one_pass_curves(boxes * 4, target * 4)
    torch.testing.assert_close(scaled.success, one_pass_curves(boxes, target).success)
    torch.testing.assert_close(scaled.norm_precision, one_pass_curves(boxes, target).norm_precision)


def test_empty_boxes_have_no_overlap():
    empty = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    assert paired_iou(empty, empty).item() == 0
    assert centre_errors(empty, empty).item() == 0


def _pair(index):
    boxes, target = random_sequence(index)
    preds = SimpleNamespace(boxes=boxes.float(), fps=10.0 + index, fps_with_reading=5.0)
    return preds, Episode(None, Examples(None, boxes=[target.float()]), ("object",), index)


def test_the_metric_is_the_mean_over_sequences_with_its_interval():
    metric = OnePass()
    rows = []
    for index in range(7):
        metric.update(*_pair(index))
        rows.append(one_pass_curves(*(part.float() for part in random_sequence(index))).scores["success_auc"])
    estimate = metric.compute()["success_auc"]
    half = 1.96 * np.std(rows, ddof=1) / math.sqrt(7)
    assert estimate.n == 7
    assert estimate.value == pytest.approx(np.mean(rows), abs=1e-6)
    assert (estimate.low, estimate.high) == pytest.approx((np.mean(rows) - half, np.mean(rows) + half), abs=1e-6)
    assert metric.compute()["fps"].value == pytest.approx(13)
    metric.reset()
    assert metric.compute()["success_auc"].n == 0


def _work(rank, world, folder, shares):
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    metric = OnePass()
    for i in shares[rank]:
        metric.update(*_pair(i))
    torch.save({name: tuple(estimate) for name, estimate in metric.compute().items()}, f"{folder}/result_{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    mp.spawn(_work, args=(2, str(tmp_path), ([0, 2, 4], [1, 3])), nprocs=2)
    alone = OnePass()
    for i in range(5):
        alone.update(*_pair(i))
    expected = {name: tuple(estimate) for name, estimate in alone.compute().items()}
    for rank in range(2):
        loaded = torch.load(tmp_path / f"result_{rank}.pt", weights_only=True)
        assert loaded.keys() == expected.keys()
        for name, values in loaded.items():
            np.testing.assert_array_equal(values, expected[name])


def test_ao_and_sr_are_over_all_frames_but_the_first():
    """Against GOT-10k's definition as loops."""
    metric, overlaps = OnePass(), []
    for index in range(3):
        preds, episode = _pair(index)
        truth = episode.query.boxes[0]
        truth[5] = math.nan
        metric.update(preds, episode)
        seen = [t for t in range(1, len(truth)) if t != 5]
        overlaps += paired_iou(preds.boxes.double(), truth.double())[seen].tolist()
    found = metric.compute()
    assert found["ao"].value == pytest.approx(np.mean(overlaps), abs=1e-5)
    assert found["sr_50"].value == pytest.approx(np.mean(np.array(overlaps) > 0.5), abs=1e-5)
    assert found["sr_75"].value == pytest.approx(np.mean(np.array(overlaps) > 0.75), abs=1e-5)
    assert found["frames"].value == len(overlaps) + 3


def test_a_tracker_that_died_is_no_perfect_one():
    target = torch.tensor([[10.0, 15.0, 30.0, 35.0]]).expand(40, 4)
    metric = OnePass()
    preds = SimpleNamespace(boxes=target[:4], fps=1.0, fps_with_reading=1.0)
    metric.update(preds, Episode(None, Examples(None, boxes=[target]), ("object",), 0))
    found = metric.compute()
    assert found["success_auc"].value == pytest.approx(4 / 40 * 20 / 21, abs=1e-6)
    assert found["precision_20"].value == pytest.approx(0.1)
    assert (found["frames"].value, found["frames_without_box"].value) == (40, 36)


def test_several_seeds_of_a_sequence_are_one_sequence_with_a_spread():
    metric, scores = OnePass(), np.zeros((2, 3))
    for index in range(6):
        repeat, sequence = divmod(index, 3)
        preds, episode = _pair(index)
        metric.update(preds, episode._replace(class_ids=(sequence, repeat)))
        scores[repeat, sequence] = one_pass_curves(preds.boxes, episode.query.boxes[0]).scores["success_auc"]
    found = metric.compute()
    assert found["success_auc"].n == 3
    assert found["success_auc"].value == pytest.approx(scores.mean(), abs=1e-6)
    assert found["success_auc_seed_std"].value == pytest.approx(scores.mean(1).std(ddof=1), abs=1e-6)
    assert found["success_auc_seed_std"].n == 2
