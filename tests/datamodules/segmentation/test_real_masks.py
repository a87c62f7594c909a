"""Photos with masks on real data."""

import os
from pathlib import Path

import pytest

from datamodules.segmentation.camvid import CamVid
from datamodules.segmentation.coco_panoptic import CocoPanoptic
from datamodules.segmentation.pascal5i import NAMES, Pascal5i, read_entries
from datamodules.segmentation.pets import OxfordPets
from datamodules.segmentation.settings import FoldSplits, MaskedImages


@pytest.mark.real_data
def test_published_lists_of_pascal5i_have_their_counts():
    for part, expected in (("trn", (2286, 3425, 5883, 2086)), ("val", (346, 451, 725, 346))):
        for fold, count in enumerate(expected):
            data = Pascal5i(splits=FoldSplits(fold=fold))
            entries = read_entries(data.listed / f"splits/{part}/fold{fold}.txt")
            assert len(entries) == count
            assert {NAMES[label - 1] for _, label in entries} == set(NAMES[5 * fold : 5 * fold + 5])
    test = Pascal5i(splits=FoldSplits(fold=1)).items("test")
    assert sum(map(len, test.values())) == 451
    assert set(test) == set(NAMES[5:10])


@pytest.mark.real_data
@pytest.mark.parametrize("fold", range(4))
def test_real_masks_of_pascal5i_show_their_class_and_void(fold):
    data = Pascal5i(splits=FoldSplits(fold=fold))
    void = 0
    for name, photos in data.items("test").items():
        for photo in (data.catalog.photos[n] for n in photos[:20]):
            labels = data.read_mask(photo)
            assert (labels == 1 + NAMES.index(name)).sum() >= 1000
            void += (labels == -1).sum()
    assert void > 0
    assert not set(data.training_names) & {n for n, p in data.catalog.photos.items() if p.evaluation_only}


@pytest.mark.real_data
@pytest.mark.parametrize("fold", range(1, 4))
@pytest.mark.filterwarnings("ignore:skipped")
def test_photos_of_pascal5is_animals_are_read(fold):
    animals = {1: ("cat", "chair", "cow"), 2: ("dog", "horse", "person"), 3: ("sheep", "sofa")}
    root = Path(os.environ["FEWSHOT_DATA"]) / "pascal5i-animals"
    data = Pascal5i(str(root), splits=FoldSplits(fold=fold), images=MaskedImages(size=240))
    data.setup("fit")
    data.setup("test")
    assert data.catalog.split_classes["test"] == animals[fold]
    for split in ("train", "test"):
        episode = data.episode(split, 0)
        for part in (episode.support, episode.query):
            for mask, label in zip(part.class_masks, part.labels.tolist(), strict=True):
                assert (mask == 1 + label).any()


@pytest.mark.real_data
def test_a_fold_without_photos_is_named():
    root = Path(os.environ["FEWSHOT_DATA"]) / "pascal5i-animals"
    with pytest.raises(
        ValueError, match=r"fold is 0 but no photo here shows aeroplane, .*folds with photos are 1, 2, 3"
    ):
        Pascal5i(str(root)).setup("test")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("make", "classes"),
    [
        (lambda: CamVid(images=MaskedImages(size=240)), 3),
        (lambda: OxfordPets(images=MaskedImages(size=240), splits=FoldSplits(("all",))), 3),
        (lambda: CocoPanoptic(images=MaskedImages(size=240), splits=FoldSplits(small_classes="drop")), 20),
    ],
    ids=["camvid", "pets", "panoptic"],
)
@pytest.mark.filterwarnings("ignore:skipped")
def test_real_photos_and_masks_are_read(make, classes):
    data = make()
    data.setup("test")
    assert len(data.sampler("test").names) >= classes
    for i in range(5):
        episode = data.episode("test", i)
        assert (episode.query.class_masks == 1).any()
        assert (episode.support.class_masks == 1).any()
