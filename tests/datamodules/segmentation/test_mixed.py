"""Several sets of masked photos as one; photos of other folds in training."""

import pytest
import torch
from masked_sets import build, equal

from datamodules.segmentation.mixed import MixedSegmentation
from lightning_fewshot.data import EpisodeCounts


def mixed(roots, shares=None, **options):
    first = build(roots, "pascal5i", size=32, episodes=EpisodeCounts(40, 3, 6), **options)
    return MixedSegmentation([first, build(roots, "pets", size=32)], shares)


def test_training_batches_come_from_each_source_by_its_share(roots):
    data = mixed(roots, shares=[3.0, 1.0])
    data.setup("fit")
    first, second = data.sources
    for i in range(40):
        episode = data.episode("train", i)
        source, before = (
            (first, 0) if max(episode.class_ids) < len(first.class_names()) else (second, len(first.class_names()))
        )
        assert equal(episode, source.episode("train", i))
        assert episode.classes == tuple(source.class_names()[c - before] for c in episode.class_ids)
    chosen = torch.tensor([max(data.episode("train", i).class_ids) < len(first.class_names()) for i in range(400)])
    assert 0.68 < chosen.float().mean() < 0.82
    names = data.class_names()
    assert len(set(names)) == len(names) == len(first.class_names()) + len(second.class_names())


def test_evaluation_is_the_first_sources(roots):
    data, alone = mixed(roots), build(roots, "pascal5i", size=32, episodes=EpisodeCounts(40, 3, 6))
    data.setup("test")
    assert data.counts["test"] == 6
    for i in range(6):
        assert equal(data.episode("test", i), alone.episode("test", i))
    assert data.protocol("test")["sources"] == ["Pascal5i", "OxfordPets"]


def test_a_class_that_is_evaluated_is_not_trained_on_under_any_name(roots):
    first, second = (build(roots, "pascal5i", size=32, fold=fold) for fold in (0, 1))
    alone = set(second.class_names())
    evaluated = set(first.catalog.split_classes["test"])
    assert evaluated & alone
    again, other = build(roots, "pascal5i", size=32, fold=1), sorted(alone - evaluated)[0]
    data = MixedSegmentation([first, again], same={other: sorted(evaluated)[0], "unknown too": "unknown"})
    data.setup("fit")
    assert set(again.class_names()) == alone - evaluated - {other}
    assert all(evaluated.isdisjoint(data.episode("train", i).classes) for i in range(20))


def test_names_of_the_same_class_the_wrong_way_round_are_refused(roots):
    first, second = (build(roots, "pascal5i", size=32, fold=fold) for fold in (0, 1))
    name = sorted(first.catalog.split_classes["test"])[0]
    with pytest.raises(ValueError, match=f"same: {name}: other begins with a class that the first source evaluates"):
        MixedSegmentation([first, second], same={name: "other"}).setup("fit")


@pytest.mark.parametrize("shares", [[1.0], [1.0, -1.0], [0.0, 0.0]])
def test_shares_must_fit_the_sources(roots, shares):
    with pytest.raises(ValueError, match=r"shares is .* for each of 2 sources"):
        mixed(roots, shares)
    with pytest.raises(ValueError, match="sources is empty"):
        MixedSegmentation([])


def test_spare_photos_train_and_none_that_shows_an_evaluated_class(roots):
    plain = build(roots, "pascal5i", size=32, val_classes=1)
    more = build(roots, "pascal5i", size=32, val_classes=1, train_on_spare=True)
    assert set(plain.training_names) < set(more.training_names)
    splits = more.catalog.split_classes
    added = [more.catalog.photos[name] for name in set(more.training_names) - set(plain.training_names)]
    assert all(photo.evaluation_only for photo in added)
    assert all(set(photo.classes).isdisjoint({*splits["val"], *splits["test"]}) for photo in added)
    for split in ("val", "test"):
        assert more.items(split) == plain.items(split)
