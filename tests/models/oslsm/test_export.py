"""The adapted network as an ordinary FCN: equal to the dynamic one, in torch.export and in ONNX."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn.functional import interpolate

from lightning_fewshot.episodes import Examples
from lightning_fewshot.models.oslsm import OSLSMSegmenter, PrototypeSegmenter
from lightning_fewshot.models.oslsm.classifiers import pixel_logits
from lightning_fewshot.models.oslsm.export import StaticFCN
from lightning_fewshot.models.oslsm.nearest import Neighbours
from lightning_fewshot.models.oslsm.settings import (
    ImageSides,
    NewLayers,
    SegmentationBranchSettings,
    SupportEncoder,
)
from lightning_fewshot.settings import BackboneSettings

TINY = {"backbone": BackboneSettings("resnet10t"), "branch": SegmentationBranchSettings(16, NewLayers(12, 3))}


@pytest.fixture
def adapted():
    torch.manual_seed(0)
    model = OSLSMSegmenter(**TINY, encoder=SupportEncoder(size=64)).eval()
    masks = torch.zeros(4, 64, 64, dtype=torch.uint8)
    labels = torch.tensor([1, 0, 1, 1])
    masks[:, 10:40, 5:50] = (labels + 1)[:, None, None].to(torch.uint8)
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        return model, model.adapt(Examples(images, labels, class_masks=masks))


def test_the_exported_fcn_ends_in_a_1x1_convolution_and_equals_the_dynamic_one(adapted):
    model, state = adapted
    fcn = StaticFCN(model.segmentation, state)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    assert fcn.score.kernel_size == (1, 1)
    assert fcn.score.out_channels == 4
    with torch.no_grad():
        logits = pixel_logits(state.weight, state.bias, torch.stack(model.features(images)))
        full = interpolate(logits, (64, 96), mode="bilinear")
        expected = torch.stack([full[:, 1], full[:, [0, 2, 3]].amax(1)], dim=1)
        torch.testing.assert_close(fcn(images), expected, atol=1e-5, rtol=1e-4)


def test_an_adapted_top_is_exported_with_it(adapted):
    model, state = adapted
    top = {name: p.detach() * 1.1 for name, p in model.segmentation.top.named_parameters()}
    fcn = StaticFCN(model.segmentation, state._replace(top=top))
    torch.testing.assert_close(fcn.branch.top[0].weight, top["0.weight"])
    assert not torch.equal(model.segmentation.top[0].weight, top["0.weight"])
    with pytest.raises(ValueError, match="the state is Neighbours, but only PixelClassifiers can be exported"):
        StaticFCN(model.segmentation, Neighbours((), (), torch.zeros(0)))


@pytest.mark.parametrize(("align", "side"), [(False, 64), (True, 65)])
def test_torch_export_and_onnx_equal_the_fcn(adapted, tmp_path, align, side):
    model, state = adapted
    fcn = StaticFCN(model.segmentation, state, align)
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    expected = fcn(images)
    torch.testing.assert_close(torch.export.export(fcn, (images,)).module()(images), expected)
    torch.onnx.export(fcn, (images,), tmp_path / "fcn.onnx", input_names=["images"], dynamo=True)
    session = onnxruntime.InferenceSession(tmp_path / "fcn.onnx")
    (found,) = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-3)


def test_uncalibrated_prototypes_are_exported_with_each_images_own_statistics():
    torch.manual_seed(0)
    branch = SegmentationBranchSettings(16, NewLayers(12, 3), feature_norm=True)
    model = PrototypeSegmenter(TINY["backbone"], branch, ImageSides(align_corners=True)).eval()
    masks = torch.zeros(1, 65, 65, dtype=torch.uint8)
    masks[:, 10:40, 5:50] = 1
    images = torch.randint(0, 256, (2, 3, 65, 65), dtype=torch.uint8)
    state = model.adapt(Examples(images[:1], torch.tensor([0]), class_masks=masks))
    fcn = model.export_fcn(state)
    expected = torch.stack([p.masks for p in model.predict(state, Examples(images))])
    assert torch.equal(fcn(images) > 0, expected)
    torch.testing.assert_close(torch.export.export(fcn, (images,)).module()(images), fcn(images))
