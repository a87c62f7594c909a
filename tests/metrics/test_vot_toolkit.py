"""Supervised evaluation against the official toolkit's numbers; ``tests/metrics/vot_toolkit/official.py`` asked it."""

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_fewshot.episodes import Episode
from lightning_fewshot.metrics.vot import (
    EAO_BOUNDS,
    SENSITIVITY,
    Code,
    Supervised,
    accuracy,
    overlap_curve,
    polygon_iou,
)

FILE = Path(__file__).parent / "vot_toolkit/official.json"
CODES = {"0": Code.SKIPPED, "1": Code.START, "2": Code.FAILURE}
TRACKERS = ("steady", "shaky", "lost", "seeded")


@pytest.fixture(scope="module")
def record():
    return json.loads(FILE.read_text())


def area(box):
    return max(box[2], 0) * max(box[3], 0)


def overlap(line, truth):
    """Intersection over union of x, y, width, height in plain numbers; 0 for a code."""
    if line in CODES:
        return 0.0
    one, other = ([int(v) for v in text.split(",")] for text in (line, truth))
    sides = [min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    both = area((0, 0, *sides))
    return both / (area(one) + area(other) - both)


def runs(record, tracker):
    """Return (sequence, overlaps, codes) of every repetition."""
    return [
        (
            name,
            torch.tensor([overlap(*pair) for pair in zip(lines, record["truth"][name], strict=True)]).double(),
            torch.tensor([int(CODES.get(line, Code.TRACKED)) for line in lines]),
        )
        for name, repetitions in record["runs"][tracker].items()
        for lines in repetitions
    ]


def measured(record, tracker, bounds):
    metric, names = Supervised(bounds), list(record["truth"])
    for name, overlaps, codes in runs(record, tracker):
        index = names.index(name)
        preds = SimpleNamespace(overlaps=overlaps, codes=codes, fps=20.0)
        metric.update(preds, Episode(None, None, (), index, class_ids=(index,)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return metric.compute()


def test_the_bounds_are_those_of_the_toolkits_stacks(record):
    assert {name: list(EAO_BOUNDS[name]) for name in EAO_BOUNDS} == {
        name: bounds for name, bounds in record["bounds"].items() if name != "short"
    }


@pytest.mark.parametrize("tracker", TRACKERS)
def test_accuracy_and_robustness_are_the_toolkits(record, tracker):
    found, official = measured(record, tracker, (10, 60)), record["official"][tracker]
    assert found["accuracy"].value == pytest.approx(official["accuracy"], abs=1e-6)
    assert found["robustness"].value == pytest.approx(official["robustness"], abs=1e-6)
    failures = sum(row["failures"] for row in official["sequences"].values())
    assert found["failures"].value == pytest.approx(failures, abs=1e-6)
    assert found["accuracy"].n == len(record["truth"])


@pytest.mark.parametrize("tracker", TRACKERS)
def test_each_sequence_is_the_toolkits(record, tracker):
    for name, row in record["official"][tracker]["sequences"].items():
        own = [(overlaps, codes) for sequence, overlaps, codes in runs(record, tracker) if sequence == name]
        failures = np.mean([int((codes == Code.FAILURE).sum()) for _, codes in own])
        assert np.mean([accuracy(*run) for run in own]) == pytest.approx(row["accuracy"], abs=1e-6), name
        assert failures == pytest.approx(row["failures"], abs=1e-6), name
        rate = failures / len(record["truth"][name])
        assert np.exp(-SENSITIVITY * rate) == pytest.approx(row["robustness"], abs=1e-6), name


@pytest.mark.parametrize("tracker", TRACKERS)
def test_the_eao_of_every_challenge_is_the_toolkits(record, tracker):
    official = record["official"][tracker]
    for challenge, (low, high) in record["bounds"].items():
        eao = [(name, e) for name, e in measured(record, tracker, (low, high)).items() if name.startswith("eao")]
        if official["eao"][challenge] is None:
            assert not eao, "a message instead of the toolkit's NaN"
            continue
        ((name, estimate),) = eao
        assert estimate.value == pytest.approx(official["eao"][challenge], abs=1e-6), challenge
        end = min(high, len(official["eao_curve"]) - 1)
        assert name == f"eao_{low}_{end}"


def test_the_cases_of_the_curve_are_all_there(record):
    """Beyond every upper bound, between the bounds, and short of a lower one."""
    ends = {tracker: len(record["official"][tracker]["eao_curve"]) - 1 for tracker in TRACKERS}
    assert ends["steady"] > 371
    assert 108 < ends["shaky"] < 356
    assert 100 < ends["lost"] < 108


@pytest.mark.parametrize("tracker", TRACKERS)
def test_the_curve_is_the_toolkits(record, tracker):
    """But for frame 0 alone, where the toolkit counts a start as 0 and which no challenge averages."""
    own = [(overlaps, codes) for _, overlaps, codes in runs(record, tracker)]
    curve = overlap_curve(own, torch.ones(1, len(own)).double())[0]
    official = record["official"][tracker]["eao_curve"]
    assert len(curve) == len(official)
    np.testing.assert_allclose(curve[1:], official[1:], atol=1e-6, rtol=0)


def test_a_bound_that_is_off_by_one_would_show(record):
    """The tolerance above is a hundredth of what one frame more or less changes."""
    curve = np.array(record["official"]["steady"]["eao_curve"])
    for low, high in ((107, 371), (109, 371), (108, 370), (108, 372)):
        shifted = curve[low : high + 1].mean()
        assert abs(shifted - record["official"]["steady"]["eao"]["VOT2015"]) > 1e-4


def test_overlaps_differ_from_the_toolkits_only_by_its_rounding_to_pixels(record):
    pairs = record["overlaps"]
    found = []
    for pair in pairs:
        x, y, width, height = pair["box"]
        box = torch.tensor([x, y, x + width, y + height])
        found.append(polygon_iou(torch.tensor(pair["polygon"]), box, 240, 320))
    difference = np.array(found) - [pair["overlap"] for pair in pairs]
    assert np.abs(difference).max() < 0.04
    assert np.abs(difference).mean() < 0.011
    assert abs(difference.mean()) < 0.002, "to neither side"
