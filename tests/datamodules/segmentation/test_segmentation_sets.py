"""All data sets of photos with masks: the same properties for each layout."""

import pytest
import torch
from masked_sets import SETS, build, equal, every_set, maker

from datamodules.images.mismatched_support import MismatchedSupport
from datamodules.segmentation.fss1000 import FSS1000
from datamodules.segmentation.pets import OxfordPets
from lightning_fewshot.data import EpisodeCounts


def grey_of(data, episode, c):
    """Give the brightness that the makers draw a class with."""
    name = episode.classes[c]
    if isinstance(data, OxfordPets):
        order = [b.replace("_", " ") for b in ("Abyssinian", "Bengal", "american_bulldog", "pug", "Sphynx")]
        return 255 - maker.STEP * order.index(name)
    names = sorted(data.all_names()) if isinstance(data, FSS1000) else list(data.all_names())
    return 255 - maker.STEP * names.index(name)


@every_set
def test_masks_are_where_the_objects_are_drawn(roots, name):
    data = build(roots, name)
    for split in ("train", "test"):
        episode = data.episode(split, 1)
        for part in (episode.support, episode.query):
            for image, mask, label in zip(part.images, part.class_masks, part.labels, strict=True):
                grey = image.float().mean(0)
                drawn = (grey - grey_of(data, episode, int(label))).abs() < maker.STEP / 2
                inner = torch.nn.functional.max_pool2d(drawn[None].float(), 3, 1, 1)[0] > 0  # JPEG rings at edges
                found = mask == int(label) + 1
                assert found.any()
                assert (found & ~inner).sum() <= 0.1 * found.sum()
                assert (drawn & ~found & (mask != 255)).sum() <= 0.1 * found.sum()


@every_set
def test_an_episode_is_a_function_of_seed_split_and_index(roots, name):
    for split in ("train", "test"):
        first, again = (build(roots, name, color=True, mirror=True, size=32) for _ in range(2))
        again.episode(split, 1)
        assert equal(first.episode(split, 7), again.episode(split, 7))
        other = [build(roots, name, color=True, size=32, seed=4).episode(split, i) for i in (6, 7)]
        assert not all(equal(first.episode(split, i), episode) for i, episode in zip((6, 7), other, strict=True))


@every_set
def test_classes_are_disjoint_and_no_training_photo_is_tested(roots, name):
    data = build(roots, name)
    assert not set(data.catalog.split_classes["train"]) & set(data.catalog.split_classes["test"])
    held_out = any(p.evaluation_only for p in data.catalog.photos.values())
    for i in range(12):
        episode = data.episode("test", i)
        names = (*episode.support.names, *episode.query.names)
        assert len(set(names)) == len(names) == 2
        assert not set(names) & set(data.training_names)
        assert not held_out or all(data.catalog.photos[n].evaluation_only for n in names)
        assert [data.catalog.split_classes["test"][c] for c in episode.class_ids] == list(episode.classes)
        assert all(episode.classes[0] in data.catalog.photos[n].classes for n in names)


@every_set
def test_a_training_pair_shows_its_class_twice_and_novel_classes_are_background(roots, name):
    data = build(roots, name, train_shots=2)
    for i in range(4):
        episode = data.episode("train", i)
        assert len(episode.support.names) == 2 * len(episode.query.names)
        assert not set(episode.classes) & set(data.catalog.split_classes["test"])
        assert episode.class_ids == tuple(data.class_names().index(c) for c in episode.classes)
        for j, label in enumerate(episode.query.labels.tolist()):
            assert (episode.query.class_masks[j] == label + 1).any()
            for k in (2 * j, 2 * j + 1):
                assert episode.support.labels[k] == label
                assert (episode.support.class_masks[k] == label + 1).any()
                assert episode.support.names[k] != episode.query.names[j]
        values = set(
            torch.cat([m.flatten() for m in (*episode.query.class_masks, *episode.support.class_masks)]).tolist()
        )
        assert values <= {*range(len(episode.classes) + 1)}


@every_set
def test_training_visits_every_photo_once_in_a_pass(roots, name):
    data = build(roots, name, batch_size=1)
    total = len(data.pair_names)
    assert total == len(data.training_names)
    seen = sorted(data.episode("train", i).query.names[0] for i in range(total))
    assert seen == sorted(data.training_names)


@every_set
def test_conventions_differ_in_size_and_in_void(roots, name):
    paper, later = build(roots, name, size=20), build(roots, name, size=20, convention="later")
    a, b = paper.episode("test", 0), later.episode("test", 0)
    assert a.query.names == b.query.names
    assert a.query.images.shape[-2:] == a.query.class_masks.shape[-2:] == (20, 20)
    assert b.query.images.shape[-2:] == b.query.class_masks.shape[-2:] == maker.SIZE[::-1]
    assert a.support.images.shape == b.support.images.shape
    assert 255 not in a.query.class_masks
    has_void = name in ("pascal5i", "voc_sbd", "camvid", "pets", "panoptic")
    assert (255 in b.query.class_masks) == has_void
    protocols = paper.protocol("test"), later.protocol("test")
    assert [(p["convention"], p["void"], p["query_size"]) for p in protocols] == [
        ("paper", "background", 20),
        ("later", "ignore", "own"),
    ]


@every_set
def test_a_missing_root_says_what_to_download_and_where_to_put_it(tmp_path, monkeypatch, name):
    monkeypatch.delenv("FEWSHOT_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match=r"is empty\. .* (unpack|put) it so that these exist: /"):
        build(dict.fromkeys(SETS, tmp_path), name).setup("test")
    with pytest.raises(FileNotFoundError, match=r"set FEWSHOT_DATA or --data.root"):
        SETS[name][0]().setup("test")


@every_set
def test_the_control_shows_another_class_under_the_asked_ones_name(roots, name):
    plain = build(roots, name, episodes=EpisodeCounts(test=8), size=32)
    control = MismatchedSupport(build(roots, name, episodes=EpisodeCounts(test=8), size=32))
    asked = {e.support.names: e.classes for e in (plain.episode("test", i) for i in range(8))}
    if len(set(asked.values())) == 1:
        with pytest.raises(ValueError, match="mismatched support: all 8 episodes ask for"):
            control.episode("test", 0)
        return
    for i in range(8):
        own, other = plain.episode("test", i), control.episode("test", i)
        assert own.query.names == other.query.names
        assert own.classes == other.classes != asked[other.support.names]
        assert all((mask == 1).any() for mask in other.support.class_masks)
    assert control.protocol("test") == {**plain.protocol("test"), "support": "mismatched"}
