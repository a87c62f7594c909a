"""Cross-correlation against plain loops; the geometry of the response grid against pixels."""

import pytest
import torch

from lightning_fewshot.nn.correlation import cell_coverage, cross_correlation, target_cells


def _loop(exemplars, maps):
    each = len(maps) // len(exemplars)
    (_, _, h, w), (_, _, H, W) = exemplars.shape, maps.shape
    out = torch.zeros(len(exemplars), each, H - h + 1, W - w + 1, dtype=maps.dtype)
    for p in range(len(exemplars)):
        for r in range(each):
            for i in range(H - h + 1):
                for j in range(W - w + 1):
                    out[p, r, i, j] = (exemplars[p] * maps[p * each + r, :, i : i + h, j : j + w]).sum()
    return out


@pytest.mark.parametrize(("count", "each"), [(1, 1), (1, 3), (3, 1), (2, 3)])
def test_correlation_is_the_loop(count, each):
    generator = torch.Generator().manual_seed(0)
    exemplars = torch.randn(count, 4, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    maps = torch.randn(count * each, 4, 6, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    ours, expected = cross_correlation(exemplars, maps), _loop(exemplars, maps)
    torch.testing.assert_close(ours, expected)
    weights = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    grads = [torch.autograd.grad((y * weights).sum(), (exemplars, maps)) for y in (ours, expected)]
    torch.testing.assert_close(*grads)


def test_exemplars_do_not_see_each_other():
    exemplars, maps = torch.randn(2, 3, 2, 2), torch.randn(4, 3, 5, 5)
    swapped = cross_correlation(exemplars.flip(0), maps.unflatten(0, (2, 2)).flip(0).flatten(0, 1))
    torch.testing.assert_close(swapped, cross_correlation(exemplars, maps).flip(0))


@pytest.mark.parametrize(
    ("exemplars", "maps"), [((1, 3, 6, 6), (1, 3, 5, 9)), ((1, 3, 2, 2), (1, 4, 5, 5)), ((2, 3, 2, 2), (3, 3, 5, 5))]
)
def test_what_does_not_fit_is_refused(exemplars, maps):
    with pytest.raises(ValueError, match=r"do not fit|not a whole number"):
        cross_correlation(torch.zeros(exemplars), torch.zeros(maps))


def test_a_cell_is_the_subwindow_that_shows_the_box_in_its_middle():
    """A white pixel in the middle of subwindow (x, y) = (3, 11) of 127 pixels, every 8 pixels."""
    x, y = 3 * 8 + 127 / 2, 11 * 8 + 127 / 2
    assert target_cells(torch.tensor([[x - 5, y - 9, x + 5, y + 9]]), 127, 8).tolist() == [[3.0, 11.0]]


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0, 3.0])
def test_coverage_is_the_overlap_of_squares(width):
    cells = torch.tensor([[2.0, 3.0], [2.25, 2.5]])
    ours = cell_coverage(cells, 7, width)
    fine = (torch.arange(7 * 100) + 0.5) / 100 - 0.5  # cell i is [i - 1/2, i + 1/2]
    inside = (fine - cells[..., None]).abs() < width / 2  # (2, 2, 700)
    share = inside.float().unflatten(2, (7, 100)).mean(3)
    torch.testing.assert_close(ours, share[:, 1, :, None] * share[:, 0, None, :], atol=0.011, rtol=0)
    torch.testing.assert_close(ours.sum((1, 2)), torch.full((2,), width**2))
