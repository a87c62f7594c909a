"""Crops against a plain loop over pixels, at borders, at odd sizes and far outside."""

import math

import numpy as np
import pytest
import torch

from lightning_fewshot.tracking.crops import (
    CropSettings,
    context_side,
    crop,
    exemplar_windows,
    from_crop,
    mean_color,
    search_windows,
    square_windows,
    to_crop,
)


def plain_crop(frame, window, size, fill, block):
    """Sample one window pixel by pixel; outside of the frame everything has the color ``fill``."""
    channels, height, width = frame.shape
    padded_height, padded_width = -(-height // block) * block, -(-width // block) * block
    whole = np.repeat(fill[:, None, None], padded_height, 1).repeat(padded_width, 2).astype(np.float64)
    whole[:, :height, :width] = frame
    small = whole.reshape(channels, padded_height // block, block, padded_width // block, block).mean((2, 4))

    def at(row, column):
        inside = 0 <= row < small.shape[1] and 0 <= column < small.shape[2]
        return small[:, row, column] if inside else fill

    x1, y1, x2, y2 = window
    out = np.zeros((channels, size, size))
    for i in range(size):
        for j in range(size):
            y, x = y1 + (i + 0.5) * (y2 - y1) / size, x1 + (j + 0.5) * (x2 - x1) / size
            v, u = y / block - 0.5, x / block - 0.5
            row, column = math.floor(v), math.floor(u)
            a, b = v - row, u - column
            out[:, i, j] = (1 - a) * ((1 - b) * at(row, column) + b * at(row, column + 1)) + a * (
                (1 - b) * at(row + 1, column) + b * at(row + 1, column + 1)
            )
    return out


WINDOWS = {
    "inside": [10.3, 8.7, 30.1, 25.9],
    "upper left": [-9.4, -7.2, 12.8, 13.0],
    "lower right": [40.5, 25.25, 75.1, 60.0],
    "wider than the frame": [-20.0, -15.5, 80.0, 70.25],
    "outside": [-50.0, -40.0, -10.0, -5.0],
    "below and far": [500.0, 300.0, 520.5, 330.0],
    "touching the border": [57.0, 0.0, 70.0, 13.0],
    "tiny": [20.0, 20.0, 20.8, 20.8],
}


@pytest.mark.parametrize("name", list(WINDOWS))
@pytest.mark.parametrize("size", [1, 7, 12])
def test_one_window_equals_a_plain_loop(name, size):
    rng = np.random.default_rng(size)
    frame = rng.integers(0, 256, (3, 41, 57), dtype=np.uint8)
    fill = np.array([10.0, 100.0, 200.0])
    x1, y1, x2, y2 = WINDOWS[name]
    block = max(1, int(min(x2 - x1, y2 - y1) / size))
    found = crop(torch.from_numpy(frame), torch.tensor([WINDOWS[name]]), size, torch.tensor(fill).float())
    expected = plain_crop(frame, np.float32(WINDOWS[name]).astype(np.float64), size, fill, block)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=0.02)


def test_many_windows_are_one_operation():
    """All scales at once equal each alone, as long as one does not call for coarser blocks than another."""
    frame = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 90, 121), dtype=np.uint8))
    windows = search_windows(torch.tensor([40.0, 30.0, 61.0, 55.0]), torch.tensor([0.95, 1.0, 1.05]))
    together = crop(frame, windows, 63)
    for i, window in enumerate(windows):
        torch.testing.assert_close(together[i], crop(frame, window[None], 63)[0], atol=2e-2, rtol=0)


def test_a_crop_moves_by_fractions_of_a_pixel():
    """A ramp tells positions: moved by 0.37 pixels, it shows values that are 0.37 higher."""
    frame = torch.arange(100.0).expand(3, 80, 100)
    window = torch.tensor([[20.0, 20.0, 52.0, 52.0]])
    still = crop(frame, window, 32)
    moved = crop(frame, window + torch.tensor([0.37, 0, 0.37, 0]), 32)
    torch.testing.assert_close(moved - still, torch.full_like(still, 0.37), atol=1e-3, rtol=0)


def test_a_window_of_whole_pixels_is_the_frame_itself():
    frame = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8)
    found = crop(frame, torch.tensor([[5.0, 3.0, 21.0, 19.0]]), 16)[0]
    torch.testing.assert_close(found, frame[:, 3:19, 5:21].float(), atol=1e-3, rtol=0)


def test_reduction_does_not_alias():
    """Stripes of one pixel become grey, where sampling every fourth pixel would show one color."""
    frame = (torch.arange(256) % 2 * 255).to(torch.uint8).expand(3, 256, 256)
    found = crop(frame, torch.tensor([[0.0, 0.0, 256.0, 256.0]]), 64)
    torch.testing.assert_close(found, torch.full_like(found, 127.5))


def test_what_is_outside_has_the_mean_color():
    frame = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8)
    outside = crop(frame, torch.tensor([[30.0, 30.0, 40.0, 40.0]]), 5)[0]
    torch.testing.assert_close(outside, mean_color(frame)[:, None, None].expand(3, 5, 5))


def test_exemplar_and_search_are_as_section_3_3_has_them():
    """A crop double the size of the object, and a patch four times as large, at one scale."""
    box = torch.tensor([100.0, 100.0, 140.0, 140.0])
    assert exemplar_windows(box).tolist() == [80, 80, 160, 160]
    side = search_windows(box)[2] - search_windows(box)[0]
    assert side.item() == pytest.approx(80 * 255 / 127, rel=1e-6)
    assert context_side(torch.tensor([0.0, 0.0, 20.0, 60.0])).item() == pytest.approx(math.sqrt(60 * 100))


def test_boxes_go_into_a_crop_and_back():
    boxes = torch.rand(6, 2, 2).cumsum(1).flatten(1) * 50
    windows = square_windows(torch.rand(6, 2) * 50, 10 + torch.rand(6) * 40)
    torch.testing.assert_close(from_crop(to_crop(boxes, windows, 127), windows, 127), boxes, atol=1e-4, rtol=0)


def test_the_object_lies_where_its_box_says():
    frame = torch.zeros(3, 100, 100, dtype=torch.uint8)
    frame[:, 40:60, 30:70] = 255
    box = torch.tensor([30.0, 40.0, 70.0, 60.0])
    window = search_windows(box)
    image, inside = crop(frame, window[None], 255, torch.zeros(3))[0, 0], to_crop(box, window, 255)
    seen = (image > 127).nonzero()
    found = torch.tensor([seen[:, 1].min(), seen[:, 0].min(), seen[:, 1].max() + 1, seen[:, 0].max() + 1]).float()
    assert (found - inside).abs().max() <= 1


def test_gradients_pass():
    frame = torch.rand(3, 20, 20, dtype=torch.float32, requires_grad=True)
    crop(frame, torch.tensor([[2.0, 2.0, 12.0, 12.0]]), 5, torch.zeros(3)).sum().backward()
    assert frame.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "window", [[5.0, 5.0, 5.0, 9.0], [5.0, 5.0, 2.0, 9.0], [0.0, 0.0, math.nan, 3.0], [0.0, 0.0, math.inf, 3.0]]
)
def test_a_bad_window_is_named(window):
    frame = torch.zeros(3, 10, 10)
    with pytest.raises(ValueError, match=r"window 1 is \("):
        crop(frame, torch.tensor([[0.0, 0.0, 4.0, 4.0], window]), 5)
    with pytest.raises(ValueError, match=r"expected \(3, H, W\) and \(N, 4\)"):
        crop(frame, torch.zeros(4), 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exemplar": 0}, "exemplar is 0 but must be at least 1 pixel"),
        ({"search": 100}, "search is 100 but must be at least 127, the exemplar's side"),
        ({"context": -0.1}, "context is -0.1 but must be at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CropSettings(**options)


def test_the_ratio_shows_the_target_at_one_size_in_both_crops():
    box, crops = torch.tensor([30.0, 30.0, 70.0, 60.0]), CropSettings(exemplar=100, search=250, context=0.3)
    exemplar = exemplar_windows(box, crops.context)
    search = search_windows(box, context=crops.context, ratio=crops.ratio)
    sizes = [s / float(w[2] - w[0]) for s, w in ((crops.exemplar, exemplar), (crops.search, search))]
    assert sizes[0] == pytest.approx(sizes[1])
