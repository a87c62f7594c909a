"""Pictures of episodes: what is drawn stands where it should."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import read_image

from lightning_fewshot.callbacks.pictures import EpisodePictures
from lightning_fewshot.drawing import (
    PREDICTION,
    SIDE,
    TRUTH,
    draw_episode,
    draw_examples,
    mask_colors,
    place_label,
    write_mask,
)
from lightning_fewshot.episodes import Detections, Episode, Examples, Segmentation


def _is(picture, color):
    return (picture == torch.tensor(color, dtype=torch.uint8)[:, None, None]).all(0)


def _examples(n=2, side=56, **fields):
    images = torch.zeros(n, 3, side, side, dtype=torch.uint8)
    boxes = [torch.tensor([[8.0, 16, 40, 48]]) for _ in range(n)]
    return Examples(images, [torch.tensor([0]) for _ in range(n)], boxes)._replace(**fields)


def test_the_truth_is_green_and_stands_at_its_pixels():
    scale = SIDE / 56
    (picture,) = draw_examples(_examples(1), ["cat"], side=SIDE)
    rows, columns = _is(picture, TRUTH).nonzero(as_tuple=True)
    assert picture.shape == (3, SIDE, SIDE)
    assert abs(columns.min() - 8 * scale) <= 2
    assert abs(columns.max() - 40 * scale) <= 2
    assert abs(rows.max() - 48 * scale) <= 2


def test_predictions_are_orange_and_only_the_best_are_drawn():
    boxes = torch.tensor([[20.0, 4, 50, 30], [1, 1, 1, 1], [30, 30, 20, 40]])
    preds = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 0]))
    (picture,) = draw_examples(_examples(1, boxes=None), ["cat"], [preds], side=SIDE)
    columns = _is(picture, PREDICTION).nonzero(as_tuple=True)[1]
    assert abs(columns.max() - 50 * SIDE / 56) <= 2, "an empty and an inverted box are left out"
    assert not _is(picture, TRUTH).any()


def test_of_classes_in_one_place_the_best_is_drawn():
    boxes = torch.tensor([[10.0, 10, 40, 40], [10, 10, 40, 41], [42, 42, 50, 50]])
    preds = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 1]))
    alone = Detections(*(part[[0, 2]] for part in preds))
    assert torch.equal(*(draw_examples(_examples(1), ["cat", "dog"], [p])[0] for p in (preds, alone)))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 300, 20), (3, 1, 1)])
def test_grey_oblong_and_tiny_images_are_drawn(shape):
    query = Examples([torch.full(shape, 100, dtype=torch.uint8)] * 3)
    picture = draw_episode(Episode(None, query, ("a",)), None)
    assert picture.dtype == torch.uint8
    assert picture.shape[0] == 3


def test_masks_are_tinted():
    masks = [torch.zeros(1, 56, 56, dtype=torch.bool)]
    masks[0][0, :28] = True
    (picture,) = draw_examples(_examples(1, boxes=None, instance_masks=masks), ["cat"], side=SIDE)
    assert picture[1, : SIDE // 2 - 4].min() > 0
    assert picture[:, SIDE // 2 + 4 :].max() == 0


def test_predicted_masks_are_orange_and_void_is_not_drawn():
    found = torch.zeros(1, 56, 56, dtype=torch.bool)
    found[0, :, :28] = True
    preds = [Segmentation(found, found[0].to(torch.uint8))]
    truth = torch.zeros(1, 56, 56, dtype=torch.uint8)
    truth[0, 28:] = 255
    (picture,) = draw_examples(_examples(1, boxes=None, class_masks=truth), ["cat"], preds, side=SIDE)
    tint = picture[:, 0, 0].tolist()
    assert tint[0] > tint[1] > tint[2]
    assert picture[:, :, SIDE // 2 + 4 :].max() == 0


def test_weak_detections_are_not_drawn_but_the_best_is():
    boxes = torch.tensor([[4.0, 4, 20, 20], [30, 30, 50, 50]])
    for scores, right in ((0.25, 0.2), 20), ((0.9, 0.2), 20), ((0.9, 0.8), 50):
        preds = Detections(boxes, torch.tensor(scores), torch.tensor([0, 0]))
        (picture,) = draw_examples(_examples(1, boxes=None), ["cat"], [preds], side=SIDE)
        assert abs(_is(picture, PREDICTION).nonzero(as_tuple=True)[1].max() - right * SIDE / 56) <= 60


@pytest.mark.parametrize("size", [(480, 640), (60, 80), (2000, 3000)])
def test_predictions_keep_the_images_size(size):
    images = [torch.zeros(3, *size, dtype=torch.uint8)]
    boxes = torch.tensor([[10.0, 10, 50, 50]])
    preds = [Detections(boxes, torch.tensor([0.9]), torch.tensor([0]))]
    (picture,) = draw_examples(Examples(images), ["cat"], preds)
    assert picture.shape == (3, *size)
    line = _is(picture, PREDICTION)[30].nonzero()[:, 0]
    assert ((line >= 10) & (line < 30)).sum() >= max(2, max(size) // 300), "lines grow with the picture"


def test_labels_do_not_cover_each_other():
    taken = []
    for shift in range(5):
        box = (40 + shift, 60 + shift, 90, 110)
        place = place_label(box, (0, 0, 50, 12), (200, 300), taken)
        assert all(place[3] <= t[1] or t[3] <= place[1] or place[2] <= t[0] or t[2] <= place[0] for t in taken)
        assert min(place) >= 0
        assert place[2] <= 200
        assert place[3] <= 300
        taken.append(place)


def test_names_of_classes_in_one_place_are_both_read():
    """Rings around one middle: each has its label whole."""
    radius = (torch.stack(torch.meshgrid(*[torch.arange(320) - 160.0] * 2, indexing="ij")) ** 2).sum(0).sqrt()
    masks = torch.stack([(radius > inner) & (radius < inner + 40) for inner in (20, 60, 100)])
    values = sum((i + 1) * mask.to(torch.uint8) for i, mask in enumerate(masks))
    image = torch.zeros(1, 3, 320, 320, dtype=torch.uint8)
    (picture,) = draw_examples(Examples(image), ["cat"] * 3, [Segmentation(masks, values)])
    areas = [int(_is(picture, color).sum()) for color in mask_colors(3)]
    assert min(areas) > 0.9 * max(areas) > 100, "the label of a class has its full color, the mask is mixed"


def test_labels_of_predictions_avoid_those_of_the_truth():
    examples = _examples(1)
    preds = Detections(examples.boxes[0], torch.tensor([0.9]), torch.tensor([0]))
    (alone,) = draw_examples(examples, ["cat"], side=SIDE)
    (both,) = draw_examples(examples, ["cat"], [preds], side=SIDE)
    x, y = (round(v * SIDE / 56) for v in examples.boxes[0][0, :2].tolist())
    label = (slice(None), slice(y - 11, y - 4), slice(x, x + 8))  # of the truth, above its box
    assert torch.equal(both[label], alone[label])


def test_an_episode_of_whole_images_shows_names_truth_and_prediction():
    query = Examples(torch.zeros(2, 3, 20, 20, dtype=torch.uint8), torch.tensor([0, 1]))
    preds = torch.tensor([[2.0, 1.0], [2.0, 1.0]])  # right, wrong
    pictures = draw_examples(query, ["cat", "dog"], preds, side=100)
    assert all(p.shape[1] > 100 for p in pictures), "a caption stands below each"
    reddish = [((p[0].int() - p[1].int()) > 150).sum() for p in pictures]
    assert reddish[1] > reddish[0], "a wrong answer is red"


def test_a_mask_is_written_with_its_values(tmp_path):
    values = torch.arange(12, dtype=torch.uint8).view(3, 4)
    write_mask(values, tmp_path / "mask.png")
    image = Image.open(tmp_path / "mask.png")
    assert image.mode == "P"
    assert torch.equal(torch.from_numpy(np.array(image)), values)
    colors = [tuple(image.getpalette()[3 * i : 3 * i + 3]) for i in range(12)]
    assert len(set(colors)) == 12
    assert colors[:2] == [(0, 0, 0), PREDICTION]


class _Rated(torch.nn.Module):
    """Rates episode i by its number; its picture is that bright."""

    def quality(self, episode, preds):
        return float("nan") if episode.index == 3 else episode.index / 10

    def draw(self, episode, preds):
        return torch.full((3, 4, 4), episode.index, dtype=torch.uint8)


def test_the_best_and_the_worst_episodes_of_a_test_are_written(tmp_path):
    callback = EpisodePictures(2)
    trainer = SimpleNamespace(is_global_zero=True, sanity_checking=False, default_root_dir=tmp_path, loggers=[])
    callback.on_test_start(trainer, _Rated())
    for i in (5, 1, 9, 3, 0, 7):
        episode = Episode(None, _examples(), ("a",), i)
        callback.on_test_batch_end(trainer, _Rated(), None, episode, 99)
    callback.on_test_end(trainer, _Rated())
    names = sorted(p.name for p in (tmp_path / "pictures").iterdir())
    assert names == [
        "test_best_1_0009.png",
        "test_best_2_0007.png",
        "test_worst_1_0000.png",
        "test_worst_2_0001.png",
    ]
    assert read_image(str(tmp_path / "pictures/test_best_1_0009.png")).unique().tolist() == [9]


def test_the_first_the_best_and_the_worst_episodes_of_a_run_are_written(cli, results):
    cli("fit", "--pictures.count", 2)
    names = sorted(p.name for p in Path("run/pictures").iterdir())
    assert [n for n in names if "_0" in n[:6]] == ["test_0000.png", "test_0001.png", "val_0000.png", "val_0001.png"]
    rows = results()["per_episode"]["accuracy"]
    rated = {kind: [rows[str(int(n[-8:-4]))] for n in names if f"test_{kind}" in n] for kind in ("best", "worst")}
    ordered = sorted(rows.values())
    assert rated == {"best": ordered[:-3:-1], "worst": ordered[:2]}, "by the metric that training follows"
    picture = read_image("run/pictures/test_0000.png")
    assert picture.float().std() > 10, "there is something to see"


def test_none_are_written_where_none_are_asked_for(cli):
    cli("fit", "--pictures.count", 0)
    assert not Path("run/pictures").exists()
    with pytest.raises(ValueError, match=r"pictures\.count is -1 but must be at least 0"):
        EpisodePictures(-1)


def test_a_picture_that_cannot_be_written_ends_no_training(cli, results, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightning_fewshot.drawing.write_png", full)
    with pytest.warns(UserWarning, match="cannot write the picture run/pictures/val_0000.png") as warned:
        cli("fit")
    assert sum("cannot write the picture" in str(w.message) for w in warned) == 1
    assert results()["protocol"]["split"] == "test"


def test_of_many_queries_some_of_each_class_are_drawn():
    """Queries stand class by class: the first ten of 75 would all show one class."""
    labels = torch.arange(5).repeat_interleave(15)
    images = labels[:, None, None, None].expand(75, 3, 8, 8).to(torch.uint8) * 50
    pictures = draw_examples(Examples(images, labels), list("abcde"), limit=10, side=8)
    assert {int(picture[0, 4, 4]) for picture in pictures} == {0, 50, 100, 150, 200}
    assert len(pictures) == 10
