"""Masks and the grid: feature-map locations against impulse responses, shots against each alone."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from lightning_fewshot.episodes import Examples
from lightning_fewshot.models.oslsm import classifiers
from lightning_fewshot.models.oslsm.classifiers import (
    PixelClassifiers,
    any_shot,
    mean_classifiers,
    pixel_logits,
    segment,
)
from lightning_fewshot.models.oslsm.grid import location_labels, network_size, upsampled
from lightning_fewshot.models.oslsm.masks import support_objects
from lightning_fewshot.models.oslsm.settings import ImageSides
from lightning_fewshot.nn.backbones import Backbone
from lightning_fewshot.settings import BackboneSettings


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_the_mean_classifier_of_a_class_scores_as_its_shots_do_on_average():
    state = PixelClassifiers(torch.randn(5, 6), torch.randn(5), torch.tensor([1, 0, 1, 2, 1]))
    joined, features = mean_classifiers(state), torch.randn(6, 3, 4)
    assert joined.classes.tolist() == [0, 1, 2]
    each = pixel_logits(state.weight, state.bias, features)
    expected = torch.stack([each[state.classes == label].mean(0) for label in range(3)])
    torch.testing.assert_close(pixel_logits(joined.weight, joined.bias, features), expected)


def test_scores_are_the_inner_product_at_every_location():
    state = PixelClassifiers(torch.randn(4, 6), torch.randn(4), torch.arange(4))
    features = torch.randn(6, 3, 5)
    found = pixel_logits(state.weight, state.bias, features)
    for s in range(4):
        for m in range(3):
            for n in range(5):
                expected = state.weight[s] @ features[:, m, n] + state.bias[s]
                assert found[s, m, n].item() == pytest.approx(expected.item(), abs=1e-5)


def test_several_shots_are_a_logical_or_of_each_alone():
    logits, classes = torch.randn(5, 4, 6), torch.tensor([0, 1, 0, 0, 1])
    found = segment(logits, classes, [0, 1], size=(17, 23))
    full = interpolate(logits[:, None], (17, 23), mode="bilinear")[:, 0].sigmoid() > 0.5
    assert torch.equal(found.masks[0], full[[0, 2, 3]].any(0))
    assert torch.equal(found.masks[1], full[[1, 4]].any(0))


def test_the_label_map_has_the_class_of_the_highest_score():
    logits = torch.tensor([[[2.0, -1.0]], [[1.0, -1.0]], [[3.0, -2.0]]])
    found = segment(logits, torch.tensor([0, 1, 2]), [0, 1, 2], size=(1, 2))
    assert found.label_map.tolist() == [[3, 0]]
    assert found.masks[:, 0, 0].all()


def test_large_images_are_upsampled_a_map_at_a_time_with_the_same_result(monkeypatch):
    logits, classes = torch.randn(6, 4, 4), torch.tensor([0, 0, 0, 1, 1, 1])
    whole = segment(logits, classes, [0, 1], size=(50, 40))
    monkeypatch.setattr(classifiers, "PIXELS_AT_ONCE", 50 * 40)
    parts = segment(logits, classes, [0, 1], size=(50, 40))
    assert torch.equal(whole.masks, parts.masks)
    assert torch.equal(whole.label_map, parts.label_map)


def test_a_class_without_a_shot_is_named():
    with pytest.raises(ValueError, match=r"class 2 is asked for but has no shot; shots: \[0, 1\]"):
        segment(torch.zeros(2, 1, 1), torch.tensor([0, 1]), [2], size=(4, 4))


def test_small_objects_have_a_location_and_void_ones_are_unknown():
    objects, mask = torch.zeros(32, 32, dtype=torch.bool), torch.zeros(32, 32, dtype=torch.uint8)
    objects[20:22, 3:5] = True
    mask[:16, 16:] = 255
    inside, known = location_labels(objects, mask, (2, 2))
    assert inside.tolist() == [[False, False], [True, False]]
    assert known.tolist() == [[True, False], [True, True]]
    objects[:] = True
    assert location_labels(objects, mask, (2, 2))[0].all()
    assert not location_labels(~objects, mask, (2, 2))[0].any()


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
    assert network_size((1, 1), ImageSides(), 16) == (32, 32)
    assert network_size((5000, 4000), ImageSides(), 16) == (1024, 819)
    assert network_size((5000, 4000), ImageSides(align_corners=True), 16) == (1025, 833)
    assert network_size((1, 33), ImageSides(align_corners=True), 16) == (33, 33)
    assert network_size((1, 33), ImageSides(97, align_corners=True), 16) == (97, 97)


@pytest.mark.parametrize(
    ("name", "stride", "aligned", "side"),
    [("regnetx_002", 8, True, 1025), ("efficientnet_lite0", 16, True, 1025), ("vgg11", 32, False, 640)],
)
def test_locations_lie_where_upsampling_takes_them_to_lie(name, stride, aligned, side):
    body = Backbone(BackboneSettings(name), (stride,), output_stride=stride).eval()
    images = (255 * torch.rand(1, 3, 33, side)).requires_grad_()
    locations = body(images)[0]
    place = locations.shape[-1] // 2 + 1
    locations[0, :, 0, place].sum().backward()
    seen = images.grad[0].abs().sum((0, 1)).nonzero().flatten()
    assert seen[0] > 0, "the image is too small to see the whole field"
    assert seen[-1] < side - 1, "the image is too small to see the whole field"
    middle = (seen[0] + seen[-1]).item() / 2
    grid = torch.arange(side, dtype=torch.float32)
    told = upsampled(torch.arange(locations.shape[-1], dtype=torch.float32).view(1, 1, 1, -1), (1, len(grid)), aligned)
    assert np.interp(place, told.flatten().numpy(), grid.numpy()) == pytest.approx(middle, abs=1e-3)


def test_labels_of_corner_aligned_locations_are_those_around_their_pixels():
    objects = torch.zeros(65, 65, dtype=torch.bool)
    objects[:, 24:41] = True  # locations lie at 0, 16, 32, 48 and 64
    inside, known = location_labels(objects, torch.zeros(65, 65, dtype=torch.uint8), (5, 5), align_corners=True)
    assert inside.tolist() == [[False, False, True, False, False]] * 5
    assert known.all()


@pytest.mark.parametrize("size", [(5, 5), (1, 3)])
def test_an_object_of_one_pixel_has_a_corner_aligned_location_wherever_it_is(size):
    for place in range(0, 200 * 300, 997):
        objects = torch.zeros(200, 300, dtype=torch.bool)
        objects.view(-1)[place] = True
        inside, _ = location_labels(objects, torch.zeros(200, 300, dtype=torch.uint8), size, align_corners=True)
        row, column = divmod(place, 300)
        near = {
            (round(row / 199 * (size[0] - 1) + d), round(column / 299 * (size[1] - 1) + e))
            for d in (-0.1, 0.1)
            for e in (-0.1, 0.1)
        }
        assert inside.any()
        assert size[0] == 1 or set(map(tuple, inside.nonzero().tolist())) <= near


def test_shots_are_upsampled_before_they_are_joined():
    """The maximum of upsampled scores, not the upsampled maximum: section 4.4 joins masks, which are of pixels."""
    logits = torch.tensor([[[[4.0, -4.0]]], [[[-4.0, 4.0]]]])  # two shots, each sure of one location
    found = any_shot(logits, (1, 9), align_corners=True)
    grid = np.linspace(0, 1, 9)
    np.testing.assert_allclose(found[0, 0], np.maximum(4 - 8 * grid, 8 * grid - 4), atol=1e-6)
    assert found.min() < 4  # the maximum of the locations would be 4 everywhere


def test_probabilities_are_those_of_the_scores_and_make_the_masks():
    logits, classes = torch.randn(3, 4, 6), torch.tensor([0, 1, 0])
    found = segment(logits, classes, [0, 1], size=(9, 11), threshold=0.7)
    full = interpolate(logits[:, None], (9, 11), mode="bilinear")[:, 0]
    expected = torch.stack([full[[0, 2]].amax(0), full[1]]).sigmoid()
    torch.testing.assert_close(found.probs, expected)
    assert torch.equal(found.masks, found.probs > 0.7)


def test_every_image_may_have_its_own_classifiers():
    weight, bias, features = torch.randn(3, 2, 5), torch.randn(3, 2), torch.randn(3, 5, 4, 6)
    found = pixel_logits(weight, bias, features)
    expected = torch.stack([pixel_logits(w, b, f) for w, b, f in zip(weight, bias, features, strict=True)])
    torch.testing.assert_close(found, expected)
