"""The shared network and the head: layers, strides, and where a sample lies on the map."""

import pytest
import torch
from torch.nn.functional import local_response_norm

from lightning_fewshot.settings import BackboneSettings
from lightning_fewshot.tracking.candidates.head import score
from lightning_fewshot.tracking.candidates.network import CandidateNetwork, SharedNetwork, response_normalisation
from lightning_fewshot.tracking.candidates.settings import CandidateNetworkSettings

PAPER_SIZE = CandidateNetworkSettings((2, 2, 2), 4, 107, 4.5)


def test_receptive_field_and_stride_of_the_map():
    shared = SharedNetwork((2, 2, 2))
    scenes = torch.randn(1, 3, 203, 203, requires_grad=True)
    maps = shared(scenes)
    assert maps.shape[-1] == (203 - 75) // 8 + 1
    with torch.no_grad():  # every weight positive, so that no ReLU and no maximum hides a pixel
        for p in shared.parameters():
            p.abs_().add_(0.1)
    seen = torch.zeros(203, dtype=torch.bool)
    for _ in range(40):  # a maximum passes one pixel on: look often
        scenes = (200 + 40 * torch.rand(1, 3, 203, 203)).requires_grad_()
        shared(scenes)[0, :, 3, 3].sum().backward()
        seen |= scenes.grad[0].abs().sum((0, 1)) > 0
    first, last = seen.nonzero()[0].item(), seen.nonzero()[-1].item()
    assert (first, last) == (24, 24 + 75 - 1)


def test_dilated_third_convolution_and_no_second_pooling():
    shared = SharedNetwork()
    shapes = [tuple(getattr(shared, f"conv{i}").weight.shape) for i in (1, 2, 3)]
    assert shapes == [(96, 3, 7, 7), (256, 96, 5, 5), (512, 256, 3, 3)]
    assert shared.conv3.dilation == (3, 3)
    assert [shared.conv1.stride[0], shared.conv2.stride[0], shared.conv3.stride[0]] == [2, 2, 1]


def test_response_normalisation_is_that_of_one_channel():
    x = torch.randn(2, 5, 3, 3) * 100
    torch.testing.assert_close(response_normalisation(x), local_response_norm(x, 1, 1e-4, 0.75, 2.0))


def test_a_target_covers_the_cells_that_see_it_wholly():
    network = CandidateNetwork(PAPER_SIZE)
    low = 200.0
    boxes = torch.tensor([[[low, low, low + 107, low + 107]]])
    padded = low - 0.1 * 107, low + 1.1 * 107
    x1, _, x2, _ = network.regions(boxes)[0, 0].tolist()
    assert x1 * 8 == pytest.approx(padded[0], abs=1e-3)  # the first cell begins with the sample,
    assert x2 * 8 + 75 == pytest.approx(padded[1], abs=1e-3)  # the last one ends with it


def test_regions_of_small_boxes_are_points():
    network = CandidateNetwork(PAPER_SIZE)
    region = network.regions(torch.tensor([[[200.0, 200.0, 210.0, 240.0]]]))[0, 0]
    torch.testing.assert_close(region[2:], region[:2])
    torch.testing.assert_close(region[:2], (torch.tensor([205.0, 220.0]) - 75 / 2) / 8)  # the sample's middle


def test_moving_a_scene_by_a_stride_moves_the_features(network):
    scene = torch.rand(1, 3, 176, 176) * 255
    boxes = torch.tensor([[[60.0, 60.0, 100.0, 104.0]]])
    before = network.describe(network.shared(scene[..., 8:, 8:]), boxes - 8)
    torch.testing.assert_close(network.describe(network.shared(scene), boxes), before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet10t"])
def test_a_backbone_ends_at_stride_eight(name):
    backbone = BackboneSettings(name, frozen_stages=2, frozen_batchnorm=True)
    network = CandidateNetwork(CandidateNetworkSettings((5,), 6, 40, 4.0), backbone)
    maps = network.shared(torch.rand(2, 3, 160, 160) * 255)
    assert maps.shape == (2, 5, 20, 20)
    assert sum(p.numel() for p in network.shared.parameters()) < 1.5e6  # nothing beyond stride 8 is kept
    assert any(not p.requires_grad for p in network.shared.parameters())


def test_heads_of_clips_are_independent(network):
    head = {k: v + 0.1 * torch.randn(3, *v.shape[1:]) for k, v in network.head(3).items()}
    features = torch.randn(3, 5, network.features)
    each = [score({k: v[p : p + 1] for k, v in head.items()}, features[p : p + 1]) for p in range(3)]
    torch.testing.assert_close(score(head, features), torch.cat(each))


def test_a_scene_too_small_is_refused():
    with pytest.raises(ValueError, match=r"scene is 3\.0 and target_pixels 32: a scene of 96 pixels"):
        CandidateNetworkSettings(target_pixels=32, scene=3.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": (4, 0, 4)}, r"channels is \(4, 0, 4\) but every number must be at least 1"),
        ({"hidden": 0}, "hidden is 0 but must be at least 1"),
    ],
)
def test_widths_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        CandidateNetworkSettings(**values)


def test_a_backbone_leaves_one_convolution():
    with pytest.raises(ValueError, match=r"channels is \(3, 4, 5\) but must have 1 numbers"):
        SharedNetwork((3, 4, 5), BackboneSettings("resnet10t"))
    with pytest.raises(ValueError, match=r"channels is \(5,\) but must have 3 numbers"):
        SharedNetwork((5,))


@pytest.mark.parametrize(("pixels", "dilation"), [(107, 3), (80, 2), (48, 1), (40, 1)])
def test_the_third_convolution_is_dilated_by_the_same_share_of_the_target(pixels, dilation):
    settings = CandidateNetworkSettings((2, 2, 2), 4, pixels, 4.5)
    assert CandidateNetwork(settings).shared.conv3.dilation == (dilation, dilation)


def test_the_dilation_can_be_set():
    settings = CandidateNetworkSettings((2, 2, 2), 4, 48, 4.5, dilation=3)
    assert CandidateNetwork(settings).shared.conv3.dilation == (3, 3)
    with pytest.raises(ValueError, match="dilation is 0 but must be at least 1"):
        CandidateNetworkSettings(dilation=0)


def test_a_region_on_a_backbone_is_centred_on_its_box():
    """What changes of the map when the image changes at a box's centre lies around the region's centre."""
    torch.manual_seed(0)
    backbone = BackboneSettings("efficientnet_lite0", frozen_stages=2, frozen_batchnorm=True)
    network = CandidateNetwork(CandidateNetworkSettings((5,), 6, 48, 4.0), backbone).eval()
    scene = 255 * torch.rand(1, 3, 192, 192)
    spotted = scene.clone()
    spotted[..., 88] = 255 - spotted[..., 88]  # pixel 88 covers [88, 89)
    with torch.no_grad():
        maps = [network.shared.body(x)[0] for x in (scene, spotted)]  # conv3 has a centred kernel
        seen = (maps[0] - maps[1]).abs().amax((0, 1, 2)) > 1e-6
    cells = seen.nonzero()[:, 0]
    region = network.regions(torch.tensor([[[64.5, 64.5, 112.5, 112.5]]]))[0, 0]  # centred at 88.5
    assert (region[0] + region[2]) / 2 == (cells[0] + cells[-1]) / 2
