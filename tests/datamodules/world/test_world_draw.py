import numpy as np
import pytest

from datamodules.world import Variation, draw_scene, make_class
from datamodules.world.background import finish
from datamodules.world.draw import mask_boxes
from datamodules.world.patch import Patch, paste
from datamodules.world.sprite import Pose, draw_look, render

CLASSES = [make_class(s) for s in range(12)]
CLUTTER = [make_class(s) for s in range(100, 110)]


def scene(index, n=4, **options):
    return draw_scene(np.random.default_rng([3, index]), CLASSES[:n], clutter=CLUTTER, **options)


def brute_box(mask):
    ys, xs = np.nonzero(mask)
    return [min(xs), min(ys), max(xs) + 1, max(ys) + 1]


def test_same_seed_same_bytes_other_index_other_bytes():
    first, again, other = scene(0), scene(0), scene(1)
    for a, b in zip(first, again, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.image, other.image)


def test_scene_does_not_depend_on_what_was_drawn_before():
    fresh = scene(5)
    for i in range(5):
        scene(i, n=2, size=96)
    np.testing.assert_array_equal(scene(5).image, fresh.image)


def test_types_and_shapes():
    s = scene(2, size=120)
    m = len(s.labels)
    assert (s.image.shape, s.image.dtype) == ((120, 120, 3), np.uint8)
    assert (s.boxes.shape, s.boxes.dtype) == ((m, 4), np.float32)
    assert s.labels.dtype == np.int64
    assert (s.masks.shape, s.masks.dtype) == ((m, 120, 120), bool)


@pytest.mark.parametrize("index", range(30))
def test_boxes_are_tight_around_masks_and_inside(index):
    s = scene(index, size=160 if index % 2 else 100)
    assert len(s.labels) >= 1
    assert s.boxes.min() >= 0
    assert s.boxes.max() <= s.image.shape[0]
    for box, mask in zip(s.boxes, s.masks, strict=True):
        assert box.tolist() == brute_box(mask)


def test_masks_do_not_overlap():
    assert max(scene(i, n=8).masks.sum(0).max() for i in range(20)) == 1


def test_labels_are_places_or_as_given():
    kept = [scene(i).labels.tolist() for i in range(20)]
    assert all(k == sorted(set(k)) and set(k) <= set(range(4)) for k in kept)
    assert sum(map(len, kept)) >= 0.97 * 80  # hardly any is left out among four
    renamed = scene(0, labels=[7, 7, 5, 9])
    assert renamed.labels.tolist() == [[7, 7, 5, 9][k] for k in kept[0]]


def test_same_class_twice():
    s = draw_scene(np.random.default_rng(0), [CLASSES[0]] * 3, labels=[4, 4, 4])
    assert s.labels.tolist() == [4, 4, 4]


def test_visible_share(monkeypatch):
    """Compare each visible mask with the whole object, recorded while it is put down."""
    from datamodules.world import draw

    whole = {}
    original = draw._Canvas.add

    def add(self, patch, number):
        done = original(self, patch, number)
        if done and number:
            whole[number] = patch.mask.sum()
        return done

    monkeypatch.setattr(draw._Canvas, "add", add)
    shares = []
    for index in range(40):
        for min_visible in (0.5, 0.8):
            whole.clear()
            s = scene(index, n=6, n_occluders=(3, 5), min_visible=min_visible)
            assert len(whole) == len(s.labels)
            for label, mask in zip(s.labels, s.masks, strict=True):
                share = mask.sum() / whole[label + 1]
                assert share >= min_visible
                shares.append(share)
    assert min(shares) < 0.7  # occlusion does happen
    assert np.mean(np.array(shares) > 0.99) > 0.2


def test_a_single_object_is_always_there_whole_if_asked_for():
    for i in range(40):
        s = draw_scene(np.random.default_rng(i), [CLASSES[i % 12]], scale=(0.3, 0.6), clutter=CLUTTER, min_visible=1.0)
        assert s.labels.tolist() == [0]
        assert s.boxes[0, :2].min() >= 0


def test_greatest_scale_can_be_drawn():
    assert len(draw_scene(np.random.default_rng(0), CLASSES[:1], scale=(1.0, 1.0), size=64).labels) == 1


def test_clutter_and_occluders_take_no_part_in_labels():
    alone = draw_scene(np.random.default_rng(1), CLASSES[:1], clutter=CLUTTER, n_clutter=(8, 8), n_occluders=(3, 3))
    assert alone.masks.shape[0] == 1


def test_no_variation_gives_equal_looks():
    still = Variation(0, 0, 0, 0, 0, 0, 0, 0)
    a, b = (
        render(CLASSES[0], draw_look(np.random.default_rng(i), CLASSES[0], still), Pose(50, 50, 60, 0)) for i in (1, 2)
    )
    np.testing.assert_array_equal(a.rgb, b.rgb)
    np.testing.assert_array_equal(a.alpha, b.alpha)


def test_instances_differ_in_color_and_outline():
    looks = [render(CLASSES[0], draw_look(np.random.default_rng(i), CLASSES[0]), Pose(50, 50, 60, 0)) for i in range(8)]
    areas = {int(p.mask.sum()) for p in looks}
    colors = {tuple(p.rgb[p.mask].mean(0).astype(int)) for p in looks}
    assert len(areas) > 4
    assert len(colors) == 8


@pytest.mark.parametrize("seed", range(12))
def test_render_keeps_the_object_inside_its_patch(seed):
    for i in range(10):
        rng = np.random.default_rng([seed, i])
        patch = render(CLASSES[seed], draw_look(rng, CLASSES[seed]), Pose(0, 0, 60, rng.uniform(0, 6)))
        border = np.concatenate([patch.mask[0], patch.mask[-1], patch.mask[:, 0], patch.mask[:, -1]])
        assert border.mean() < 0.02


def test_render_follows_the_pose():
    still = draw_look(np.random.default_rng(0), CLASSES[6], Variation(0, 0, 0, 0, 0, 0, 0, 0))

    def centre(pose):
        patch = render(CLASSES[6], still, pose)
        weight = patch.alpha / patch.alpha.sum()
        ys, xs = np.indices(weight.shape) + 0.5
        return np.array([patch.left + (xs * weight).sum(), patch.top + (ys * weight).sum()])

    base = centre(Pose(80, 70, 60, 0))
    np.testing.assert_allclose(centre(Pose(83.25, 64.5, 60, 0)) - base, (3.25, -5.5), atol=0.05)
    turned = centre(Pose(80, 70, 60, np.pi / 2)) - (80, 70)
    np.testing.assert_allclose(turned, np.array([[0, -1], [1, 0]]) @ (base - (80, 70)), atol=0.15)


def test_paste_outside_changes_nothing():
    picture = np.full((10, 10, 3), 7, np.uint8)
    for left, top in [(-4, 0), (10, 0), (0, -4), (0, 10), (50, 50)]:
        paste(picture, Patch(np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 255, np.uint8), left, top))
    assert (picture == 7).all()


def test_paste_blends_as_the_formula():
    rng = np.random.default_rng(0)
    picture, rgb = rng.integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
    alpha = rng.integers(0, 256, (9, 9), dtype=np.uint8)
    expected = picture.astype(float)
    a = alpha[2:, 1:, None] / 255
    expected[:7, :8] = a * rgb[2:, 1:] + (1 - a) * expected[:7, :8]
    paste(picture, Patch(rgb, alpha, -1, -2))
    assert np.abs(picture - expected).max() <= 1.01


def test_finish_leaves_its_input():
    picture = np.full((40, 40, 3), 90, np.uint8)
    out = finish(np.random.default_rng(0), picture)
    assert (picture == 90).all()
    assert out.std() > 0


def test_mean_color_alone_does_not_tell_the_class():
    """5-way one-shot by nearest mean color must stay far from what shape and pattern give (chance is 0.2)."""
    rng = np.random.default_rng(0)

    def color(cls):
        patch = render(cls, draw_look(rng, cls), Pose(0, 0, 60, 0))
        return patch.rgb[patch.mask].mean(0)

    right = []
    for _ in range(150):
        ways = [make_class(int(s)) for s in rng.choice(200, 5, replace=False)]
        support = np.stack([color(c) for c in ways])
        query = np.stack([color(c) for c in ways])
        distance = np.linalg.norm(query[:, None] - support[None], axis=-1)
        right.append(distance.argmin(1) == np.arange(5))
    assert np.mean(right) < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objects": []}, "objects has 0 classes"),
        ({"size": 16}, "size is 16 px"),
        ({"labels": [1, 2]}, "labels has 2 entries but objects has 1"),
        ({"scale": (0.5, 0.2)}, r"scale is \(0.5, 0.2\)"),
        ({"n_clutter": (3, 1)}, r"n_clutter is \(3, 1\)"),
        ({"n_occluders": (-1, 1)}, r"n_occluders is \(-1, 1\)"),
        ({"min_visible": 0.0}, "min_visible is 0.0"),
        ({"clutter": CLASSES[:3]}, "clutter has the labelled classes"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        draw_scene(np.random.default_rng(0), **({"objects": CLASSES[:1]} | options))


def test_boxes_of_no_masks():
    assert mask_boxes(np.zeros((0, 5, 5), bool)).shape == (0, 4)
