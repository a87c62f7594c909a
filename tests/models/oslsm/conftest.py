"""What the tests of OSLSM and of its baselines share: tiny drawn scenes and a segmenter of each class."""

import pytest
import torch

from datamodules.segmentation.scene_masks import SceneMasks
from datamodules.world.scenes import SceneClasses, SceneSettings
from lightning_fewshot.models import oslsm
from lightning_fewshot.models.oslsm.settings import NewLayers, SegmentationBranchSettings, SupportEncoder
from lightning_fewshot.settings import BackboneSettings

BACKBONE = BackboneSettings("resnet10t")
BRANCH = SegmentationBranchSettings(16, NewLayers(16, 3))
OWN = {
    "OSLSMSegmenter": {"encoder": SupportEncoder(size=64)},
    "FineTuningSegmenter": {"steps": 3},
    "PrototypeSegmenter": {"branch": SegmentationBranchSettings(16, NewLayers(16, 3), feature_norm=True)},
}


def make_scenes(n_way=1, n_query=1, k_shot=2, **options):
    scene = SceneSettings(image_size=options.pop("image_size", 64), max_objects=3)
    sizes = {"batch_size": 3, "classes": SceneClasses(9, 5, 5, clutter=4), "num_workers": 0}
    return SceneMasks(scene, n_way=n_way, n_query=n_query, k_shot=k_shot, **{**sizes, **options})


def make_segmenter(method="OSLSMSegmenter", **changes):
    torch.manual_seed(0)
    options = {"backbone": BACKBONE, "branch": BRANCH, **OWN.get(method, {}), **changes}
    module = getattr(oslsm, method)(**options)
    if module.one_output_a_class:
        module.set_classes(tuple("abcdefghi"))
    return module


@pytest.fixture(scope="session")
def scenes():
    return make_scenes()


@pytest.fixture(name="make_scenes", scope="session")
def make_scenes_fixture():
    return make_scenes


@pytest.fixture(scope="session")
def segmenter():
    return make_segmenter
