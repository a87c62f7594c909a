"""What training sees of photos with masks: untrained classes, parts of photos, and the walk over all."""

import numpy as np
import pytest
import torch
from masked_sets import build, equal

from datamodules.images.augmentation import random_part
from datamodules.segmentation import masked_photo


@pytest.mark.parametrize("name", ["camvid", "panoptic"])
def test_untrained_classes_may_be_void_in_training(roots, name):
    plain, void = build(roots, name), build(roots, name, untrained="void")
    novel = [1 + list(plain.all_names()).index(c) for c in plain.catalog.split_classes["test"]]
    left_out = 0
    for i in range(len(plain.pair_names)):
        a, b = plain.episode("train", i), void.episode("train", i)
        for mask, own, photo in zip(a.query.class_masks, b.query.class_masks, a.query.names, strict=True):
            is_novel = torch.from_numpy(np.isin(plain.read_mask(plain.catalog.photos[photo]), novel))
            assert (mask[is_novel] == 0).all()
            assert torch.equal(own, mask.masked_fill(is_novel, 255))
            left_out += int(is_novel.sum())
    assert left_out
    assert equal(plain.episode("test", 0), void.episode("test", 0))


def test_a_random_part_is_as_large_as_asked_and_shows_the_class_about_as_much():
    rng, labels = np.random.default_rng(0), np.zeros((40, 60), np.int16)
    labels[5:15, 40:60] = 3
    image = np.repeat(np.arange(2400).reshape(40, 60, 1), 3, 2)
    sizes = []
    for _ in range(200):
        part, found = random_part(image, labels, 3, 0.5, rng)
        assert part.shape == (*found.shape, 3)
        assert np.array_equal(found, labels.reshape(-1)[part[..., 0]])  # image and labels are cut alike
        assert 2 * (found == 3).mean() >= (labels == 3).mean()
        sizes.append(found.shape[0])
    assert min(sizes) >= 20
    assert len(set(sizes)) > 10
    whole = random_part(image, np.zeros_like(labels), 3, 0.5, rng)[1]
    assert whole.shape == labels.shape  # no part shows the class


def test_cropped_pairs_show_their_class_and_come_again(roots):
    data, again = (build(roots, "panoptic", size=48, crop=0.5) for _ in range(2))
    for i in range(4):
        episode = data.episode("train", i)
        assert equal(episode, again.episode("train", i))
        for part in (episode.query, episode.support):
            assert part.images.shape[1:] == (3, 48, 48)
            assert all((m == 1 + c).any() for m, c in zip(part.class_masks, part.labels, strict=True))
    assert not equal(data.episode("train", 0), build(roots, "panoptic", size=48).episode("train", 0))


def test_scaled_photos_are_decoded_once_while_there_is_room(roots, monkeypatch):
    decoded, read = [], masked_photo.read_image
    monkeypatch.setattr(masked_photo, "read_image", lambda path: decoded.append(path) or read(path))
    options = {"size": 48, "mirror": True, "color": True}
    data = build(roots, "pascal5i", **options)
    first = [data.episode("train", i) for i in range(8)]
    assert len(decoded) == len(set(decoded))
    monkeypatch.setattr(masked_photo, "KEPT", 0)
    decoded.clear()
    unkept = build(roots, "pascal5i", **options)
    assert all(equal(a, unkept.episode("train", i)) for i, a in enumerate(first))
    assert len(decoded) == 8 * 6


def test_photos_of_a_class_too_small_for_a_pair_are_left_out_of_the_walk(roots):
    data = build(roots, "pets", batch_size=1, novel_classes=["pug"])
    spare = [n for n, p in data.catalog.photos.items() if p.classes == ("Bengal",)][1:]
    data.catalog.photos = {n: p for n, p in data.catalog.photos.items() if n not in spare}
    with pytest.warns(UserWarning, match="skipped .* training classes"):
        total = len(data.pair_names)
    assert total == len(data.training_names) - 1
    for turn in range(2):
        seen = [data.episode("train", turn * total + i).query.names[0] for i in range(total)]
        assert sorted(seen) == sorted(data.pair_names)
