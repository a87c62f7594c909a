import itertools
import pickle

import numpy as np
import pytest

from datamodules.world import Motion, Variation, draw_video, make_class
from datamodules.world.motion import OUT_FRAMES, Events, Wave
from datamodules.world.patch import Patch, motion_kernel, smear

TARGET = make_class(20001)
DISTRACTORS = [TARGET, make_class(3), make_class(44)]
STILL = Motion(travel=0, grow=0, spin=0, pan=0, shutter=0, flicker=0, leave_every=0, cover_every=0)


def video(index=0, n_frames=60, **options):
    options = {"distractors": DISTRACTORS, "clutter": [make_class(9)], "size": 96} | options
    return draw_video(np.random.default_rng([6, index]), TARGET, n_frames, **options)


def brute_box(mask):
    ys, xs = np.nonzero(mask)
    return [min(xs), min(ys), max(xs) + 1, max(ys) + 1]


def test_same_seed_same_bytes_in_any_order():
    a, b = video(), video()
    forth = {t: a[t] for t in (0, 17, 40)}
    for t in (40, 0, 17, 17):
        for x, y in zip(forth[t], b[t], strict=True):
            np.testing.assert_array_equal(x, y)
    assert not np.array_equal(video(1)[17].image, forth[17].image)
    assert not np.array_equal(a[18].image, forth[17].image)


def test_a_video_travels_to_another_process_unchanged():
    a = video()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(a))[33].image, a[33].image)


@pytest.mark.parametrize("index", range(6))
def test_boxes_match_masks_and_hidden_frames_are_flagged(index):
    v = video(index, n_frames=150, motion=Motion(leave_every=70, cover_every=40))
    for t in range(0, len(v), 3):
        f = v[t]
        assert f.visible == f.mask.any()
        if f.visible:
            assert f.box.tolist() == brute_box(f.mask)
            assert f.box.min() >= 0
            assert f.box.max() <= 96
        else:
            assert np.isnan(f.box).all()


def test_truth_without_pictures_is_the_truth_with_pictures():
    v = video(2, n_frames=90)
    clip = v.clip()
    np.testing.assert_array_equal(v.boxes, clip.boxes)
    np.testing.assert_array_equal(v.visible, clip.visible)
    assert clip.images.shape == (90, 96, 96, 3)
    assert clip.images.dtype == np.uint8
    assert clip.boxes.dtype == np.float32
    assert clip.masks.shape == (90, 96, 96)


def test_target_leaves_and_returns():
    motion = Motion(leave_every=80, cover_every=0)
    for index in range(4):
        visible = video(index, n_frames=300, distractors=(), motion=motion).visible
        runs = [(k, len(list(g))) for k, g in itertools.groupby(visible.tolist())]
        out = [n for k, n in runs if not k]
        assert 2 <= len(out) <= 4
        assert all(3 <= n <= OUT_FRAMES for n in out)
        assert visible[0]


def test_target_stays_without_events():
    motion = Motion(leave_every=0, cover_every=0, travel=0.2)
    assert video(0, n_frames=200, distractors=(), motion=motion).visible.all()


def test_target_is_covered():
    shares = np.array([video(i, n_frames=400, distractors=(), motion=Motion(leave_every=0)).visible for i in range(6)])
    assert 0.005 < 1 - shares.mean() < 0.3


@pytest.mark.parametrize("index", range(20))
def test_first_frame_shows_the_target(index):
    v = video(index, n_frames=2)
    assert v.visible_share(0) >= 0.7
    assert v[0].visible


def test_min_visible_flags_more_frames():
    lenient, strict = (video(3, n_frames=200, min_visible=m).visible for m in (0.05, 0.7))
    assert (lenient | ~strict).all()
    assert lenient.sum() > strict.sum()


def test_nothing_moves_in_a_still_video():
    variation = Variation(tilt=0, deform=0)
    v = video(0, n_frames=50, motion=STILL, variation=variation)
    boxes = v.boxes
    assert (boxes == boxes[0]).all()
    difference = v[0].image.astype(float) - v[49].image
    assert abs(difference.mean()) < 0.5  # only the grain differs
    assert difference.std() < 16


def test_movement_is_smooth_and_reaches_far():
    boxes = video(0, n_frames=300, distractors=(), motion=Motion(leave_every=0, cover_every=0)).boxes
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert np.abs(np.diff(centre, axis=0)).max() < 12
    assert np.ptp(centre, axis=0).max() > 15
    width = boxes[:, 2] - boxes[:, 0]
    assert width.max() / width.min() > 1.2


def test_background_pans():
    v = video(0, n_frames=80, distractors=(), motion=Motion(flicker=0, leave_every=0, cover_every=0))
    a, b = v[0], v[40]
    background = ~(a.mask | b.mask)
    assert np.abs(a.image.astype(float) - b.image)[background].mean() > 5


def test_brightness_changes():
    def spread(flicker):
        motion = Motion(flicker=flicker, pan=0, leave_every=0, cover_every=0)
        v = video(0, n_frames=200, distractors=(), motion=motion)
        return np.std([v[t].image.mean() for t in range(0, 200, 10)])

    assert spread(0.5) > 2 * spread(0)


def test_a_million_frames_cost_nothing_until_asked_for():
    v = video(0, n_frames=1_000_000)
    assert len(v) == 1_000_000
    assert v[999_999].image.shape == (96, 96, 3)
    assert len(pickle.dumps(v)) < 2e6


def test_length_and_iteration():
    v = video(n_frames=3)
    assert len(v) == len(list(v)) == 3
    for t in (-1, 3):
        with pytest.raises(IndexError, match=f"frame {t} of a video of 3 frames"):
            v[t]
    with pytest.raises(ValueError, match="clip from 2 to 2"):
        v.clip(2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_frames": 0}, "n_frames is 0"),
        ({"size": 31}, "size is 31 px"),
        ({"scale": (0.01, 0.3)}, r"scale is \(0.01, 0.3\)"),
        ({"min_visible": 1.5}, "min_visible is 1.5"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        video(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pan": -1}, "pan is -1"),
        ({"travel": 0.9}, "travel is 0.9"),
        ({"period": (50, 20)}, r"period is \(50, 20\)"),
        ({"leave_every": 20}, "leave_every is 20"),
        ({"cover_every": 5}, "cover_every is 5"),
    ],
)
def test_bad_motion(options, message):
    with pytest.raises(ValueError, match=message):
        Motion(**options)


def test_wave_is_bounded_and_has_no_memory():
    wave = Wave(np.random.default_rng(0), (20, 60), 4)
    values = np.stack([wave(t) for t in range(2000)])
    assert np.abs(values).max() <= 1
    assert values.std() > 0.25
    np.testing.assert_array_equal(wave(700), values[700])


def test_events_come_after_the_start():
    for i in range(50):
        events = Events.draw(np.random.default_rng(i), 80, 18)
        assert 48 <= events.nearest(0) <= 80
        assert events.nearest(events.first + 83) == events.first + 80
    assert Events(0, 0.0).nearest(5) == np.inf


@pytest.mark.parametrize("velocity", [(6.0, 0.0), (0.0, -9.0), (4.0, 5.0)])
def test_smear_keeps_light_and_spreads_along_the_way(velocity):
    alpha = np.zeros((21, 21), np.uint8)
    alpha[7:14, 7:14] = 255
    patch = Patch(np.full((21, 21, 3), 200, np.uint8), alpha, 0, 0)
    blurred = smear(patch, np.array(velocity))
    assert int(blurred.alpha.sum()) == pytest.approx(int(alpha.sum()), rel=0.02)
    assert np.abs(blurred.rgb[blurred.alpha > 20].astype(int) - 200).max() <= 6
    ys, xs = np.nonzero(blurred.alpha > 0)
    np.testing.assert_allclose((np.ptp(xs) - 6, np.ptp(ys) - 6), np.abs(velocity), atol=2.1)
    assert smear(patch, np.array((1.0, 0.5))) is patch


def test_kernel_has_sum_one():
    assert motion_kernel(np.array([7.0, 3.0])).sum() == pytest.approx(1, abs=1e-5)
