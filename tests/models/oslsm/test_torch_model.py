"""The networks of OSLSM against references: hashing, conditioning, dilation, upsampling, baselines, export."""

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, interpolate

from lightning_fewshot.episodes import Examples
from lightning_fewshot.models.oslsm import baselines
from lightning_fewshot.models.oslsm import network as torch_model
from lightning_fewshot.models.oslsm.export import StaticFCN
from lightning_fewshot.models.oslsm.loss import base_loss, dice_loss, pixel_loss, verification_loss
from lightning_fewshot.models.oslsm.masks import Sides, cell_labels, network_size, segment, support_objects, upsampled
from lightning_fewshot.models.oslsm.network import (
    ConditioningBranch,
    OSLSMNetwork,
    PixelClassifiers,
    SegmentationBranch,
    WeightHashing,
    mean_classifiers,
    pixel_logits,
)
from lightning_fewshot.nn.backbones import Backbone, dilate_chain

SMALL = "resnet10t"


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def branch(stride=16, features=12, fc6_size=3):
    return SegmentationBranch(SMALL, "none", stride, features, fc6_size).eval()


def network(**options):
    g = ConditioningBranch(SMALL, "none", options.pop("conditioning", "masked"), 64)
    return OSLSMNetwork(branch(), g, 12, **options).eval()


def shots(n=3, side=64):
    images = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8)
    objects = torch.zeros(n, side, side, dtype=torch.bool)
    objects[:, 10:40, 5:50] = True
    return images, objects


# weight hashing -------------------------------------------------------------------------------------------------


def test_hashing_is_a_fully_connected_layer_with_fixed_weights():
    hashing = WeightHashing(1000, 4097, seed=3)
    dense = torch.zeros(4097, 1000)
    dense[torch.arange(4097), hashing.index] = hashing.sign
    code = torch.randn(5, 1000)
    torch.testing.assert_close(hashing(code), code @ dense.T)
    assert ((dense != 0).sum(1) == 1).all()
    assert set(hashing.sign.tolist()) == {-1.0, 1.0}
    assert 0.45 < (hashing.sign > 0).float().mean() < 0.55
    used = torch.bincount(hashing.index, minlength=1000).float()
    assert abs(used.var() / used.mean() - 1) < 0.2  # as often as chance would have it: Poisson
    assert sum(p.numel() for p in hashing.parameters()) == 0


def test_the_hash_depends_on_its_seed_and_travels_in_the_checkpoint():
    torch.manual_seed(99)  # the global state does not matter
    first, again, other = WeightHashing(50, 90, 0), WeightHashing(50, 90, 0), WeightHashing(50, 90, 1)
    assert torch.equal(first.index, again.index)
    assert torch.equal(first.sign, again.sign)
    assert not torch.equal(first.index, other.index)
    other.load_state_dict(first.state_dict())
    code = torch.randn(2, 50)
    assert torch.equal(first(code), other(code))


def test_prototypes_are_the_pooled_features_as_near_as_the_hash_allows():
    images, objects = shots()
    width, g = 512, ConditioningBranch(SMALL, "none", "masked", 64)
    model = OSLSMNetwork(branch(), g, width, prototype_init=True).eval()
    dense = np.zeros((width, 1000))
    dense[np.arange(width), model.to_classifier.index[:-1]] = model.to_classifier.sign[:-1]
    with torch.no_grad():
        weight, _ = model.classifiers(images, objects)
        g.body.reset_classifier(0)
        pooled = g(images, objects).double().numpy()
    nearest = pooled @ np.linalg.pinv(dense).T @ dense.T
    np.testing.assert_allclose(weight * width**0.5, nearest, atol=1e-4 * np.abs(nearest).max())
    error = np.square(nearest - pooled).sum() / np.square(pooled).sum()
    assert error < 0.5  # collisions of the hash cost some


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "last layer, 512, but features is 12"), ({"hashing": False}, "prototype_init needs hashing")],
)
def test_prototypes_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        network(prototype_init=True, **options)


def test_codes_normalised_over_a_batch_do_not_depend_on_it_later():
    images, objects = shots()
    model = network(code_norm="batch").train()
    codes = model.norm(model.conditioning(images, objects))
    torch.testing.assert_close(codes.mean(0), torch.zeros(1000), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="code_norm 'batch' needs two supports"):
        model.classifiers(images[:1], objects[:1])
    model.eval()
    weight, bias = model.classifiers(images, objects)
    alone, b = model.classifiers(images[1:2], objects[1:2])
    torch.testing.assert_close(alone[0], weight[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(b[0], bias[1], atol=1e-5, rtol=1e-4)


# the branches ---------------------------------------------------------------------------------------------------


def test_the_conditioning_branch_sees_nothing_but_the_object():
    images, objects = shots()
    model = network()
    changed = torch.where(objects[:, None], images, 255 - images)
    code = model.conditioning(images, objects)
    torch.testing.assert_close(code, model.conditioning(changed, objects))
    assert not torch.allclose(code, model.conditioning(images, ~objects))
    assert code.shape == (3, 1000)


def test_frozen_batch_normalisation_of_the_conditioning_branch_stays_through_training():
    images, objects = shots()
    moved = {}
    for frozen in (True, False):
        g = ConditioningBranch(SMALL, "none", "masked", 64, frozen)
        before = {name: value.clone() for name, value in g.state_dict().items() if "running" in name}
        g.train()(images, objects).sum().backward()
        moved[frozen] = [name for name, value in before.items() if not torch.equal(g.state_dict()[name], value)]
        trained = [m.weight.grad is not None for m in g.modules() if isinstance(m, nn.BatchNorm2d)]
        assert {p.requires_grad for p in g.parameters()} == ({True, False} if frozen else {True})
        assert set(trained) == {not frozen}
    assert not moved[True]
    assert moved[False]


def test_a_cropped_support_is_the_square_around_the_object():
    images, objects = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8), torch.zeros(2, 64, 96, dtype=torch.bool)
    objects[0, 10:30, 15:35] = True
    objects[1, 40:56, 0:12] = True  # the square stands over the left border by an eighth of its side
    g = ConditioningBranch(SMALL, "none", "masked", 64, crop=True).eval()
    seen = []
    g.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    g(images, objects)
    normal = (images.float() - g.mean) / g.std
    expected = interpolate(normal[:1, :, 10:30, 15:35], (64, 64), mode="bilinear")
    inner = slice(2, -2)  # at the border a cropped photo repeats its edge, and a masked one is black beyond it
    torch.testing.assert_close(seen[0][:1, :, inner, inner], expected[:, :, inner, inner])
    assert (seen[0][1, :, :, :6] == 0).all()
    assert (seen[0][1, :, inner, 10:-10] != 0).any(1).all()


@pytest.mark.parametrize("background", [0.0, 0.5])
@pytest.mark.parametrize("name", [SMALL, "mobilenetv3_small_050", "efficientnet_lite0"])
def test_a_pooled_support_is_the_mean_of_the_objects_cells_less_that_of_the_others(name, background):
    images = torch.randint(0, 256, (3, 3, 65, 65), dtype=torch.uint8)
    objects = torch.zeros(3, 65, 65, dtype=torch.bool)
    objects[0] = True
    objects[1, :30, :] = True  # cells lie at 0, 32 and 64: all of the first row, less than half of the second
    objects[2, 40, 60] = True  # too small for any cell: that which it covers most
    g = ConditioningBranch(name, "none", "pooled", 65, align_corners=True, background=background).eval()
    with torch.no_grad():
        maps = g.body.forward_features((images.float() - g.mean) / g.std)
        assert maps.shape[-2:] == (3, 3)
        own = torch.stack([maps[0].flatten(1).mean(1), maps[1, :, 0].mean(1), maps[2, :, 1, -1]])
        share = torch.ones(3, 3, 3)
        share[0], share[1, 0] = 0, 0  # no background, and none in the first row
        share[1, 1], share[2, 1, 2] = 19 / 33, 560 / 561  # a cell is 33 x 33 pixels, at the border 33 x 17
        others = torch.einsum("schw,shw->sc", maps, share) / share.sum((1, 2)).clamp(min=1)[:, None]
        expected = g.body.forward_head((own - background * others)[:, :, None, None])
        torch.testing.assert_close(g(images, objects), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("conditioning", ["masked", "channel", "pooled"])
@pytest.mark.parametrize("crop", [False, True])
def test_the_conditioning_branch_runs_in_half_precision(conditioning, crop):
    images, objects = shots()
    g = ConditioningBranch(SMALL, "none", conditioning, 65, crop=crop, align_corners=True).eval()
    expected = g(images, objects)
    found = g.bfloat16()(images, objects)
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()


def test_a_fourth_channel_starts_without_influence_and_learns():
    images, objects = shots()
    g = ConditioningBranch(SMALL, "none", "channel", 64).eval()
    torch.testing.assert_close(g(images, objects), g(images, ~objects))
    first = next(m for m in g.modules() if isinstance(m, torch.nn.Conv2d))
    assert first.in_channels == 4
    g(images, objects).sum().backward()
    assert first.weight.grad[:, 3].abs().sum() > 0


def test_shots_of_different_sizes_are_each_alone():
    images, objects = shots()
    model = network()
    weight, bias = model.classifiers(images, objects)
    parts = [images[0], images[1][:, :50], images[2]], [objects[0], objects[1][:50], objects[2]]
    listed, _ = model.classifiers(*parts)
    torch.testing.assert_close(listed[::2], weight[::2], atol=1e-5, rtol=1e-4)
    alone, b = model.classifiers(images[1:2], objects[1:2])
    torch.testing.assert_close(alone[0], weight[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(b[0], bias[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [SMALL, "vgg11"])
@pytest.mark.parametrize(("stride", "cells"), [(32, 2), (16, 4), (8, 8)])
def test_every_stride_of_fc7(name, stride, cells):
    features = SegmentationBranch(name, "none", stride, 6, 3).eval()(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    assert features.shape == (1, 6, cells, cells)


def test_a_dilated_chain_gives_the_plain_one_s_values_where_they_coincide():
    """Without padding, dilation computes the strided map at every place: pick every second cell to get it back."""
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
        body = Backbone("vgg16", (32,), output_stride=32)
        assert body.channels == [512]
        top = SegmentationBranch("vgg16", "none", 32, 4096, 7).top
        full = timm.create_model("vgg16").pre_logits
    assert top[0].weight.shape == full.fc1.weight.shape  # fc6 and fc7 take VGG's ImageNet weights over
    assert top[3].weight.shape == full.fc2.weight.shape


def test_the_classifiers_own_layers_give_what_it_pools(monkeypatch):
    full = timm.create_model("efficientnet_lite0").eval()
    monkeypatch.setattr(torch_model, "classifier_network", lambda *_: full)
    phi = SegmentationBranch("efficientnet_lite0", "none", 32, 1280, 1, "classifier", frozen_batchnorm=True)
    phi.body.body.load_state_dict(full.state_dict(), strict=False)
    assert not any(m.training for m in phi.train().modules() if isinstance(m, torch.nn.BatchNorm2d))
    images = torch.randint(0, 256, (2, 3, 96, 64), dtype=torch.uint8)
    with torch.no_grad():
        pooled = full.forward_features((images.float() - phi.body.mean) / phi.body.std)
        torch.testing.assert_close(phi.eval()(images), pooled, atol=1e-4, rtol=1e-4)


def test_features_normalised_over_a_batch_do_not_depend_on_it_later():
    phi = SegmentationBranch(
        "efficientnet_lite0", "none", 32, 1280, 1, "classifier", 0, True, False, dropout=0.0, feature_norm=True
    )
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
    monkeypatch.setattr(torch_model, "classifier_network", lambda *_: full)
    monkeypatch.setattr(SegmentationBranch, "_check_width", lambda *_: None)
    monkeypatch.setattr(torch_model, "Backbone", lambda name, strides, *_: Backbone(name, strides))
    phi = SegmentationBranch("vgg11", "timm", 32, 8, 7, "classifier")
    assert torch.equal(phi.top[0].weight, full.pre_logits.fc1.weight)
    assert torch.equal(phi.top[3].bias, full.pre_logits.fc2.bias)


@pytest.mark.parametrize(
    ("name", "features", "message"),
    [
        ("efficientnet_lite0", 256, "features, fc6_size are 256, 1, but efficientnet_lite0 classifies with 1280, 1"),
        ("vgg11", 256, "features, fc6_size are 256, 1, but vgg11 classifies with 4096, 7"),
        (SMALL, 512, "resnet10t has no convolution before its pooling; use fc: new"),
    ],
)
def test_classifiers_that_do_not_fit_are_named(name, features, message):
    with pytest.raises(ValueError, match=message):
        SegmentationBranch(name, "none", 32, features, 1, "classifier")


def test_the_mean_classifier_of_a_class_scores_as_its_shots_do_on_average():
    state = PixelClassifiers(torch.randn(5, 6), torch.randn(5), torch.tensor([1, 0, 1, 2, 1]))
    joined, features = mean_classifiers(state), torch.randn(6, 3, 4)
    assert joined.classes.tolist() == [0, 1, 2]
    each = pixel_logits(state, features)
    expected = torch.stack([each[state.classes == label].mean(0) for label in range(3)])
    torch.testing.assert_close(pixel_logits(joined, features), expected)


def test_scores_are_the_inner_product_at_every_cell():
    state = PixelClassifiers(torch.randn(4, 6), torch.randn(4), torch.arange(4))
    features = torch.randn(6, 3, 5)
    found = pixel_logits(state, features)
    for s in range(4):
        for m in range(3):
            for n in range(5):
                expected = state.weight[s] @ features[:, m, n] + state.bias[s]
                assert found[s, m, n].item() == pytest.approx(expected.item(), abs=1e-5)


# masks ----------------------------------------------------------------------------------------------------------


def test_several_shots_are_a_logical_or_of_each_alone():
    logits, classes = torch.randn(5, 4, 6), torch.tensor([0, 1, 0, 0, 1])
    found = segment(logits, classes, [0, 1], (17, 23))
    full = interpolate(logits[:, None], (17, 23), mode="bilinear")[:, 0].sigmoid() > 0.5
    assert torch.equal(found.masks[0], full[[0, 2, 3]].any(0))
    assert torch.equal(found.masks[1], full[[1, 4]].any(0))


def test_the_label_map_has_the_class_of_the_highest_score():
    logits = torch.tensor([[[2.0, -1.0]], [[1.0, -1.0]], [[3.0, -2.0]]])
    found = segment(logits, torch.tensor([0, 1, 2]), [0, 1, 2], (1, 2))
    assert found.label_map.tolist() == [[3, 0]]
    assert found.masks[:, 0, 0].all()


def test_large_images_are_upsampled_a_map_at_a_time_with_the_same_result(monkeypatch):
    logits, classes = torch.randn(6, 4, 4), torch.tensor([0, 0, 0, 1, 1, 1])
    whole = segment(logits, classes, [0, 1], (50, 40))
    monkeypatch.setattr("lightning_fewshot.models.oslsm.masks.PIXELS_AT_ONCE", 50 * 40)
    parts = segment(logits, classes, [0, 1], (50, 40))
    assert torch.equal(whole.masks, parts.masks)
    assert torch.equal(whole.label_map, parts.label_map)


def test_a_class_without_a_shot_is_named():
    with pytest.raises(ValueError, match=r"class 2 is asked for but has no shot; shots: \[0, 1\]"):
        segment(torch.zeros(2, 1, 1), torch.tensor([0, 1]), [2], (4, 4))


def test_small_objects_have_a_cell_and_void_ones_are_unknown():
    objects, mask = torch.zeros(32, 32, dtype=torch.bool), torch.zeros(32, 32, dtype=torch.uint8)
    objects[20:22, 3:5] = True
    mask[:16, 16:] = 255
    cells, known = cell_labels(objects, mask, (2, 2))
    assert cells.tolist() == [[False, False], [True, False]]
    assert known.tolist() == [[True, False], [True, True]]
    objects[:] = True
    assert cell_labels(objects, mask, (2, 2))[0].all()
    assert not cell_labels(~objects, mask, (2, 2))[0].any()


def test_bad_supports_are_named():
    image, mask = torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 8, 8, dtype=torch.uint8)
    support = Examples(image, torch.tensor([0]), class_masks=mask, names=("dog.jpg",))
    with pytest.raises(ValueError, match=r"support image dog.jpg: its mask has no pixel of class 'dog'"):
        support_objects(support, ("dog",))
    with pytest.raises(ValueError, match=r"mask has \(8, 4\) pixels \(height, width\) but the image \(8, 8\)"):
        support_objects(support._replace(class_masks=[mask[0, :, :4]]))
    with pytest.raises(ValueError, match="support needs at least one image"):
        support_objects(support._replace(class_masks=None))


def test_a_networks_side_is_bounded_or_a_multiple_of_its_stride_plus_one():
    assert network_size((1, 1), Sides()) == (32, 32)
    assert network_size((5000, 4000), Sides()) == (1024, 819)
    assert network_size((5000, 4000), Sides(stride=16)) == (1025, 833)
    assert network_size((1, 33), Sides(stride=16)) == (33, 33)
    assert network_size((1, 33), Sides(97)) == (97, 97)


@pytest.mark.parametrize(
    ("name", "stride", "aligned", "side"),
    [("regnetx_002", 8, True, 1025), ("efficientnet_lite0", 16, True, 1025), ("vgg11", 32, False, 640)],
)
def test_cells_lie_where_upsampling_takes_them_to_lie(name, stride, aligned, side):
    body = Backbone(name, (stride,), output_stride=stride).eval()
    images = (255 * torch.rand(1, 3, 33, side)).requires_grad_()
    cells = body(images)[0]
    place = cells.shape[-1] // 2 + 1
    cells[0, :, 0, place].sum().backward()
    seen = images.grad[0].abs().sum((0, 1)).nonzero().flatten()
    assert seen[0] > 0, "the image is too small to see the whole field"
    assert seen[-1] < side - 1, "the image is too small to see the whole field"
    middle = (seen[0] + seen[-1]).item() / 2
    grid = torch.arange(side, dtype=torch.float32)
    told = upsampled(torch.arange(cells.shape[-1], dtype=torch.float32).view(1, 1, 1, -1), (1, len(grid)), aligned)
    assert np.interp(place, told.flatten().numpy(), grid.numpy()) == pytest.approx(middle, abs=1e-3)


def test_labels_of_corner_aligned_cells_are_those_around_their_pixels():
    objects = torch.zeros(65, 65, dtype=torch.bool)
    objects[:, 24:41] = True  # cells lie at 0, 16, 32, 48 and 64
    cells, known = cell_labels(objects, torch.zeros(65, 65, dtype=torch.uint8), (5, 5), align_corners=True)
    assert cells.tolist() == [[False, False, True, False, False]] * 5
    assert known.all()


@pytest.mark.parametrize("size", [(5, 5), (1, 3)])
def test_an_object_of_one_pixel_has_a_corner_aligned_cell_wherever_it_is(size):
    for place in range(0, 200 * 300, 997):
        objects = torch.zeros(200, 300, dtype=torch.bool)
        objects.view(-1)[place] = True
        cells, _ = cell_labels(objects, torch.zeros(200, 300, dtype=torch.uint8), size, align_corners=True)
        row, column = divmod(place, 300)
        near = {
            (round(row / 199 * (size[0] - 1) + d), round(column / 299 * (size[1] - 1) + e))
            for d in (-0.1, 0.1)
            for e in (-0.1, 0.1)
        }
        assert cells.any()
        assert size[0] == 1 or set(map(tuple, cells.nonzero().tolist())) <= near


# losses ---------------------------------------------------------------------------------------------------------


def test_the_pixel_loss_leaves_void_out_and_its_sum_is_the_mean_times_the_pixels():
    logits, target = torch.randn(2, 4, 4), torch.randint(2, (2, 4, 4), dtype=torch.uint8)
    target[0, :2] = 255
    known = target != 255
    expected = binary_cross_entropy_with_logits(logits[known], target[known].float())
    torch.testing.assert_close(pixel_loss(logits, target), expected)
    torch.testing.assert_close(pixel_loss(logits, target, "sum"), expected * known.sum() / 2)


def test_the_dice_loss_is_one_minus_twice_the_shared_over_both():
    logits, target = torch.randn(3, 8, 8) * 3, torch.randint(0, 2, (3, 8, 8), dtype=torch.uint8)
    target[1] = 0
    target[2, :4] = 255
    known, truth = (target != 255).numpy(), (target == 1).numpy().astype(float)
    p = 1 / (1 + np.exp(-logits.double().numpy())) * known
    expected = 1 - 2 * (p * truth).sum((1, 2)) / (p.sum((1, 2)) + truth.sum((1, 2)))
    assert dice_loss(logits, target).item() == pytest.approx(expected.mean(), abs=1e-6)
    assert dice_loss(torch.where(target == 1, 50.0, -50.0)[[0, 2]], target[[0, 2]]).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(logits, torch.full_like(target, 255)).isfinite()


def test_the_base_loss_is_a_cross_entropy_over_all_training_classes():
    logits, numbers = torch.randn(2, 6, 3, 3), torch.tensor([4, 1])  # the batch's classes among five
    masks = torch.tensor([0, 1, 2, 255, 2, 1, 0, 0, 2], dtype=torch.uint8).view(3, 3).expand(2, 3, 3)
    target = torch.tensor([0, 5, 2, -100, 2, 5, 0, 0, 2]).view(3, 3).expand(2, 3, 3)
    torch.testing.assert_close(base_loss(logits, masks, numbers), cross_entropy(logits, target))


def test_verification_weighs_both_kinds_of_pairs_equally():
    logits, same = torch.randn(40), torch.rand(40) < 0.2
    parts = [binary_cross_entropy_with_logits(logits[k], k[k].float() * v) for k, v in ((same, 1), (~same, 0))]
    torch.testing.assert_close(verification_loss(logits, same), sum(parts) / 2)
    assert verification_loss(logits, torch.ones(40, dtype=torch.bool)).isfinite()


# baselines ------------------------------------------------------------------------------------------------------


def clouds(n=60, width=8):
    objects = torch.rand(n) < 0.4
    return torch.randn(n, width) + objects[:, None] * 0.8, objects


@pytest.mark.parametrize("c", [0.1, 1.0, 10.0])
def test_logistic_regression_matches_scikit_learn(c):
    cells, objects = clouds()
    weight, bias = baselines.logistic_regression(cells, objects, c, max_iter=200, tolerance=1e-6)
    reference = LogisticRegression(C=c, tol=1e-8, max_iter=1000).fit(cells.numpy(), objects.numpy())
    np.testing.assert_allclose(weight, reference.coef_[0], atol=2e-3)
    assert bias.item() == pytest.approx(reference.intercept_[0], abs=2e-3)


def test_nearest_cells_match_scikit_learn():
    cells, objects = clouds()
    features = torch.randn(8, 5, 6)
    state = baselines.Neighbours((cells,), (objects,), torch.tensor([0]))
    reference = KNeighborsClassifier(1).fit(cells.numpy(), objects.numpy())
    expected = reference.predict(features.flatten(1).T.numpy()).reshape(5, 6)
    np.testing.assert_array_equal(baselines.neighbour_logits(state, features)[0] > 0, expected)


def test_the_learned_similarity_is_a_weighted_l1_distance():
    a, b, parameters = torch.randn(4, 5), torch.randn(3, 5), torch.randn(6)
    scale = torch.log1p(parameters[:5].exp()) / 5**0.5
    expected = parameters[5] - (scale * (a[:, None] - b[None]).abs()).sum(2)
    torch.testing.assert_close(baselines.similarity(a, b, parameters), expected)
    state = baselines.Neighbours((b,), (torch.tensor([True, False, False]),), torch.tensor([0]))
    logits = baselines.neighbour_logits(state, a.T[:, :, None], baselines.similarity_scale(parameters))
    nearest = expected.argmax(1) == 0  # the most similar cell gives the label
    assert torch.equal(logits[0, :, 0] > 0, nearest)


def test_a_support_that_the_object_fills_still_ranks_cells():
    state = baselines.Neighbours((torch.randn(6, 4),), (torch.ones(6, dtype=torch.bool),), torch.tensor([0]))
    assert baselines.neighbour_logits(state, torch.randn(4, 3, 3)).isfinite().all()


def test_finetuning_learns_the_support_and_leaves_the_network_as_it_is():
    top = branch().top
    before = {name: p.clone() for name, p in top.named_parameters()}
    maps = [torch.randn(512, 6, 6), torch.randn(512, 4, 5)]  # of different sizes
    objects = [torch.zeros(6, 6, dtype=torch.bool), torch.zeros(4, 5, dtype=torch.bool)]
    objects[0][1:4, 1:4] = objects[1][2:, 2:] = True
    classes = torch.tensor([0, 1])
    tuned, weight, bias = baselines.finetune(top, maps, objects, classes, 2, steps=60, lr=3e-3)
    assert all(torch.equal(p, before[name]) for name, p in top.named_parameters())
    top.load_state_dict(dict(tuned))
    for i in range(2):
        logits = torch.einsum("d,dhw->hw", weight[i], top(maps[i][None])[0]) + bias[i]
        assert ((logits > 0) == objects[i]).float().mean() > 0.9


def test_finetuning_does_not_learn_unknown_cells():
    torch.manual_seed(0)
    top, maps, classes = branch().top, [torch.randn(512, 6, 6)], torch.tensor([0])
    objects, known = torch.zeros(6, 6, dtype=torch.bool), torch.ones(6, 6, dtype=torch.bool)
    objects[:3], known[:, 4:] = True, False
    flipped = objects ^ ~known
    fits = [baselines.finetune(top, maps, [o], classes, 1, 5, 3e-3, [known])[1] for o in (objects, flipped)]
    torch.testing.assert_close(*fits)
    assert not torch.allclose(fits[0], baselines.finetune(top, maps, [flipped], classes, 1, 5, 3e-3)[1])


# export ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def adapted():
    model = network()
    images, objects = shots(4)
    weight, bias = model.classifiers(images, objects)
    return model, PixelClassifiers(weight, bias, torch.tensor([1, 0, 1, 1]))


def test_the_exported_fcn_ends_in_a_1x1_convolution_and_equals_the_dynamic_one(adapted):
    model, state = adapted
    fcn = StaticFCN(model.segmentation, state)
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    assert fcn.score.kernel_size == (1, 1)
    assert fcn.score.out_channels == 4
    with torch.no_grad():
        logits = pixel_logits(state, torch.stack(model.features(images)))
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
        StaticFCN(model.segmentation, baselines.Neighbours((), (), torch.zeros(0)))


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
