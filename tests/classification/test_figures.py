"""Figures of an embedding: who is nearest, what is drawn where, and that looking changes nothing."""

import pytest
import torch
from PIL import Image
from pytorch_lightning import Trainer
from torch.nn.functional import normalize

from datamodules import DrawnObjects
from datamodules.classification.drawn_objects import ObjectSettings
from datamodules.classification.settings import ImageSettings
from datamodules.classification.training import ClassBatch
from datamodules.world.scenes import SceneClasses
from lightning_fewshot import RepMetClassifier, RepMetDetector, TripletClassifier
from lightning_fewshot.callbacks.embedding import EmbeddingPictures
from lightning_fewshot.classification.figures import (
    SIDE,
    draw_curves,
    draw_maps,
    draw_representatives,
    nearest_images,
    nearest_modes,
    places,
)
from lightning_fewshot.classification.mixtures import ClassMixtures
from lightning_fewshot.classification.settings import EmbeddingHead
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.models.repmet.classifier_settings import ClassMixture
from lightning_fewshot.settings import BackboneSettings

NAMES = ("cat", "dog")


@pytest.fixture
def embedded():
    return normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.1]]), dim=-1)


@pytest.fixture
def state():
    modes = normalize(torch.tensor([[[0.9, 0.1], [0.1, 0.9]], [[-1.0, 0.0], [0.9, 0.1]]]), dim=-1)
    return ClassMixtures(modes, torch.tensor([[True, True], [True, False]]))


def test_an_image_belongs_to_the_nearest_mode_of_its_class(embedded, state):
    """The third image's label has one mode; its second slot, which is nearer, is not used."""
    assert nearest_modes(embedded, torch.tensor([0, 0, 0, 1]), state).tolist() == [0, 0, 1, 0]
    assert nearest_modes(embedded[:1], torch.tensor([1]), state).tolist() == [0]


def test_the_image_nearest_to_a_representative_may_be_of_another_class(embedded, state):
    assert nearest_images(embedded, state).tolist() == [[1, 2], [3, 1]]


def test_places_are_the_same_each_time_and_keep_groups_apart():
    generator = torch.Generator().manual_seed(0)
    points = torch.cat([torch.randn(20, 8, generator=generator), 30 + torch.randn(20, 8, generator=generator)])
    where = places(points)
    assert torch.equal(where, places(points))
    middles = where[:20].mean(0), where[20:].mean(0)
    spread = max(float(part.std(0).max()) for part in where.split(20))
    assert float((middles[0] - middles[1]).norm()) > 2 * spread


def test_two_images_have_no_map():
    with pytest.raises(ValueError, match="2 images"):
        places(torch.rand(2, 4))


def test_representatives_stand_in_rows_of_their_class(state):
    images = [torch.full((3, 8, 8), value, dtype=torch.uint8) for value in (10, 60, 120, 200)]
    nearest = torch.tensor([[1, 2], [3, 1]])
    picture = draw_representatives(images, torch.tensor([0, 0, 0, 1]), nearest=nearest, used=state.used, names=NAMES)
    half, height = SIDE // 2, picture.shape[1] // 2
    shown = [[int(picture[0, row * height + half, column * (SIDE + 6) + half]) for column in (0, 1)] for row in (0, 1)]
    assert shown == [[60, 120], [200, 255]], "the slot that is not used stays white"


def test_maps_color_classes_and_modes_apart(embedded):
    labels, modes = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 0])
    picture = draw_maps([("start", embedded, labels, modes)], NAMES)
    colors = {tuple(color) for color in picture.flatten(1).T.unique(dim=0).tolist()}
    saturated = {color for color in colors if max(color) - min(color) > 100}
    assert len(saturated) >= 3


def test_curves_are_drawn():
    picture = draw_curves({"RepMet": [0.9, 0.5]}, (1, 8), across="neighbours", up="precision")
    assert picture.dtype == torch.uint8
    assert int(picture.min()) < 100


def fit(folder, callbacks, model=RepMetClassifier):
    torch.manual_seed(0)
    data = DrawnObjects(
        SceneClasses(train=6, val=2, test=2),
        ObjectSettings(4),
        images=ImageSettings(size=32),
        training=ClassBatch(4, 2),
        episodes=EpisodeCounts(4, 0, 0),
    )
    options = {"mixture": ClassMixture(n_modes=2)} if model is RepMetClassifier else {"n_modes": 2}
    module = model(BackboneSettings("conv4"), EmbeddingHead((), 8), **options)
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=callbacks,
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(module, datamodule=data)
    return module


@pytest.mark.parametrize("model", [RepMetClassifier, TripletClassifier])
def test_a_run_leaves_both_pictures_and_is_not_changed_by_them(model, tmp_path):
    watched = fit(tmp_path, [EmbeddingPictures(n_classes=3, moments=(0.0, 0.5, 1.0))], model)
    sizes = {path.stem: Image.open(path).size for path in (tmp_path / "pictures").glob("*.png")}
    assert set(sizes) == {"embedding", "representatives"}
    assert sizes["embedding"][0] > 2.5 * sizes["embedding"][1], "three maps side by side"
    plain = fit(tmp_path / "plain", [], model)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name


def test_only_classifiers_have_an_embedding(tmp_path):
    callback = EmbeddingPictures()
    with pytest.raises(ValueError, match="RepMetDetector"):
        callback.on_train_start(None, RepMetDetector.__new__(RepMetDetector))


@pytest.mark.parametrize("wrong", [{"n_classes": 0}, {"moments": (0.0, 1.5)}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EmbeddingPictures(**wrong)
