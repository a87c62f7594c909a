"""Speed of RepMet's parts as ratios within one run. Run with `pytest tests/benchmarks/test_repmet_speed.py -s`.

Processor time is counted on one thread, so that other work on the machine does not change a ratio.
"""

import pytest
import torch
from timing import seconds

from lightning_fewshot.nn.roi_pooling import PyramidPool

STRIDES, SIDE, CHANNELS, IMAGES, ROIS = (8, 16, 32), 128, 64, 8, 37  # experiments/repmet.yaml

pytestmark = pytest.mark.usefixtures("one_thread")


def test_pooling_by_products_against_torchvision():
    """Forward and backward over a training batch."""
    shapes = [(IMAGES, CHANNELS, SIDE // stride, SIDE // stride) for stride in STRIDES]
    pyramid = {str(i): torch.randn(shape, requires_grad=True) for i, shape in enumerate(shapes)}
    corner = torch.rand(IMAGES, ROIS, 2) * 80
    rois = list(torch.cat([corner, corner + 15 + torch.rand(IMAGES, ROIS, 2) * 45], dim=2))
    pool = PyramidPool(STRIDES, size=5, canonical_scale=224, canonical_level=4)
    products = seconds(lambda: pool.by_products(list(pyramid.values()), rois).sum().backward(), 4)
    torchvisions = seconds(lambda: pool.align(pyramid, rois, [(SIDE, SIDE)] * IMAGES).sum().backward(), 4)
    print(f"\nRoIAlign of {IMAGES * ROIS} rois: {torchvisions / products:.1f} times torchvision's speed")
    assert torchvisions / products >= 1.5
