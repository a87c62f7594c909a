"""From response maps to boxes: scales, penalties, the cosine window, sub-cell places, limits."""

import numpy as np
import pytest
import torch

from lightning_fewshot.tracking.crops import centres
from lightning_fewshot.tracking.frames import ArrayFrames
from lightning_fewshot.tracking.loop import track
from lightning_fewshot.tracking.response import ResponseTracker, Search, locate
from lightning_fewshot.tracking.response_maps import cosine_window, finer

PLAIN = Search(scales=1, window=0, upsample=1)


class BrightTracker(ResponseTracker):
    """Its model answers with the mean brightness of every subwindow of 127 pixels; the target is a bright square."""

    def adapt(self, exemplar):
        assert exemplar.shape == (1, 3, 127, 127)
        assert exemplar.dtype == torch.float32
        return None

    def respond(self, model, crops):
        assert crops.shape[1:] == (3, 255, 255)
        weight = torch.zeros(1, 3, 127, 127)
        weight[..., 32:95, 32:95] = 1 / 63**2
        ring = torch.full((1, 3, 127, 127), 1 / (127**2 - 63**2))
        ring[..., 32:95, 32:95] = 0
        return torch.nn.functional.conv2d(crops, weight - ring, stride=8)[:, 0] / 50


def _video(tops, size=40, side=160):
    images = np.full((len(tops), side, side, 3), 20, np.uint8)
    for image, (x, y) in zip(images, tops, strict=True):
        image[y : y + size, x : x + size] = 230
    return ArrayFrames(images)


@pytest.mark.parametrize(
    "search", [Search(), Search(window=1.0, rule="multiply"), PLAIN], ids=["add", "multiply", "plain"]
)
def test_a_bright_square_is_followed(search):
    tops = [(60 + 3 * t, 50 - 2 * t) for t in range(12)]
    boxes = track(BrightTracker(search), _video(tops), torch.tensor([60.0, 50.0, 100.0, 90.0])).boxes
    truth = torch.tensor(tops).float() + 20
    assert (centres(boxes) - truth).norm(dim=1).max() < (5.5 if search is PLAIN else 2.5)


def test_a_growing_square_grows_the_box():
    images = np.full((25, 200, 200, 3), 20, np.uint8)
    sizes = [40 + 2 * t for t in range(25)]
    for image, size in zip(images, sizes, strict=True):
        image[100 - size // 2 : 100 + size // 2, 100 - size // 2 : 100 + size // 2] = 230
    box = torch.tensor([80.0, 80.0, 120.0, 120.0])
    last = track(BrightTracker(Search(penalty=1.0)), ArrayFrames(images), box).boxes[-1]
    assert float(last[2] - last[0]) > 60
    fixed = track(BrightTracker(Search(damping=0.0)), ArrayFrames(images), box).boxes[-1]
    assert float(fixed[2] - fixed[0]) == pytest.approx(40, abs=1e-3)


def test_a_place_between_two_cells_is_found():
    rows, columns = torch.meshgrid(torch.arange(17.0), torch.arange(17.0), indexing="ij")
    response = torch.exp(-((rows - 8.5) ** 2 + (columns - 6.25) ** 2) / 8)[None]
    found = locate(response, Search(scales=1, window=0)).offset
    torch.testing.assert_close(found, torch.tensor([-1.75, 0.5]), atol=0.1, rtol=0)


@pytest.mark.parametrize(("sides", "factor"), [((17, 17), 16), ((9, 12), 3)])
def test_two_products_interpolate_as_torch_does(sides, factor):
    response = torch.randn(sides, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(response[None, None], scale_factor=factor, mode="bicubic")[0, 0]
    torch.testing.assert_close(finer(response, factor), expected.clamp(min=0), rtol=1e-5, atol=1e-5)


def test_a_change_of_scale_must_be_worth_its_penalty():
    responses = torch.zeros(3, 17, 17)
    responses[1, 8, 8], responses[2, 8, 8] = 1.0, 1.04
    assert locate(responses, Search(penalty=0.95)).scale == 1
    assert locate(responses, Search(penalty=0.97)).scale == 2
    assert locate(responses - 5, Search(penalty=0.95)).scale == 1, "a negative response is penalised, not rewarded"


@pytest.mark.parametrize("rule", ["add", "multiply"])
def test_the_window_prefers_what_is_near(rule):
    responses = torch.zeros(1, 17, 17)
    responses[0, 8, 9], responses[0, 1, 1] = 1.0, 1.05
    far = locate(responses, Search(scales=1, window=0, upsample=1)).offset
    near = locate(responses, Search(scales=1, window=0.9, rule=rule, upsample=1)).offset
    assert far.tolist() == [-7, -7]
    assert near.tolist() == [1, 0]


def test_a_product_does_not_lift_what_does_not_match():
    """A match off the centre beats a logit of -2 in the centre, also where one place has a logit of -50."""
    responses = torch.full((1, 17, 17), -2.0)
    responses[0, 8, 13], responses[0, 0, 0] = 3.0, -50.0
    found = locate(responses, Search(scales=1, window=1.0, rule="multiply", upsample=1))
    assert found.offset.tolist() == [5, 0]


@pytest.mark.parametrize("level", [-20.0, 5.0])
def test_a_product_penalises_a_change_of_scale_whatever_the_sign(level):
    responses = torch.full((3, 17, 17), level)
    for more, scale in ((0.01, 1), (0.5, 2)):  # softplus: 1 % and 65 % more at -20, 0.2 % and 10 % more at 5
        responses[2, 8, 8] = level + more
        assert locate(responses, Search(penalty=0.95, rule="multiply")).scale == scale


def test_the_window_is_numpys():
    line = np.hanning(19)[1:-1]
    expected = np.outer(line, line) / np.outer(line, line).sum()
    np.testing.assert_allclose(cosine_window(17).numpy(), expected, rtol=1e-5, atol=1e-9)


def test_the_centre_stays_in_the_frame_and_the_size_in_its_limits():
    tracker = BrightTracker(Search(scales=3, step=2.0, penalty=1.0, damping=1.0, window=0, upsample=1))
    frame = torch.zeros(3, 60, 80, dtype=torch.uint8)
    state = tracker.init(frame, torch.tensor([30.0, 20.0, 50.0, 40.0]))
    answer = torch.zeros(3, 17, 17)
    answer[2, 16, 16] = 1  # largest scale, far to the lower right
    tracker.respond = lambda model, crops: answer
    for _ in range(5):
        state, box, _ = tracker.update(state, frame)
    assert centres(box).tolist() == [80.0, 60.0]
    assert float(box[2] - box[0]) == pytest.approx(100.0)  # five times 20


def test_state_is_returned_and_never_changed():
    tracker, video = BrightTracker(Search()), _video([(60, 50), (66, 50)])
    state = tracker.init(video[0], torch.tensor([60.0, 50.0, 100.0, 90.0]))
    before = state.box.clone()
    first, again = tracker.update(state, video[1])[1], tracker.update(state, video[1])[1]
    assert torch.equal(state.box, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": 4}, "scales is 4 but must be odd"),
        ({"scales": 0}, "scales is 0 but must be odd"),
        ({"step": 0.9}, "step and upsample must be at least 1"),
        ({"penalty": 1.2}, r"penalty is 1.2 but must be in \[0, 1\]"),
        ({"window": -0.1}, r"window is -0.1 but must be in \[0, 1\]"),
        ({"rule": "max"}, "rule is 'max' but must be 'add' or 'multiply'"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Search(**options)


def test_a_response_that_is_no_number_is_an_error():
    with pytest.raises(FloatingPointError, match="not finite"):
        locate(torch.full((3, 17, 17), torch.nan), Search())


def test_settings_are_part_of_the_fingerprint():
    from lightning_fewshot.tracking.files import fingerprint

    module = torch.nn.Linear(1, 1)
    prints = {fingerprint(module, BrightTracker(s)) for s in (Search(), Search(damping=0.5), Search())}
    assert len(prints) == 2
