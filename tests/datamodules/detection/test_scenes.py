"""Scenes: what its options do to the drawn world."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from datamodules.detection.scenes import Scenes
from datamodules.world.scenes import SceneClasses, SceneSettings
from datamodules.world.sprite import Variation
from lightning_fewshot.data import EpisodeCounts

SMALL = {"n_way": 2, "n_query": 1, "classes": SceneClasses(2, 2, 2), "num_workers": 0}
PLAIN = {"image_size": 64, "clutter": (0, 0)}
NONE = Variation(**{field.name: 0.0 for field in fields(Variation)})


def spread(variation: Variation) -> float:
    """Mean over classes of how much the mean color of their instances differs, in grey levels."""
    scenes = Scenes(k_shot=40, scene=SceneSettings(max_objects=1, variation=variation, **PLAIN), **SMALL)
    support = scenes.episode("test", 0).support
    labels = torch.cat(support.labels)
    colors = torch.stack(
        [i[:, m[0]].float().mean(1) for i, m in zip(support.images, support.instance_masks, strict=True)]
    )
    return float(np.mean([colors[labels == label].std(0).mean() for label in (0, 1)]))


def test_variation_says_how_far_instances_of_a_class_differ():
    none, all_repainted = spread(NONE), spread(Variation(**{**vars(NONE), "repaint": 1.0}))
    assert all_repainted > 1.3 * none > 0  # the light of a scene is left


def test_more_ways_than_classes_are_refused_where_they_are_needed():
    scenes = Scenes(**{**SMALL, "n_way": 3, "classes": SceneClasses(5, 2, 3)})
    scenes.setup("test")
    with pytest.raises(ValueError, match="n_way is 3 but split 'val' has 2 classes"):
        scenes.setup("fit")
    Scenes(**{**SMALL, "n_way": 3, "classes": SceneClasses(5, 2, 3, evaluated="seen")}).setup("fit")


@pytest.mark.parametrize(("overlay", "stage"), [("seen", "fit"), ("lstd", "test")])
def test_tables_2_and_4_have_classes_enough(overlay, stage):
    folder = Path(__file__).parents[3] / "experiments"
    files = [folder / "repmet.yaml", folder / f"repmet/ablations/{overlay}.yaml"]
    first, second = (yaml.safe_load(file.read_text())["data"]["init_args"] for file in files)
    classes = SceneClasses(**{**first["classes"], **second.get("classes", {})})
    counts = EpisodeCounts(**{**first["episodes"], **second["episodes"]})
    scenes = Scenes(n_way=second["n_way"], classes=classes, episodes=counts)
    scenes.setup(stage)
    assert scenes.n_way <= len(scenes.pool("test"))


def test_training_is_a_batch_without_support():
    episode = Scenes(scene=SceneSettings(**PLAIN), batch_size=2, **SMALL).episode("train", 0)
    assert (episode.support, episode.protocol) == (None, "batch")


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="max_objects is 0 but must be at least 1"):
        SceneSettings(max_objects=0)
    with pytest.raises(ValueError, match="image_size is 16 pixels but must be at least 32"):
        SceneSettings(image_size=16)
    with pytest.raises(ValueError, match=r"clutter is \(2, 1\) but must be"):
        SceneSettings(clutter=(2, 1))
    with pytest.raises(ValueError, match=r"classes\.val is 0 but must be at least 1"):
        SceneClasses(val=0)
    with pytest.raises(ValueError, match=r"repaint is 2\.0 but must be at least 0 and at most 1"):
        Variation(repaint=2.0)
    with pytest.raises(ValueError, match=r"tilt is 0\.5 but must be at least 0 and below 0\.5"):
        Variation(tilt=0.5)
    with pytest.raises(ValueError, match="batch_size is 0 but must be at least 1"):
        Scenes(batch_size=0)


def test_the_number_of_shots_changes_no_question():
    one, five = (Scenes(k_shot=k, scene=SceneSettings(**PLAIN), **SMALL).episode("test", 3) for k in (1, 5))
    assert one.classes == five.classes
    assert torch.equal(one.query.images, five.query.images)
    assert len(five.support.images) == 10
