"""Adaptive RoIAlign against plain loops, and its gradients against finite differences."""

import math

import pytest
import torch
from torch.nn.functional import max_pool2d

from lightning_fewshot.tracking.candidates.pooling import max_pool
from lightning_fewshot.tracking.candidates.roi_align import adaptive_roi_align, pooled_regions


def _loops(maps, regions, grid):
    n, channels, height, width = maps.shape
    out = torch.zeros(n, regions.shape[1], channels, grid, grid, dtype=maps.dtype)
    for i in range(n):
        for r in range(regions.shape[1]):
            x1, y1, x2, y2 = regions[i, r].tolist()
            bins = max(x2 - x1 + 1, 0) / grid, max(y2 - y1 + 1, 0) / grid
            steps = [max(1, round(b)) for b in bins]
            for p in range(grid):
                for q in range(grid):
                    y, x = y1 + p * bins[1], x1 + q * bins[0]
                    for cy in (math.floor(y), math.floor(y) + steps[1]):
                        for cx in (math.floor(x), math.floor(x) + steps[0]):
                            if 0 <= cy < height and 0 <= cx < width:
                                weight = (1 - abs(y - cy) / steps[1]) * (1 - abs(x - cx) / steps[0])
                                out[i, r, :, p, q] += weight * maps[i, :, cy, cx]
    return out


def _regions(n, count, size):
    corner = torch.rand(n, count, 2, dtype=torch.float64) * size - 3
    return torch.cat((corner, corner + torch.rand(n, count, 2, dtype=torch.float64) * 1.5 * size), dim=2)


@pytest.mark.parametrize("grid", [2, 7])
def test_against_plain_loops_also_beyond_the_border(grid):
    maps, regions = torch.randn(2, 3, 11, 13, dtype=torch.float64), _regions(2, 9, 12)
    regions[0, 0] = torch.tensor([5.0, 5.0, 2.0, 3.0])  # inverted: one point
    regions[0, 1] = torch.tensor([-40.0, -40.0, -30.0, -30.0])  # outside: zeros
    found = adaptive_roi_align(maps, regions, grid)
    torch.testing.assert_close(found, _loops(maps, regions, grid))
    assert found[0, 1].abs().sum() == 0


def test_large_regions_interpolate_over_several_cells():
    maps = torch.zeros(1, 1, 30, 30)
    maps[..., 3] = 1.0  # one column, which samples at 0 and 4.43 would miss
    found = adaptive_roi_align(maps, torch.tensor([[[-0.5, 0.0, 29.5, 29.0]]]))
    assert found.abs().sum() > 0


def test_gradients_of_maps_and_regions():
    maps = torch.randn(2, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    regions = (_regions(2, 3, 5).floor() + torch.tensor([0.13, 0.21, 0.37, 0.41])).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: adaptive_roi_align(m, regions.detach(), 3), maps)
    assert torch.autograd.gradcheck(lambda m, r: adaptive_roi_align(m, r, 3), (maps, regions), eps=1e-7)


def test_pooled_regions_are_max_pooled_to_three_by_three():
    maps, regions = torch.randn(1, 2, 9, 9), _regions(1, 4, 8).float()
    expected = max_pool2d(adaptive_roi_align(maps, regions)[0], 3, 2).flatten(1)
    torch.testing.assert_close(pooled_regions(maps, regions)[0], expected)
    assert expected.shape == (4, 2 * 9)


@pytest.mark.parametrize("sides", [(7, 7), (8, 5), (93, 46)])
def test_pooling_without_gradients_is_torchs(sides):
    maps = torch.randn(2, 5, *sides).contiguous(memory_format=torch.channels_last)
    before = maps.clone()
    with torch.no_grad():
        ours = max_pool(maps)
    assert torch.equal(ours, max_pool2d(maps, 3, 2))
    assert torch.equal(maps, before)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"shapes \(2, 1, 3, 3\) and \(1, 4, 4\)"):
        adaptive_roi_align(torch.zeros(2, 1, 3, 3), torch.zeros(1, 4, 4))
