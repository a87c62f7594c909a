"""Scenes: what its options do to the drawn world."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from datamodules.detection.scenes import Scenes
from datamodules.world.sprite import Variation

SMALL = {"n_way": 2, "n_query": 1, "image_size": 64, "n_classes": (2, 2, 2), "clutter": (0, 0), "num_workers": 0}
NONE = Variation(**{field.name: 0.0 for field in fields(Variation)})


def spread(variation: Variation) -> float:
    """Mean over classes of how much the mean color of their instances differs, in grey levels."""
    scenes = Scenes(k_shot=40, max_objects=1, variation=variation, **SMALL)
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
    scenes = Scenes(**{**SMALL, "n_way": 3, "n_classes": (5, 2, 3)})
    scenes.setup("test")
    with pytest.raises(ValueError, match="n_way is 3 but split 'val' has 2 classes"):
        scenes.setup("fit")
    Scenes(**{**SMALL, "n_way": 3, "n_classes": (5, 2, 3)}, eval_classes="seen").setup("fit")


@pytest.mark.parametrize(("overlay", "stage"), [("repmet_seen", "fit"), ("repmet_lstd", "test")])
def test_tables_2_and_4_have_classes_enough(overlay, stage):
    files = [Path(__file__).parents[2] / "experiments" / f"{name}.yaml" for name in ("repmet", overlay)]
    first, second = (yaml.safe_load(file.read_text())["data"]["init_args"] for file in files)
    scenes = Scenes(**{**first, **second, "variation": Variation(**first["variation"])})
    scenes.setup(stage)
    assert scenes.n_way <= len(scenes.classes["train" if scenes.eval_classes == "seen" else "test"])
