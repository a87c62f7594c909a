"""Scores averaged over small affine maps of the inputs."""

import math

import pytest
import torch

from lightning_fewshot import SiameseLearnet
from lightning_fewshot.episodes import Examples
from lightning_fewshot.models.learnet.characters.views import Views, moved


def _images(count, seed=0):
    return torch.randint(0, 256, (count, 1, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_a_quarter_turn_and_a_shift_by_a_pixel_move_pixels():
    images = _images(2)
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    assert torch.equal(moved(images, turn), images.rot90(1, (2, 3)))
    right = moved(images, torch.tensor([[1.0, 0.0, -2 / 28], [0.0, 1.0, 0.0]]))
    assert torch.equal(right[..., 1:], images[..., :-1])
    assert (right[..., 0] == 255).all()  # paper


def test_maps_stay_within_their_limits():
    maps = Views(count=200, rotate=8.0, scale=0.1, shift=1.0).maps(28)
    angle = torch.atan2(maps[:, 1, 0], maps[:, 0, 0]).rad2deg()
    size = maps[:, :, 0].norm(dim=1)
    assert 7 < angle.abs().max() <= 8
    assert 0.08 < (size - 1).abs().max() <= 0.1 + 1e-6
    assert 0.9 < (maps[:, :, 2] * 14).abs().max() <= 1


def test_scores_are_the_mean_over_the_views_and_training_sees_none():
    torch.manual_seed(0)
    views = Views(count=2)
    module = SiameseLearnet("siamese_shared", "euclidean", views=views).eval()
    state, images = module.adapt(Examples(_images(3))), _images(3, 1)
    alone = [module.network.predict(state, view) for view in views.of(images)]
    assert len(alone) == 3
    torch.testing.assert_close(module.predict(state, Examples(images)), sum(alone) / 3)
    assert not torch.allclose(alone[0], alone[1])
    module.train().network.eval()
    torch.testing.assert_close(module.predict(state, Examples(images)), alone[0])


@pytest.mark.parametrize(("name", "value"), [("count", 0), ("rotate", -1.0), ("scale", 1.0), ("shift", -math.inf)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"views.{name} is {value}"):
        Views(**{name: value})
