import itertools

import numpy as np
import pytest

from datamodules.world import class_seeds, make_class
from datamodules.world.sprite import template
from datamodules.world.textures import PATTERNS, background_tiles, surface


def test_splits_are_disjoint_for_any_counts():
    splits = [set(class_seeds(s, train=10_000, val=10_000, test=10_000)) for s in ("train", "val", "test")]
    assert all(len(s) == 10_000 for s in splits)
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(splits, 2))


def test_test_classes_do_not_depend_on_the_number_of_training_classes():
    assert class_seeds("test", train=3) == class_seeds("test", train=300)


def test_default_counts():
    assert [len(class_seeds(s)) for s in ("train", "val", "test")] == [200, 40, 60]


@pytest.mark.parametrize(("split", "counts"), [("dev", {}), ("train", {"train": 0}), ("test", {"test": 10_001})])
def test_bad_split(split, counts):
    with pytest.raises(ValueError, match=r"split is 'dev'|train is 0|test is 10001"):
        class_seeds(split, **counts)


def test_negative_seed():
    with pytest.raises(ValueError, match="seed is -1"):
        make_class(-1)


def test_names_are_unique_and_readable():
    classes = [make_class(s) for split in ("train", "val", "test") for s in class_seeds(split)]
    assert len({c.name for c in classes}) == 300
    for cls in classes:
        pattern, _, number = cls.name.split("-")
        assert pattern in PATTERNS
        assert int(number) == cls.seed


def test_class_is_a_function_of_its_seed():
    first = make_class(42)
    make_class.cache_clear()
    again = make_class(42)
    assert first is not again
    assert first == again
    assert first.name == again.name
    template.cache_clear()
    a = [x.copy() for x in template(first)]
    template.cache_clear()
    for x, y in zip(a, template(again), strict=True):
        np.testing.assert_array_equal(x, y)


def test_templates_differ_between_classes():
    looks = {tuple(a.tobytes() for a in template(make_class(s))) for s in range(100)}
    assert len(looks) == 100


@pytest.mark.parametrize("seed", range(0, 60, 5))
def test_object_fills_the_unit_disc(seed):
    points = np.concatenate([p.outline for p in make_class(seed).parts])
    radius = np.hypot(*points.T)
    assert radius.max() == pytest.approx(1, abs=0.01)
    _, _, alpha = template(make_class(seed))
    assert not alpha[[0, -1]].any()
    assert not alpha[:, [0, -1]].any()
    assert (alpha >= 128).mean() > 0.05


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_mixing_values(pattern):
    value = surface(pattern, 5.0, 0.3, seed=1, resolution=64)
    assert value.shape == (64, 64)
    assert value.dtype == np.float32
    assert value.min() >= 0
    assert value.max() <= 1
    assert pattern == "plain" or value.std() > 0.2


def test_tiles_are_periodic():
    tiles = background_tiles().astype(float)
    inner = np.abs(np.diff(tiles, axis=1)).mean()
    seam = np.abs(tiles[:, 0] - tiles[:, -1]).mean()
    assert seam < 1.3 * inner
