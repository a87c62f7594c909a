"""Benchmarks of tracking, alone and as the test set of other data."""

from pathlib import Path

import numpy as np
import pytest
from jsonargparse import ArgumentParser

from datamodules.tracking.base import Target, TrackingData
from datamodules.tracking.benchmarks import OTB, OTB50, OTB50_NAMES, UAV123, VOT, TempleColor128
from datamodules.tracking.drawn_videos import DrawnVideos
from datamodules.tracking.got10k import GOT10k
from datamodules.tracking.patches import TrainingCrops
from lightning_fewshot.data import EpisodeCounts


@pytest.mark.parametrize(("cls", "count"), [(TempleColor128, 2), (UAV123, 3), (OTB, 7)])
def test_benchmarks(root, cls, count):
    data = cls(root)
    data.setup("test")
    assert data.counts["test"] == count
    assert data.protocol("test")["benchmark"] == cls.benchmark
    with pytest.raises(ValueError, match=f"has no training video; .* --data.test datamodules.{cls.__name__}"):
        data.setup("fit")


def test_otb50_is_half_of_otb100(root):
    assert len(OTB50_NAMES) == 50
    found = [video.name for video in OTB50(root).videos]
    assert found == [video.name for video in OTB(root).videos if video.name in OTB50_NAMES]
    assert {"Couple", "Deer"} <= set(found)
    assert not {"Football1", "Jogging.1"} & set(found)
    with pytest.raises(ValueError, match="'Football1' but otb has"):
        _ = OTB50(root, sequences=["Football1"]).videos


def test_a_test_set_stands_in_for_the_test_videos_alone(root):
    """In its own settings; the other set's limits are those of its validation."""
    counts = EpisodeCounts(10, 1, 1)
    data = GOT10k(root, test=OTB(root, max_frames=5), episodes=counts, max_frames=7, batch_size=2)
    for stage in ("fit", "test", "predict"):
        data.setup(stage)
    assert data.counts == {"train": 10, "val": 1, "test": 7, "predict": 1}
    assert len(data.episode("val", 0).query.images) == 7
    tested = data.episode("test", 1)
    assert tested.query.names == OTB(root).episode("test", 1).query.names == data.episode("predict", 1).query.names
    assert len(tested.query.images) == 5
    assert tested.index == 1
    protocol = data.protocol("test")
    assert (protocol["benchmark"], protocol["test_set"], protocol["max_frames"]) == ("otb", "OTB", 5)
    assert "benchmark" not in data.protocol("val")


def test_an_overlay_gives_a_test_set_and_leaves_the_training_data():
    folder = Path(__file__).parents[3] / "experiments"
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    for part in ("model", "trainer", "checkpoint"):
        parser.add_argument(f"--{part}", type=dict)
    parser.add_subclass_arguments(TrackingData, "data")
    configs = [f"--config={folder / name}" for name in ("learnet_tracker.yaml", "data/otb.yaml", "data/otb.tiny.yaml")]
    data = parser.instantiate_classes(parser.parse_args([*configs, "--data.test.sequences=[Deer]"])).data
    assert isinstance(data, DrawnVideos)
    assert data.training.crops == TrainingCrops(shift=12, stretch=0.05)
    assert isinstance(data.test_set, OTB)
    assert (data.test_set.names, data.test_set.max_frames) == (["Deer"], 12)


def test_vot_is_supervised_or_one_pass(root):
    supervised, one_pass = VOT(root=root), VOT("one-pass", root=root)
    assert supervised.target("test", 0).boxes().shape == (20, 8)
    assert one_pass.target("test", 0).boxes().shape == (20, 4)
    assert supervised.protocol("test")["evaluation"] == "supervised"
    assert supervised.episode("test", 0).protocol == "supervised"
    assert one_pass.episode("test", 0).protocol == "one_pass"
    with pytest.raises(ValueError, match="evaluation is 'otb' but must be"):
        VOT("otb")


def test_vot_opens_a_training_video_without_reading_all_its_boxes(root, monkeypatch):
    monkeypatch.setattr(Target, "boxes", lambda self: pytest.fail("all boxes were read"))
    data = GOT10k(root, test=VOT("one-pass", root=root))
    assert data.target("train", 0, np.random.default_rng(0)) is not None


def test_sequences_by_name(root):
    data = OTB(root, ["Deer", "Jogging.2"])
    data.setup("test")
    assert data.counts["test"] == 2
    with pytest.raises(ValueError, match="sequences has 'Dear' but otb has Couple, David, Deer"):
        OTB(root, ["Dear"]).setup("test")
