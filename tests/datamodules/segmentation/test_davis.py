"""DAVIS: a sequence is asked from its first frame, frames keep their order, and what is wrong is named."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch

from datamodules.segmentation.davis import DAVIS
from datamodules.segmentation.settings import FoldSplits, MaskedImages
from lightning_fewshot.data import EpisodeCounts

spec = importlib.util.spec_from_file_location("make_masks", Path(__file__).parents[2] / "data/masks/make.py")
maker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(maker)


def davis(root, size=None, **options):
    return DAVIS(str(root), images=MaskedImages(size=size, mirror=False, color=False), **options)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return maker.make_davis(tmp_path_factory.mktemp("davis"))


def test_the_first_frame_is_the_support_and_the_others_are_asked_in_order(root):
    data = davis(root)
    data.setup("test")
    assert data.counts["test"] == 3
    assert data.catalog.split_classes["test"] == ("val0", "val1", "val2")
    for i in range(3):
        episode = data.episode("test", i)
        assert episode.protocol == "video"
        assert episode.classes == (f"val{i}",)
        assert episode.support.names == (f"val{i}/00000.jpg",)
        assert episode.query.names == tuple(f"val{i}/{t:05d}.jpg" for t in range(1, 5))
        assert episode.query.labels.tolist() == [0] * 4
        for part in (episode.support, episode.query):
            bright = part.images.float().mean(1) > 100
            assert ((part.class_masks == 1) & ~bright).sum() <= 0.1 * (part.class_masks == 1).sum()
            assert (part.class_masks == 1).flatten(1).any(1).all()
    assert data.protocol("test")["sampling"] == "sequences: all frames after the first"


def test_frames_are_measured_at_their_own_size(root):
    episode = davis(root, size=32).episode("test", 0)
    assert episode.support.images.shape == (1, 3, 32, 32)
    assert episode.query.images.shape[-2:] == maker.SIZE[::-1]


def test_fewer_sequences_are_a_start_of_the_list(root):
    data = davis(root, episodes=EpisodeCounts(test=2))
    data.setup("test")
    assert data.counts["test"] == 2


def test_training_pairs_are_frames_of_one_sequence_of_the_training_list(root):
    data = davis(root, splits=FoldSplits(held_out=0.4))
    for i in range(6):
        episode = data.episode("train", i)
        assert episode.protocol == "pairs"
        assert set(episode.classes) <= {"train0", "train1", "train2"}
        for shot, query in zip(episode.support.names, episode.query.names, strict=True):
            assert shot != query
            assert shot.split("/")[0] == query.split("/")[0]


def test_what_cannot_be_is_named(root, tmp_path):
    with pytest.raises(ValueError, match="k_shot is 5 but the support of a video is its first frame"):
        davis(root, k_shot=5)
    with pytest.raises(ValueError, match="split 'train' has 0 classes and no photo"):
        davis(maker.make_davis(tmp_path / "a", trained=0)).setup("fit")
    with pytest.raises(FileNotFoundError, match=r"does not exist\. Download DAVIS-2016"):
        davis(tmp_path / "none").setup("test")


@pytest.mark.real_data
@pytest.mark.skipif("FEWSHOT_DATA" not in os.environ, reason="needs FEWSHOT_DATA")
def test_the_real_sequences():
    data = DAVIS()
    data.setup("test")
    assert data.counts["test"] == 14
    assert len(data.catalog.photos) == 910
    episode = data.episode("test", 6)
    assert episode.classes == ("dog",)
    assert torch.stack([(mask == 1).any() for mask in episode.query.class_masks]).all()
