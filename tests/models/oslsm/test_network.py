"""The conditioning branch of OSLSM against references: hashing, prototypes, masking, pooling, half precision."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from lightning_fewshot.models.oslsm.network import ConditioningBranch, ConditioningNetwork, WeightHashing
from lightning_fewshot.models.oslsm.settings import Prototypes, SupportEncoder
from lightning_fewshot.settings import BackboneSettings

SMALL = BackboneSettings("resnet10t")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def network(backbone=SMALL, align_corners=False, **encoder):
    return ConditioningNetwork(backbone, SupportEncoder(**{"size": 64, **encoder}), align_corners).eval()


def branch(n_features=12, **encoder):
    return ConditioningBranch(SMALL, SupportEncoder(size=64, **encoder), n_features).eval()


def shots(n=3, side=64):
    images = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8)
    objects = torch.zeros(n, side, side, dtype=torch.bool)
    objects[:, 10:40, 5:50] = True
    return images, objects


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
    width, model = 512, branch(512, prototype_init=True)
    dense = np.zeros((width, 1000))
    dense[np.arange(width), model.to_classifier.index[:-1]] = model.to_classifier.sign[:-1]
    with torch.no_grad():
        weight, _ = model(images, objects)
        model.network.body.reset_classifier(0)
        pooled = model.network(images, objects).double().numpy()
    nearest = pooled @ np.linalg.pinv(dense).T @ dense.T
    np.testing.assert_allclose(weight * width**0.5, nearest, atol=1e-4 * np.abs(nearest).max())
    error = np.square(nearest - pooled).sum() / np.square(pooled).sum()
    assert error < 0.5  # collisions of the hash cost some


def test_prototypes_of_another_width_are_refused():
    with pytest.raises(ValueError, match="last layer, 512, but they are 12"):
        branch(prototype_init=True)


def test_normalised_codes_have_mean_zero_and_variance_one_each():
    images, objects = shots()
    plain, normalised = branch(code_norm=False), branch(code_norm=True)
    normalised.load_state_dict(plain.state_dict())
    with torch.no_grad():
        code = plain.network(images, objects).double()
        spread = (code.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        expected = (code - code.mean(1, keepdim=True)) / spread
        weight, bias = normalised(images, objects)
    index, sign = plain.to_classifier.index, plain.to_classifier.sign
    hashed = expected[:, index] * sign
    np.testing.assert_allclose(weight, hashed[:, :-1] / 12**0.5, atol=1e-4)
    np.testing.assert_allclose(bias, hashed[:, -1], atol=1e-4)


def test_the_conditioning_branch_sees_nothing_but_the_object():
    images, objects = shots()
    model = network()
    changed = torch.where(objects[:, None], images, 255 - images)
    code = model(images, objects)
    torch.testing.assert_close(code, model(changed, objects))
    assert not torch.allclose(code, model(images, ~objects))
    assert code.shape == (3, 1000)


def test_frozen_batch_normalisation_of_the_conditioning_branch_stays_through_training():
    images, objects = shots()
    moved = {}
    for frozen in (True, False):
        g = network(BackboneSettings("resnet10t", frozen_batchnorm=frozen))
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
    g = network(crop=True)
    seen = []
    g.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    g(images, objects)
    normal = (images.float() - g.mean) / g.std
    expected = interpolate(normal[:1, :, 10:30, 15:35], (64, 64), mode="bilinear")
    inner = slice(2, -2)  # at the border a cropped photo repeats its edge, and a masked one is black beyond it
    torch.testing.assert_close(seen[0][:1, :, inner, inner], expected[:, :, inner, inner])
    assert (seen[0][1, :, :, :6] == 0).all()
    assert (seen[0][1, :, inner, 10:-10] != 0).any(1).all()


def test_scales_widen_the_square_and_average_what_g_makes_of_it():
    images, objects = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8), torch.zeros(1, 96, 96, dtype=torch.bool)
    objects[0, 40:56, 44:60] = True
    wide = torch.zeros_like(objects)
    wide[0, 32:64, 36:68] = True  # the same centre, twice the side
    g = network(crop=True, scales=(1.0, 2.0), pooling=Prototypes())
    seen = []
    g.body.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    pooled = g.pooled(images, objects)
    normal = (images.float() - g.mean) / g.std
    for found, part in zip(seen, (normal[..., 40:56, 44:60], normal[..., 32:64, 36:68]), strict=True):
        expected = interpolate(part, (64, 64), mode="bilinear")
        torch.testing.assert_close(found[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2])
    single = [network(crop=True, scales=(scale,), pooling=Prototypes()) for scale in (1.0, 2.0)]
    for one in single:
        one.load_state_dict(g.state_dict())
    torch.testing.assert_close(pooled, sum(one.pooled(images, objects) for one in single) / 2)
    masked = network(crop=True, scales=(1.0, 2.0))
    codes = []
    masked.body.register_forward_hook(lambda *_: codes.append(_[2]))
    torch.testing.assert_close(masked(images, objects), torch.stack(codes).mean(0))
    assert len(codes) == 2
    assert not torch.allclose(codes[0], codes[1])


def test_a_learned_bias_is_added_to_every_b_and_learns():
    images, objects = shots()
    plain, learned = branch(), branch(learned_bias=True)
    assert learned.load_state_dict(plain.state_dict(), strict=False).missing_keys == ["bias"]
    with torch.no_grad():
        weight, bias = plain(images, objects)
        torch.testing.assert_close(learned(images, objects), (weight, bias))
        learned.bias.fill_(0.75)
        torch.testing.assert_close(learned(images, objects), (weight, bias + 0.75))
    learned(images, objects)[1].sum().backward()
    assert learned.bias.grad.tolist() == [3.0]


@pytest.mark.parametrize("background", [0.0, 0.5])
@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "efficientnet_lite0"])
def test_a_pooled_support_is_the_mean_of_the_objects_locations_less_that_of_the_others(name, background):
    images = torch.randint(0, 256, (3, 3, 65, 65), dtype=torch.uint8)
    objects = torch.zeros(3, 65, 65, dtype=torch.bool)
    objects[0] = True
    objects[1, :30, :] = True  # locations lie at 0, 32 and 64: all of the first row, less than half of the second
    objects[2, 40, 60] = True  # too small for any location: that which it covers most
    g = network(BackboneSettings(name), True, size=65, pooling=Prototypes(background))
    with torch.no_grad():
        maps = g.body.forward_features((images.float() - g.mean) / g.std)
        assert maps.shape[-2:] == (3, 3)
        own = torch.stack([maps[0].flatten(1).mean(1), maps[1, :, 0].mean(1), maps[2, :, 1, -1]])
        share = torch.ones(3, 3, 3)
        share[0], share[1, 0] = 0, 0  # no background, and none in the first row
        share[1, 1], share[2, 1, 2] = 19 / 33, 560 / 561  # a location is 33 x 33 pixels, at the border 33 x 17
        others = torch.einsum("schw,shw->sc", maps, share) / share.sum((1, 2)).clamp(min=1)[:, None]
        expected = g.body.forward_head((own - background * others)[:, :, None, None])
        torch.testing.assert_close(g(images, objects), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("how", [{}, {"conditioning": "channel"}, {"pooling": Prototypes()}], ids=str)
@pytest.mark.parametrize("crop", [False, True])
def test_the_conditioning_branch_runs_in_half_precision(how, crop):
    images, objects = shots()
    g = network(align_corners=True, size=65, crop=crop, **how)
    expected = g(images, objects)
    found = g.bfloat16()(images, objects)
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().max() < 0.1 * expected.abs().max()


def test_a_fourth_channel_starts_without_influence_and_learns():
    images, objects = shots()
    g = network(conditioning="channel")
    torch.testing.assert_close(g(images, objects), g(images, ~objects))
    first = next(m for m in g.modules() if isinstance(m, torch.nn.Conv2d))
    assert first.in_channels == 4
    g(images, objects).sum().backward()
    assert first.weight.grad[:, 3].abs().sum() > 0


def test_shots_of_different_sizes_are_each_alone():
    images, objects = shots()
    model = branch()
    weight, bias = model(images, objects)
    parts = [images[0], images[1][:, :50], images[2]], [objects[0], objects[1][:50], objects[2]]
    listed, _ = model(*parts)
    torch.testing.assert_close(listed[::2], weight[::2], atol=1e-5, rtol=1e-4)
    alone, b = model(images[1:2], objects[1:2])
    torch.testing.assert_close(alone[0], weight[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(b[0], bias[1], atol=1e-5, rtol=1e-4)


def test_dropout_lies_before_the_last_layer_of_g():
    images, objects = shots()
    g = network(BackboneSettings("vgg11", frozen_batchnorm=True), dropout=0.5, size=32)
    assert [m.p for m in g.body.modules() if isinstance(m, nn.Dropout)].count(0.5) >= 1
    with torch.no_grad():
        torch.testing.assert_close(g(images, objects), g(images, objects))
        g.train()
        assert not torch.allclose(g(images, objects), g(images, objects))


def test_the_last_layer_of_g_can_train_alone():
    images, objects = shots()
    alone = branch(trained="last", pooling=Prototypes()).train()
    torch.cat([part.flatten() for part in alone(images, objects)]).square().sum().backward()
    moved = {name for name, p in alone.network.body.named_parameters() if p.grad is not None}
    assert moved == {"fc.weight", "fc.bias"}
    with pytest.raises(ValueError, match="trained is 'first' but must be one of all, last"):
        SupportEncoder(trained="first")
