"""What is predicted can be a folder, a pattern or single files, wherever they lie."""

import importlib.util
import shutil
from pathlib import Path

import pytest
from makers import load
from PIL import Image

import datamodules

spec = importlib.util.spec_from_file_location("mask_maker", Path(__file__).parents[2] / "data/masks/make.py")
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)


@pytest.fixture
def mine(tmp_path):
    """Return a folder of masks, and another folder with three images and a text."""
    root = maker.make_folder_masks(tmp_path / "mine")
    images = sorted((root / "query").iterdir())[:3]
    (tmp_path / "trip/day").mkdir(parents=True)
    for path, target in zip(images, ("trip/a.png", "trip/b.png", "trip/day/c.png"), strict=True):
        shutil.copy(path, tmp_path / target)
    (tmp_path / "trip/notes.txt").write_text("no image")
    return root, tmp_path / "trip"


def names(root, query):
    data = datamodules.FolderMasks(str(root), query=query)
    data.setup("predict")
    episodes = [data.episode("predict", i) for i in range(data.counts["predict"])]
    return [name for episode in episodes for name in episode.query.names]


def test_a_folder_a_pattern_and_files(mine):
    root, trip = mine
    assert [Path(name).name for name in names(root, str(trip))] == ["a.png", "b.png", "c.png"]
    assert [Path(name).name for name in names(root, str(trip / "*.png"))] == ["a.png", "b.png"]
    assert [Path(name).name for name in names(root, [str(trip / "b.png"), str(trip / "day")])] == ["b.png", "c.png"]
    assert all(name.startswith("query/") for name in names(root, str(root / "query"))), "a path in the folder"


def test_what_is_not_there_is_named(mine):
    root, trip = mine
    with pytest.raises(FileNotFoundError, match=r"query .*\*\.jpg is no image, no folder with images and no pattern"):
        names(root, str(trip / "*.jpg"))


@pytest.mark.parametrize("name", ["FolderMasks", "FolderDetection"])
def test_what_is_predicted_is_seen_and_drawn_upright(tmp_path, name):
    """What a prediction writes has the size of what is drawn: that of the upright photo."""
    if name == "FolderMasks":
        root = maker.make_folder_masks(tmp_path / "mine")
    else:
        root = load("photos").make_folder(tmp_path / "mine", ["a", "b"], 2)
    stored = Image.new("RGB", (64, 48), (0, 0, 200))
    stored.paste((200, 0, 0), (0, 0, 64, 24))  # its upper half; turned by 6 it is the right one
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(tmp_path / "q.png", exif=exif)
    data = getattr(datamodules, name)(str(root), query=str(tmp_path / "q.png"))
    data.setup("predict")
    drawn = data.to_draw(data.episode("predict", 0)).images[0]
    assert drawn.shape == (3, 64, 48)
    assert drawn[:, :, 30:].float().mean((1, 2)).tolist() == [200, 0, 0]
    assert drawn[:, :, :20].float().mean((1, 2)).tolist() == [0, 0, 200]
