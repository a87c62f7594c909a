"""Tiny drawn scenes."""

import pytest

from datamodules.detection.scenes import Scenes
from datamodules.world.scenes import SceneClasses, SceneSettings


@pytest.fixture(scope="module")
def scenes():
    return Scenes(
        n_way=3,
        k_shot=2,
        n_query=1,
        batch_size=2,
        scene=SceneSettings(image_size=96),
        classes=SceneClasses(6, 4, 4, clutter=4),
        num_workers=0,
    )
