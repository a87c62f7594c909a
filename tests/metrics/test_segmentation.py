"""Intersection over union against numpy and scikit-learn, void pixels, intervals, and two processes."""

import os

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from sklearn.metrics import confusion_matrix, jaccard_score

from lightning_fewshot.episodes import Episode, Examples, Segmentation
from lightning_fewshot.metrics.segmentation import SegmentationMetrics, class_iou, fb_iou, mean_iou, pair_counts


def make_pairs(n, seed=0, n_classes=4, side=12, n_way=1, void=True):
    """List n pairs (predictions, episode) of random masks; the asked class of image 0 is ``class_ids[0]``."""
    g = torch.Generator().manual_seed(seed)
    pairs = []
    for index in range(n):
        ids = tuple(torch.randperm(n_classes, generator=g)[:n_way].tolist())
        truth = torch.randint(n_way + 1, (1, side, side), generator=g, dtype=torch.uint8)
        if void:
            truth[torch.rand(truth.shape, generator=g) < 0.1] = 255
        noise = torch.rand(n_way, side, side, generator=g) < 0.3
        masks = (truth == torch.arange(1, n_way + 1)[:, None, None]) ^ noise
        labels = torch.zeros(1, dtype=torch.int64) if n_way == 1 else None
        query = Examples(torch.zeros(1, 3, side, side, dtype=torch.uint8), labels, class_masks=truth)
        pred = Segmentation(masks, torch.zeros(side, side, dtype=torch.uint8), 0.1 * index)
        pairs.append(([pred], Episode(None, query, tuple(map(str, ids)), index, ids)))
    return pairs


def measured(pairs, **options):
    metric = SegmentationMetrics(resamples=50, **options)
    for preds, episode in pairs:
        metric.update(preds, episode)
    return metric.compute()


def flat(pairs, void):
    """Give ``{class: (truth, prediction)}`` of all counted pixels."""
    pixels = {}
    for (pred,), episode in pairs:
        truth = episode.query.class_masks[0].numpy()
        for c, number in enumerate(episode.class_ids):
            kept = (truth != 255) | (void == "background")
            rows = pixels.setdefault(number, ([], []))
            rows[0].append((truth == c + 1)[kept])
            rows[1].append(pred.masks[c].numpy()[kept])
    return {number: tuple(map(np.concatenate, rows)) for number, rows in pixels.items()}


@pytest.mark.parametrize("void", ["ignore", "background"])
@pytest.mark.parametrize("n_way", [1, 3])
def test_both_metrics_match_scikit_learn(void, n_way):
    pairs = make_pairs(9, n_way=n_way)
    found, pixels = measured(pairs, void=void), flat(pairs, void)
    expected = np.mean([jaccard_score(*rows) for rows in pixels.values()])
    assert found["miou"].value == pytest.approx(expected, abs=1e-12)
    truth, preds = (np.concatenate([rows[i] for rows in pixels.values()]) for i in (0, 1))
    both = jaccard_score(truth, preds, average=None)
    assert found["fb_iou"].value == pytest.approx(both.mean(), abs=1e-12)
    assert (found["miou"].n, found["pairs"].value) == (9, 9 * n_way)


def test_counts_match_the_confusion_matrix():
    preds, target = torch.rand(5, 7) < 0.5, torch.randint(2, (5, 7))
    tn, fp, fn, tp = confusion_matrix(target.flatten(), preds.flatten()).ravel()
    assert pair_counts(preds, target).tolist() == [tp, fp, fn, tn]


def test_pixels_are_summed_over_pairs_before_dividing():
    counts = torch.tensor([[100, 0, 0, 0], [0, 1, 0, 0], [3, 1, 0, 0]])
    classes, once = torch.tensor([0, 0, 1]), torch.ones(1, 3, dtype=torch.float64)
    assert mean_iou(counts, classes, once).item() == pytest.approx((100 / 101 + 3 / 4) / 2)  # class 0: not (1 + 0) / 2


def test_resamples_match_numpy():
    g = np.random.default_rng(0)
    counts, classes = g.integers(1, 50, (12, 4)), g.integers(0, 3, 12)
    weights = g.integers(0, 3, (20, 12)).astype(np.float64)
    mean, both = [], []
    for w in weights:
        repeated, labels = np.repeat(counts, w.astype(int), 0), np.repeat(classes, w.astype(int))
        sums = [repeated[labels == c].sum(0) for c in np.unique(labels)]
        mean.append(np.mean([s[0] / s[:3].sum() for s in sums]))
        tp, fp, fn, tn = repeated.sum(0)
        both.append((tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2)
    counts, classes, weights = map(torch.from_numpy, (counts, classes, weights))
    np.testing.assert_allclose(mean_iou(counts, classes, weights), mean)
    np.testing.assert_allclose(fb_iou(counts, weights), both)


def test_perfect_and_empty_predictions():
    pairs = make_pairs(5, void=False)
    right = [([p._replace(masks=e.query.class_masks == 1)], e) for (p,), e in pairs]
    wrong = [([p._replace(masks=torch.zeros_like(p.masks))], e) for (p,), e in pairs]
    perfect, nothing = measured(right), measured(wrong)
    assert perfect["miou"] == (1, 1, 1, 5)
    assert perfect["fb_iou"].value == 1
    assert nothing["miou"].value == 0
    assert 0 < nothing["fb_iou"].value < 0.5


def test_renaming_classes_changes_nothing():
    pairs = make_pairs(8)
    renamed = [(p, e._replace(class_ids=tuple(100 - 7 * c for c in e.class_ids))) for p, e in pairs]
    assert measured(pairs)["miou"].value == pytest.approx(measured(renamed)["miou"].value, abs=1e-12)


def test_the_interval_covers_the_value_and_narrows():
    few, many = measured(make_pairs(10, seed=1))["miou"], measured(make_pairs(90, seed=1))["miou"]
    assert few.low <= few.value <= few.high
    assert many.high - many.low < few.high - few.low


def video(index, ious, last=0.0):
    """Give a sequence of single rows of 100 true pixels, predicted up to an IoU, and a last frame that cannot count."""
    ious = [*ious, last]
    truth = torch.ones(len(ious), 1, 100, dtype=torch.uint8)
    preds = [Segmentation(torch.arange(100)[None, None] < 100 * iou, torch.zeros(1, 100)) for iou in ious]
    query = Examples(torch.zeros(len(ious), 3, 1, 100), torch.zeros(len(ious), dtype=torch.int64), class_masks=truth)
    return preds, Episode(None, query, (f"s{index}",), index, (index,), "video")


def test_region_similarity_is_the_mean_over_sequences_of_the_mean_over_frames():
    found = measured([video(0, [1.0, 0.5, 0.0]), video(1, [0.2]), video(2, [0.6, 0.4])])
    assert found["j"].value == pytest.approx((0.5 + 0.2 + 0.5) / 3)
    assert found["j"].n == 3
    assert found["j"].low < found["j"].value < found["j"].high
    assert measured([video(0, [1.0], last=0.0)])["j"].value == 1  # the benchmark leaves the last frame out
    assert "j" not in measured(make_pairs(3))


def test_a_frame_without_object_is_right_if_nothing_is_predicted():
    (preds, episode), empty = video(0, [0.0, 0.0]), torch.zeros(3, 1, 100, dtype=torch.uint8)
    episode = episode._replace(query=episode.query._replace(class_masks=empty))
    assert measured([(preds, episode)])["j"].value == 1


def test_seconds_are_the_mean_of_what_was_measured():
    assert measured(make_pairs(4))["seconds"].value == pytest.approx(0.15)
    unmeasured = [([p._replace(seconds=None)], e) for (p,), e in make_pairs(4)]
    assert "seconds" not in measured(unmeasured)


def test_nothing_at_all_is_not_a_number():
    found = SegmentationMetrics().compute()
    assert np.isnan(found["miou"].value)
    assert found["miou"].n == 0
    assert class_iou(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.ones(1, 0).double()).shape == (1, 0)


def test_what_does_not_fit_is_named():
    ((pred,), episode) = make_pairs(1)[0]
    small = pred._replace(masks=pred.masks[:, :3])
    with pytest.raises(ValueError, match=r"image 0: predicted masks have shape \(1, 3, 12\), expected \(1, 12, 12\)"):
        SegmentationMetrics().update([small], episode)
    with pytest.raises(ValueError, match="query has no masks to compare 1 predictions with"):
        SegmentationMetrics().update([pred], episode._replace(query=episode.query._replace(class_masks=None)))
    with pytest.raises(ValueError, match="void is 'skip' but must be"):
        SegmentationMetrics(void="skip")


def _work(rank, world, folder, shares):
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    pairs = make_pairs(7, seed=11)
    found = measured([pairs[i] for i in shares[rank]])
    torch.save({name: tuple(estimate) for name, estimate in found.items()}, f"{folder}/result_{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("shares", [([0, 2, 4], [1, 3, 5, 6]), ([0, 1, 2, 3, 4, 5, 6], [])], ids=["half", "empty"])
def test_two_processes_equal_one(tmp_path, shares):
    mp.spawn(_work, args=(2, str(tmp_path), shares), nprocs=2)
    expected = {name: tuple(estimate) for name, estimate in measured(make_pairs(7, seed=11)).items()}
    for rank in range(2):
        assert torch.load(tmp_path / f"result_{rank}.pt", weights_only=True) == expected


def named(pairs, names):
    return [(p, e._replace(query=e.query._replace(names=(n,)))) for (p, e), n in zip(pairs, names, strict=True)]


def test_the_interval_is_over_distinct_query_images():
    pairs = make_pairs(12, seed=3, n_classes=1)
    apart = measured(named(pairs, [f"photo{i}" for i in range(12)]))
    assert apart == measured(pairs)  # without names each image is its own
    many = measured(named(pairs * 8, [f"photo{i}" for i in range(12)] * 8))
    assert (many["miou"].n, many["pairs"].value) == (12, 96)
    assert many["miou"].value == pytest.approx(apart["miou"].value, abs=1e-12)
    assert many["miou"].low == pytest.approx(apart["miou"].low, abs=1e-9)  # asking again tells nothing new
    assert many["fb_iou"].high == pytest.approx(apart["fb_iou"].high, abs=1e-9)
