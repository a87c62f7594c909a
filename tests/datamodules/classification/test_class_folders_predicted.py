"""Predicting with a folder of class folders: all that lies in a class is support, and ``query/`` is no class."""

import shutil

import pytest
import torch
from class_folders import folder_data, make

from lightning_fewshot.images import read_image


@pytest.fixture
def folder(tmp_path):
    """Three classes of two images, and one image to predict that is wider than it is high."""
    make.make_folders(tmp_path / "own", classes=3, photos=2)
    make.make_folders(tmp_path / "more", classes=1, photos=1)
    (tmp_path / "own/query").mkdir()
    shutil.move(tmp_path / "more/class0/0000.jpg", tmp_path / "own/query/new.jpg")
    return tmp_path / "own"


def test_classes_are_support_and_query_is_predicted(folder):
    data = folder_data(folder)
    data.setup("predict")
    episode = data.episode("predict", 0)
    assert data.counts["predict"] == 1
    assert episode.classes == ("class0", "class1", "class2")
    assert episode.support.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert episode.query.names == ("query/new.jpg",)
    assert episode.query.labels is None
    drawn = torch.from_numpy(read_image(folder / "query/new.jpg")).permute(2, 0, 1)
    assert torch.equal(data.to_draw(episode).images[0], drawn), "in its own size"
    assert not any(image.label.startswith("query") for image in data.list_images())


def test_other_images_can_be_named(folder):
    data = folder_data(folder, query=str(folder / "class1/*.jpg"))
    data.setup("predict")
    assert data.episode("predict", 0).query.names == ("class1/0000.jpg", "class1/0001.jpg")


def test_nothing_to_predict_says_where_it_is_looked_for(folder):
    shutil.rmtree(folder / "query")
    with pytest.raises(FileNotFoundError, match=r"has no folder query/: put the images to predict there"):
        folder_data(folder).setup("predict")
    with pytest.raises(FileNotFoundError, match="query none"):
        folder_data(folder, query="none").setup("predict")
