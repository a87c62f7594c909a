"""The segmentation branch: strides, dilation, the backbone's own layers, normalised features."""

import pytest
import timm
import torch
from torch import nn

from lightning_fewshot.models.oslsm import segmentation_branch
from lightning_fewshot.models.oslsm.segmentation_branch import FeatureNorm, SegmentationBranch
from lightning_fewshot.models.oslsm.settings import NewLayers, SegmentationBranchSettings
from lightning_fewshot.nn.backbones import Backbone, dilate_chain
from lightning_fewshot.settings import BackboneSettings


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def branch(backbone="resnet10t", **settings):
    backbone = BackboneSettings(backbone) if isinstance(backbone, str) else backbone
    return SegmentationBranch(backbone, SegmentationBranchSettings(**settings))


@pytest.mark.parametrize("name", ["resnet10t", "vgg11"])
@pytest.mark.parametrize(("stride", "side"), [(32, 2), (16, 4), (8, 8)])
def test_every_stride_of_fc7(name, stride, side):
    phi = branch(name, output_stride=stride, fc=NewLayers(6, 3)).eval()
    features = phi(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert features.shape == (1, 6, side, side)


def test_a_dilated_chain_gives_the_plain_one_s_values_where_they_coincide():
    """Without padding, dilation computes the strided map at every place: pick every second location to get it back."""
    plain = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.MaxPool2d(2), torch.nn.Conv2d(4, 4, 3), torch.nn.Conv2d(4, 2, 1)
    )
    dilated = torch.nn.Sequential(*plain)
    x = torch.randn(1, 3, 20, 20)
    plain[1] = torch.nn.MaxPool2d(1, 2)  # subsampling, which dilation undoes exactly
    strided = plain(x)
    dilated[1] = torch.nn.MaxPool2d(1)
    dilate_chain(dilated, 1)
    assert isinstance(dilated[1], torch.nn.Identity)
    assert dilated[2].dilation == (2, 2)
    dilated[0].padding = dilated[2].padding = (0, 0)
    torch.testing.assert_close(dilated(x)[:, :, ::2, ::2], strided)


def test_vgg16_has_the_papers_sizes():
    with torch.device("meta"):
        body = Backbone(BackboneSettings("vgg16"), (32,), output_stride=32)
        assert body.channels == [512]
        phi = branch("vgg16")
        top = phi.top
        full = timm.create_model("vgg16").pre_logits
    assert top[0].weight.shape == full.fc1.weight.shape  # fc6 and fc7 take VGG's ImageNet weights over
    assert top[3].weight.shape == full.fc2.weight.shape


def test_the_classifiers_own_layers_give_what_it_pools(monkeypatch):
    full = timm.create_model("efficientnet_lite0").eval()
    monkeypatch.setattr(segmentation_branch, "classifier_network", lambda *_: full)
    phi = branch(BackboneSettings("efficientnet_lite0", frozen_batchnorm=True))
    assert phi.n_features == 1280
    phi.body.body.load_state_dict(full.state_dict(), strict=False)
    assert not any(m.training for m in phi.train().modules() if isinstance(m, torch.nn.BatchNorm2d))
    images = torch.randint(0, 256, (2, 3, 96, 64), dtype=torch.uint8)
    with torch.no_grad():
        pooled = full.forward_features((images.float() - phi.body.mean) / phi.body.std)
        torch.testing.assert_close(phi.eval()(images), pooled, atol=1e-4, rtol=1e-4)


def test_features_normalised_over_a_batch_do_not_depend_on_it_later():
    frozen = BackboneSettings("efficientnet_lite0", frozen_batchnorm=True)
    phi = branch(frozen, dropout=0.0, feature_norm=True)
    images = torch.rand(4, 3, 96, 96) * 255
    found = phi(images).detach()
    own = phi.top[1].running_mean
    torch.testing.assert_close(own, torch.zeros_like(own))  # the classifier's own normalisation stays frozen
    plain = nn.Sequential(*phi.top[:2])(phi.maps(images)).detach().double()
    mean, variance = plain.mean((0, 2, 3), keepdim=True), plain.var((0, 2, 3), correction=0, keepdim=True)
    expected = (plain - mean) / (variance + phi.top[2].eps).sqrt()
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)
    assert found.abs().max() > 0.1
    torch.testing.assert_close(phi.top[2].running_mean.double(), 0.1 * mean.flatten())  # towards it by a tenth a step
    phi.eval()
    torch.testing.assert_close(phi(images[1:2]), phi(images)[1:2], atol=1e-4, rtol=1e-4)


def test_fc6_and_fc7_of_a_vgg_take_its_classifier_over(monkeypatch):
    full = torch.nn.Module()
    full.pre_logits = torch.nn.Module()
    full.pre_logits.fc1, full.pre_logits.fc2 = torch.nn.Conv2d(512, 8, 7), torch.nn.Conv2d(8, 8, 1)
    monkeypatch.setattr(segmentation_branch, "classifier_network", lambda *_: full)
    monkeypatch.setattr(segmentation_branch, "VGG_LAYERS", NewLayers(8, 7))
    monkeypatch.setattr(
        segmentation_branch, "Backbone", lambda settings, *_, **__: Backbone(BackboneSettings(settings.name), (32,))
    )
    phi = branch(BackboneSettings("vgg11", "timm"))
    assert torch.equal(phi.top[0].weight, full.pre_logits.fc1.weight)
    assert torch.equal(phi.top[3].bias, full.pre_logits.fc2.bias)


def test_a_network_without_layers_of_its_own_is_named():
    with pytest.raises(ValueError, match="fc is null but resnet10t has no convolution before its pooling; set fc"):
        branch()


def test_uncalibrated_features_are_normalised_by_their_own_image():
    norm, maps = FeatureNorm(5).eval(), 3 * torch.randn(4, 5, 6, 7) + 2
    found = norm(maps)
    torch.testing.assert_close(found.mean((2, 3)), torch.zeros(4, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.var((2, 3), correction=0), torch.ones(4, 5), atol=1e-3, rtol=0)
    torch.testing.assert_close(norm(maps[1:2])[0], found[1])
    assert (norm(maps[:, :, :1, :1]) == 0).all()  # one location is like itself
    norm.train()(maps)
    norm.eval()
    loaded = FeatureNorm(5).eval()
    loaded.load_state_dict(norm.state_dict())
    torch.testing.assert_close(loaded(maps), norm(maps))
    assert not torch.allclose(loaded(maps), found)
