"""RoIAlign by matrix products against torchvision's."""

import pytest
import torch

from lightning_fewshot.nn import roi_pooling
from lightning_fewshot.nn.roi_pooling import PyramidPool

STRIDES = (8, 16, 32)


def _pyramid(side, channels=6):
    return {str(i): torch.randn(3, channels, side // s, side // s, requires_grad=True) for i, s in enumerate(STRIDES)}


def _rois(counts, side):
    corner = torch.rand(sum(counts), 2) * side - 20  # some begin outside
    extent = torch.rand(sum(counts), 2) ** 2 * 1.2 * side
    return list(torch.cat([corner, corner + extent], dim=1).split(counts))


@pytest.mark.parametrize("scale", [224, 64])
@pytest.mark.parametrize("counts", [(5, 5, 5), (7, 0, 40)])
def test_products_equal_torchvision(scale, counts):
    """Values and gradients, rois that leave the image, images without a roi, other canonical scales."""
    torch.manual_seed(0)
    pool, pyramid, rois = PyramidPool(STRIDES, 5, scale, 4), _pyramid(128), _rois(counts, 128)
    maps = list(pyramid.values())
    ours, theirs = pool.by_products(maps, rois), pool.align(pyramid, rois, [(128, 128)] * 3)
    weight = torch.randn_like(theirs)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad((pooled * weight).sum(), maps) for pooled in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


def test_large_maps_are_torchvisions(monkeypatch):
    """Where the weights would be many, the products are left out."""
    pool, pyramid, rois = PyramidPool(STRIDES, 3, 224, 4), _pyramid(320), _rois((2, 2, 2), 320)
    monkeypatch.setattr(roi_pooling, "_weights", None)
    assert pool(pyramid, rois, [(320, 320)] * 3).shape == (6, 6, 3, 3)
