"""Pictures of episodes: what is drawn stands where it should."""

from pathlib import Path

import pytest
import torch
from torchvision.io import read_image

from lightning_fewshot.callbacks.drawing import PREDICTION, SIDE, TRUTH, draw_episode, draw_examples
from lightning_fewshot.callbacks.pictures import EpisodePictures
from lightning_fewshot.episodes import Detections, Episode, Examples


def _is(picture, color):
    return (picture == torch.tensor(color, dtype=torch.uint8)[:, None, None]).all(0)


def _examples(n=2, side=56, **fields):
    images = torch.zeros(n, 3, side, side, dtype=torch.uint8)
    boxes = [torch.tensor([[8.0, 16, 40, 48]]) for _ in range(n)]
    return Examples(images, [torch.tensor([0]) for _ in range(n)], boxes)._replace(**fields)


def test_the_truth_is_green_and_stands_at_its_pixels():
    scale = SIDE / 56
    (picture,) = draw_examples(_examples(1), ["cat"])
    rows, columns = _is(picture, TRUTH).nonzero(as_tuple=True)
    assert picture.shape == (3, SIDE, SIDE)
    assert abs(columns.min() - 8 * scale) <= 2
    assert abs(columns.max() - 40 * scale) <= 2
    assert abs(rows.max() - 48 * scale) <= 2


def test_predictions_are_orange_and_only_the_best_are_drawn():
    boxes = torch.tensor([[20.0, 4, 50, 30], [1, 1, 1, 1], [30, 30, 20, 40]])
    preds = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 0]))
    (picture,) = draw_examples(_examples(1, boxes=None), ["cat"], [preds])
    columns = _is(picture, PREDICTION).nonzero(as_tuple=True)[1]
    assert abs(columns.max() - 50 * SIDE / 56) <= 2, "an empty and an inverted box are left out"
    assert not _is(picture, TRUTH).any()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 300, 20), (3, 1, 1)])
def test_grey_oblong_and_tiny_images_are_drawn(shape):
    query = Examples([torch.full(shape, 100, dtype=torch.uint8)] * 3)
    picture = draw_episode(Episode(None, query, ("a",)), None)
    assert picture.dtype == torch.uint8
    assert picture.shape[0] == 3


def test_masks_are_tinted():
    masks = [torch.zeros(1, 56, 56, dtype=torch.bool)]
    masks[0][0, :28] = True
    (picture,) = draw_examples(_examples(1, boxes=None, masks=masks), ["cat"])
    assert picture[1, : SIDE // 2 - 4].min() > 0
    assert picture[:, SIDE // 2 + 4 :].max() == 0


def test_the_first_episodes_are_written(cli):
    cli("fit", "--pictures.count", 2)
    names = sorted(p.name for p in Path("run/pictures").iterdir())
    assert names == ["test_0000.png", "test_0001.png", "val_0000.png", "val_0001.png"]
    picture = read_image("run/pictures/test_0000.png")
    assert picture.float().std() > 10, "there is something to see"


def test_none_are_written_where_none_are_asked_for(cli):
    cli("fit", "--pictures.count", 0)
    assert not Path("run/pictures").exists()
    with pytest.raises(ValueError, match=r"pictures\.count is -1 but must be at least 0"):
        EpisodePictures(-1)
