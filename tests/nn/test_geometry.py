"""Geometry along a chain and by impulse responses, against moved images and against each other."""

import pytest
import torch
from torch import nn

from lightning_fewshot.nn.backbones import Backbone
from lightning_fewshot.nn.geometry import Geometry, chained, measured
from lightning_fewshot.settings import BackboneSettings


def test_alexnet_s_published_receptive_field():
    """195 pixels and a stride of 32 behind pool5 (Araujo et al., "Computing receptive fields", Distill 2019)."""
    layers = [nn.Conv2d(3, 1, 11, 4, 2), nn.MaxPool2d(3, 2), nn.Conv2d(1, 1, 5, padding=2), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(1, 1, 3, padding=1) for _ in range(3)] + [nn.MaxPool2d(3, 2)]
    geometry = chained(layers)
    assert (geometry.stride, geometry.field) == (32, 195)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 4, 7, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 3, dilation=3)],
        [nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 5, padding=2)],
        [nn.Conv2d(3, 4, 2, stride=2), nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, padding=2, dilation=2)],
    ],
)
def test_the_chain_s_geometry_is_the_measured_one(layers):
    assert measured(nn.Sequential(*layers), 96) == chained(layers)


def test_zero_branches_hide_nothing():
    """Residual branches whose last scale starts at zero count as much as any."""
    body = Backbone(BackboneSettings("resnet18"), strides=(4,))
    # 7/2, pool 3/2, then four convolutions 3 at stride 4: 7 + 2 * 2 + 4 * 2 * 4
    assert measured(body, 128, lambda f, x: f(x)[0]) == Geometry(4, 0.5, 43)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "tf_efficientnet_lite0"])
def test_a_spot_is_seen_where_the_geometry_says(name):
    """The middle of what changes on the map is the cell that lies at the spot."""
    torch.manual_seed(0)
    body = Backbone(BackboneSettings(name, frozen_batchnorm=True), strides=(8,)).eval()
    geometry = measured(body, 160, lambda f, x: f(x)[0])
    images = 255 * torch.rand(1, 3, 160, 160)
    cell = 9
    spot = int(geometry.offset + cell * geometry.stride)  # the pixel that holds the cell's centre
    changed = images.clone()
    changed[..., spot] = 255 - changed[..., spot]
    with torch.no_grad():
        seen = (body(changed)[0] - body(images)[0]).abs().amax((0, 1, 2)) > 1e-6
    cells = seen.nonzero()[:, 0]
    assert (cells[0] + cells[-1]) / 2 == cell
    reach = (geometry.field - 1) / 2 // geometry.stride
    assert (cells[-1] - cells[0]) / 2 == reach


def test_one_cell_has_no_stride():
    with pytest.raises(ValueError, match="an image of 8 pixels gives a map of 1 cells but must give at least 2"):
        measured(nn.Conv2d(3, 1, 8), 8)
