"""Omniglot's layout on tiny data, Lake's runs, and every kind of broken input that has a message of its own."""

import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.characters import omniglot_files
from datamodules.characters.omniglot import OmniglotPairs
from datamodules.characters.omniglot_files import read_drawing
from datamodules.characters.training import PairBatch


@pytest.fixture
def root(tmp_path, omniglot_maker):
    return omniglot_maker.make(tmp_path / "omniglot")


def _data(root, **kwargs):
    return OmniglotPairs(
        **({"root": str(root), "n_way": 5, "training": PairBatch(10), "val_alphabets": 1, "problems": 4} | kwargs)
    )


def test_layout_is_read_in_order(root):
    data = _data(root)
    train, val, test = (data.characters(split) for split in ("train", "val", "test"))
    assert train.alphabets == ("Alpha", "Beta")
    assert val.alphabets == ("Gamma",)
    assert test.alphabets == ("Delta", "Epsilon")
    assert train.images.shape == (40, 28, 28)
    assert train.images.dtype == np.uint8
    assert train.names[6] == "Beta/character02"
    expected = read_drawing(sorted((root / "images_background/Beta/character02").glob("*.png"))[3], 28)
    np.testing.assert_array_equal(train.images[4 * 6 + 3], expected)


def test_drawing_is_averaged_down(root):
    path = next((root / "images_background").rglob("*.png"))
    whole = np.asarray(Image.open(path).convert("L"), dtype=float)
    upsampled = whole.repeat(4, 0).repeat(4, 1)  # 420 = 28 * 15
    expected = upsampled.reshape(28, 15, 28, 15).mean((1, 3))
    np.testing.assert_allclose(read_drawing(path, 28), expected, atol=1)


def test_zips_are_unpacked(root, omniglot_maker):
    expected = _data(root).characters("test").images
    omniglot_maker.zip_folder(root, "images_evaluation")
    np.testing.assert_array_equal(_data(root).characters("test").images, expected)
    assert not list(root.glob(".images_evaluation*"))


def test_lakes_runs(root):
    data = _data(root, test_problems="lake")
    data.setup("test")
    assert data.counts["test"] == 2
    episode = data.episode("test", 1)
    assert episode.support.images.shape == (5, 1, 28, 28)
    assert episode.query.images.shape == (25, 1, 28, 28)
    assert episode.query.labels.view(5, 5).argmax(1).tolist() == [1, 3, 0, 2, 4]
    assert episode.protocol == "problems"
    assert data.protocol("test")["problems"] == 10
    with pytest.raises(ValueError, match="test episode 2 was asked for but there are 2 runs"):
        data.episode("test", 2)


def test_truncated_zip(root, omniglot_maker):
    zipped = omniglot_maker.zip_folder(root, "images_background")
    zipped.write_bytes(zipped.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"images_background.zip \(1000 bytes\) is truncated or no zip"):
        _data(root).characters("train")
    assert not (root / "images_background").exists()


def test_an_archive_of_gigabytes_and_one_that_leads_out_are_refused(root, omniglot_maker, monkeypatch):
    zipped = omniglot_maker.zip_folder(root, "images_background")
    monkeypatch.setattr(omniglot_files, "MAX_UNPACKED", 1000)
    with pytest.raises(ValueError, match=r"images_background.zip holds \d+ bytes but 1000 are the most"):
        _data(root).characters("train")
    monkeypatch.undo()
    for name in ("../evil.png", "/tmp/evil.png"):
        with zipfile.ZipFile(zipped, "w") as archive:
            archive.writestr(name, b"x")
        with pytest.raises(ValueError, match=r"evil.png', which is outside its folder"):
            _data(root).characters("train")
    assert not [*root.parent.rglob("evil.png"), *root.glob(".images_background*")]


def test_wrong_folder_level(root):
    with pytest.raises(ValueError, match=f"one level too low: give {root}$"):
        _data(root / "images_background").characters("train")
    with pytest.raises(ValueError, match=f"one level too high: give {root}$"):
        _data(root.parent).characters("train")
    inner = root / "images_evaluation" / "images_evaluation"
    shutil.copytree(root / "images_evaluation", root / "copy")
    shutil.rmtree(root / "images_evaluation")
    shutil.copytree(root / "copy", inner)
    with pytest.raises(ValueError, match="one level too high or too low"):
        _data(root).characters("test")


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data.download true fetches them"):
        _data(tmp_path).characters("train")


def test_no_network(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(FileNotFoundError, match=r"no route; put it at .*images_background.zip yourself"):
        _data(tmp_path, download=True).characters("train")
    assert not list(tmp_path.iterdir())


def test_fetching_checks_the_checksum(tmp_path, monkeypatch, root, omniglot_maker):
    zipped = omniglot_maker.zip_folder(root, "images_background")
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: io.BytesIO(Path(zipped).read_bytes()))
    with pytest.raises(ValueError, match="another checksum than 68d2efa1"):
        _data(tmp_path / "new", download=True).characters("train")


def test_fetched_runs_are_unpacked(tmp_path, monkeypatch, root):
    folder = root / "one-shot-classification"  # all_runs.zip holds run01 ... without a folder around them
    zipped = shutil.make_archive(str(tmp_path / "all"), "zip", folder)
    monkeypatch.setattr("urllib.request.urlopen", lambda *args, **kwargs: io.BytesIO(Path(zipped).read_bytes()))
    data = _data(tmp_path / "new", download=True, test_problems="lake")
    data.setup("test")
    assert torch.equal(
        data.episode("test", 0).query.images, _data(root, test_problems="lake").episode("test", 0).query.images
    )


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.full((105, 80), 255, np.uint8), "is 80 x 105 pixels but squares of at least 28 x 28"),
        (np.full((20, 20), 255, np.uint8), "is 20 x 20 pixels"),
        (np.zeros((105, 105), np.uint8), r"is mostly black \(mean 0 of 255\): black ink on white is expected"),
        (np.full((105, 105, 4), 255, np.uint8), "has a transparent ground"),
        (np.full((105, 105), 65535, np.uint16), "has uint16 pixels"),
    ],
)
def test_unusable_pictures(root, picture, message):
    path = next((root / "images_evaluation").rglob("*.png"))
    Image.fromarray(picture).save(path)
    with pytest.raises(ValueError, match=f"{path.name} {message}"):
        _data(root).characters("test")


def test_truncated_picture(root):
    path = next((root / "images_evaluation").rglob("*.png"))
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=f"{path.name} is missing or no readable picture"):
        _data(root).characters("test")


def test_other_sizes_and_modes_are_the_same_drawing(tmp_path, omniglot_maker):
    paper = omniglot_maker.draw(3, 1, 112)
    omniglot_maker.write(tmp_path / "bit.png", paper)
    grey = (paper * 255).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "color.png")
    Image.fromarray(grey.repeat(2, 0).repeat(2, 1)).save(tmp_path / "large.png")
    drawings = [read_drawing(tmp_path / f"{name}.png", 28) for name in ("bit", "grey", "color", "large")]
    for other in drawings[1:]:
        np.testing.assert_array_equal(other, drawings[0])


def test_too_few_characters(root, omniglot_maker):
    shutil.rmtree(root / "images_evaluation" / "Epsilon" / "character05")
    with pytest.raises(ValueError, match="alphabet 'Epsilon' of split 'test' has 4 characters, but 5 are needed"):
        _data(root).characters("test")
    with pytest.raises(ValueError, match="alphabet 'Alpha' of split 'val' has 5 characters, but 20 are needed"):
        _data(root, n_way=20).characters("train")


def test_character_with_one_drawing(root):
    for path in sorted((root / "images_background/Alpha/character02").glob("*.png"))[1:]:
        path.unlink()
    with pytest.raises(
        ValueError, match="character 'Alpha/character02' of split 'train' has 1 drawing, but a pair needs 2"
    ):
        _data(root).characters("train")


def test_everything_held_out(root):
    with pytest.raises(ValueError, match="val_alphabets is 3 but the background set has 3 alphabets"):
        _data(root, val_alphabets=3).characters("train")


def test_bad_labels_of_a_run(root):
    (root / "one-shot-classification/run01/class_labels.txt").write_text("one\n")
    with pytest.raises(ValueError, match=r"must hold '<test item> <training item>' on each line"):
        _data(root, test_problems="lake").setup("test")


@pytest.mark.real_data
@pytest.mark.skipif("FEWSHOT_DATA" not in os.environ, reason="needs FEWSHOT_DATA")
def test_the_real_counts():
    if not (Path(os.environ["FEWSHOT_DATA"]) / "omniglot").is_dir():
        pytest.skip("no omniglot below FEWSHOT_DATA")
    data = OmniglotPairs(val_alphabets=0)
    train, test = data.characters("train"), data.characters("test")
    assert (len(train.alphabets), len(train.drawings), len(train.images)) == (30, 964, 19280)  # section 3.2
    assert (len(test.alphabets), len(test.drawings), len(test.images)) == (20, 659, 13180)
    assert set(train.drawings) == set(test.drawings) == {20}
    runs = OmniglotPairs(test_problems="lake")
    runs.setup("test")
    assert runs.protocol("test")["problems"] == 400
