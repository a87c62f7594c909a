"""Images of any size and color mode as drawings, against OpenCV, which the data is read with."""

import cv2
import numpy as np
import pytest
import torch

from lightning_fewshot import ModifiedHausdorff, SiameseLearnet
from lightning_fewshot.episodes import Examples
from lightning_fewshot.models.learnet.characters.drawings import drawings


def _photo(height, width, seed=0):
    """A light RGB image of smooth noise, ``(H, W, 3)`` uint8."""
    noise = np.random.default_rng(seed).integers(120, 256, (height // 5 + 1, width // 5 + 1, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)


def _tensor(photo):
    return torch.from_numpy(photo).permute(2, 0, 1)


@pytest.mark.parametrize("side", [28, 29, 50, 56, 105, 224])
def test_color_is_converted_as_the_data_converts_it(side):
    photo = _photo(side, side)
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    expected = cv2.resize(grey, (28, 28), interpolation=cv2.INTER_AREA)
    (ours,) = drawings(_tensor(photo)[None])
    assert ours.shape == (1, 28, 28)
    assert np.abs(ours[0].numpy().astype(int) - expected).max() <= 1  # rounding of two steps


def test_drawings_of_the_right_shape_are_returned_as_they_are():
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    assert drawings(images) is images
    large = torch.randint(0, 256, (3, 1, 105, 105), dtype=torch.uint8)
    assert drawings(large, side=None) is large


def test_what_is_not_square_gets_margins_of_its_paper():
    image = torch.full((1, 40, 20), 200, dtype=torch.uint8)
    image[:, 10:30, 8:12] = 0
    (ours,) = drawings([image])
    square = torch.full((1, 40, 40), 200, dtype=torch.uint8)
    square[:, :, 10:30] = image
    assert torch.equal(ours, drawings([square])[0])


def test_a_model_takes_images_of_different_sizes():
    images = [_tensor(_photo(60, 40)), _tensor(_photo(28, 28, 1)), _tensor(_photo(105, 105, 2))[:1]]
    for module in (SiameseLearnet("siamese_shared", "euclidean").eval(), ModifiedHausdorff()):
        with torch.no_grad():
            scores = module.predict(module.adapt(Examples(images[:1])), Examples(images))
        assert scores.shape == (1, 3)
        assert bool(scores.isfinite().all())
        assert int(scores.argmax()) == 0  # itself


def test_size_and_color_do_not_change_what_is_seen():
    drawing = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    drawing[..., 6:20, 8:11] = 0
    large = drawing.repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1)
    assert torch.equal(drawings(large), drawing)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((2, 2, 28, 28), 255, dtype=torch.uint8), r"an image is \(2, 28, 28\) but must be \(1, H, W\)"),
        (torch.ones(2, 1, 28, 28), "images are torch.float32 but must be uint8"),
        (torch.zeros(2, 3, 50, 50, dtype=torch.uint8), r"mostly dark \(mean 0 of 255\)"),
    ],
)
def test_what_cannot_be_converted_is_said(images, message):
    with pytest.raises(ValueError, match=message):
        SiameseLearnet().adapt(Examples(images))
