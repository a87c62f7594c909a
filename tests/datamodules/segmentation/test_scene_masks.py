"""Drawn scenes with class masks: what is asked for is there, and nothing else is labelled."""

import pytest
import torch

from datamodules.images.mismatched_support import MismatchedSupport
from datamodules.segmentation.scene_masks import SceneMasks
from datamodules.world.scenes import SceneClasses, SceneSettings
from datamodules.world.sprite import Variation
from lightning_fewshot.data import EpisodeCounts


def scenes(variation=Variation(), **options):
    scene = SceneSettings(image_size=64, max_objects=3, variation=variation)
    return SceneMasks(scene, batch_size=3, classes=SceneClasses(8, 5, 6, 4), num_workers=0, **options)


def equal(a, b):
    parts = [(a.support, b.support), (a.query, b.query)]
    return all(torch.equal(p.images, q.images) and torch.equal(p.class_masks, q.class_masks) for p, q in parts)


def test_an_episode_is_a_function_of_seed_split_and_index():
    data, again = scenes(k_shot=2), scenes(k_shot=2)
    for split in ("train", "val", "test"):
        again.episode(split, 1)
        assert equal(data.episode(split, 5), again.episode(split, 5))
        assert not equal(data.episode(split, 5), scenes(k_shot=2, seed=1).episode(split, 5))


def test_a_pair_shows_its_class_in_support_and_query():
    data = scenes(k_shot=5)
    for i in range(20):
        episode = data.episode("test", i)
        assert episode.support.images.shape == (5, 3, 64, 64)
        assert (episode.support.class_masks == 1).flatten(1).any(1).all()
        assert (episode.query.class_masks == 1).any()
        assert set(torch.cat([episode.support.class_masks, episode.query.class_masks]).unique().tolist()) <= {0, 1}
        assert episode.query.labels.tolist() == [0]
        assert episode.classes == (data.classes["test"][episode.class_ids[0]].name,)


def test_instances_vary_as_they_are_told_to():
    plain, varied = scenes(variation=Variation(repaint=0.0)), scenes(variation=Variation(repaint=1.0))
    for split in ("train", "test"):
        assert not equal(plain.episode(split, 0), varied.episode(split, 0))


def test_a_training_batch_labels_all_its_objects_by_their_classes():
    data = scenes()
    several = 0
    for i in range(10):
        episode = data.episode("train", i)
        assert episode.protocol == "pairs"
        assert episode.support.query_index.tolist() == [0, 1, 2]
        names = [data.classes["train"][c].name for c in episode.class_ids]
        assert list(episode.classes) == names
        for part in (episode.support, episode.query):
            for mask, label in zip(part.class_masks, part.labels.tolist(), strict=True):
                values = set(mask.unique().tolist()) - {0}
                assert label + 1 in values
                assert values <= set(range(1, len(names) + 1))
                several += len(values) > 1
    assert several > 10


def test_several_ways_are_asked_in_one_query():
    episode = scenes(n_way=3, n_query=2, k_shot=2).episode("test", 0)
    assert episode.query.labels is None
    assert episode.support.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for mask, label in zip(episode.support.class_masks, episode.support.labels.tolist(), strict=True):
        assert set(mask.unique().tolist()) == {0, label + 1}


def test_too_many_ways_name_both_numbers():
    with pytest.raises(ValueError, match="n_way is 9 but split 'val' has 5 classes"):
        scenes(n_way=9).setup("fit")


def test_the_control_shows_the_support_of_another_class_to_the_same_query():
    plain = scenes(episodes=EpisodeCounts(test=9))
    control = MismatchedSupport(scenes(episodes=EpisodeCounts(test=9)))
    control.setup("test")
    shown = [plain.episode("test", i) for i in range(9)]
    for i in range(9):
        other = control.episode("test", i)
        assert torch.equal(other.query.images, shown[i].query.images)
        assert other.classes == shown[i].classes
        (source,) = [e for e in shown if torch.equal(e.support.images, other.support.images)]
        assert source.class_ids != shown[i].class_ids
    assert equal(plain.episode("train", 3), control.episode("train", 3))
    assert control.protocol("test") == {**plain.protocol("test"), "support": "mismatched"}
    assert control.class_names() == plain.class_names()
    with pytest.raises(ValueError, match="mismatched support: all 1 episodes ask for"):
        MismatchedSupport(scenes(episodes=EpisodeCounts(test=1))).episode("test", 0)


def test_with_several_ways_no_class_of_the_control_is_asked_for():
    plain, control = scenes(n_way=2), MismatchedSupport(scenes(n_way=2))
    for i in range(5):
        other = control.episode("test", i)
        sources = [plain.episode("test", i + step) for step in range(1, 40)]
        (source,) = [e for e in sources if torch.equal(e.support.images, other.support.images)]
        assert not set(source.class_ids) & set(plain.episode("test", i).class_ids)


def test_the_number_of_shots_changes_no_question():
    one, five = (scenes(k_shot=k).episode("test", 3) for k in (1, 5))
    assert one.classes == five.classes
    assert torch.equal(one.query.images, five.query.images)
    assert torch.equal(one.query.class_masks, five.query.class_masks)
    assert len(five.support.images) == 5
