"""Values by episode and mean curves in ``results.json``: what runs are compared by."""

from pathlib import Path

import numpy as np
import pytest
import torch
from clips import as_frames, video

from lightning_fewshot.callbacks.episode_values import EpisodeValues
from lightning_fewshot.metrics.gathering import values_of
from lightning_fewshot.metrics.one_pass import one_pass_curves
from lightning_fewshot.tracking.episodes import as_repeat, sequence_episode
from lightning_fewshot.tracking.loop import Track
from lightning_fewshot.tracking.module import SequenceMetrics


class Judge:
    """What is asked of a module."""

    def values_of(self, episode, preds):
        return values_of(SequenceMetrics(), preds, episode)


def moved(episode, offset):
    boxes = episode.query.boxes[0] + offset
    ones = torch.ones(len(boxes))
    return Track(boxes, ones, ones, ones)


@pytest.fixture
def sequence():
    images, boxes = video(frames=4)
    return sequence_episode(as_frames(images), boxes)


def test_a_test_keeps_every_episode_and_the_step_of_its_checkpoint(cli, results):
    cli("fit", "--data.episodes.test", 7)
    record = results()
    values = record["per_episode"]["accuracy"]
    assert list(values) == [str(i) for i in range(7)]
    assert len(set(values.values())) > 1
    assert np.mean(list(values.values())) == pytest.approx(record["metrics"]["accuracy"]["value"], abs=1e-5)
    assert record["step"] == torch.load("run/checkpoints/best.ckpt", weights_only=True)["global_step"] > 0


def test_validations_of_a_training_keep_none(cli, results):
    cli("fit", "--test_after_fit", "false")
    assert results()["per_episode"] == {}
    assert not Path("run/card.md").exists(), "the card stands beside the checkpoints from the first one on"
    cli("validate", "--ckpt_path", "run/checkpoints/best.ckpt", run_dir="again")
    assert len(results("again")["per_episode"]["accuracy"]) == 3


def test_a_video_is_called_by_its_name_and_repetitions_are_averaged(sequence):
    values, offsets = EpisodeValues(), (2.0, 6.0)
    for repeat, offset in enumerate(offsets):
        values.add(Judge(), moved(sequence, offset), as_repeat(sequence, index=repeat, repeat=repeat))
    values.add(Judge(), moved(sequence, 0.0), as_repeat(sequence._replace(index=1), index=2, repeat=0))
    rows = values.collect(["success_auc", "eao"])
    truth = sequence.query.boxes[0]
    scores = [one_pass_curves(truth + offset, truth).scores["success_auc"] for offset in offsets]
    assert rows["success_auc"]["square"] == pytest.approx(np.mean(scores), abs=1e-6)
    assert rows["success_auc"]["square (2)"] == pytest.approx(20 / 21, abs=1e-6), "another video of the same name"
    assert "eao" not in rows, "not measured"
    assert values.collect(["success_auc"]) == {}


def test_images_of_a_closed_set_are_no_episodes(sequence):
    values = EpisodeValues()
    values.add(Judge(), None, sequence._replace(protocol="batch"))
    assert values.collect(["accuracy"]) == {}


def test_curves_are_means_over_sequences(sequence):
    metric, truth = SequenceMetrics(), sequence.query.boxes[0]
    for index, offset in enumerate((3.0, 9.0)):
        metric.update(moved(sequence, offset), sequence._replace(index=index))
    score = metric.compute()["success_auc"].value
    curves = [one_pass_curves(truth + offset, truth) for offset in (3.0, 9.0)]
    expected = torch.stack([c.precision for c in curves]).mean(0)
    assert metric.curves["precision"] == pytest.approx(expected.tolist(), abs=1e-5)
    assert np.mean(metric.curves["success"]) == pytest.approx(score, abs=1e-5), "its AUC"
