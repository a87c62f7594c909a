"""Tasks of characters: ways, shots and queries, over all characters or within an alphabet."""

import pytest
import torch

from datamodules import DrawnAlphabetTasks
from datamodules.characters.drawn_alphabets import AlphabetSettings, draw_background
from datamodules.characters.tasks import TrainingTask

ALPHABETS = AlphabetSettings(background=4, evaluation=3, fewest=5, most=6, drawers=6)


def make_data(**options):
    chosen = {"training": TrainingTask(6, 2, 2), "val_alphabets": 1, "n_way": 5, "k_shot": 2, "n_query": 3}
    return DrawnAlphabetTasks(ALPHABETS, **(chosen | options))


@pytest.mark.parametrize("within", [True, False])
def test_a_task_has_ways_shots_and_queries(within):
    data = make_data(within_alphabet=within)
    episode = data.episode("test", 0)
    assert episode.support.images.shape == (10, 1, 28, 28)
    assert episode.query.labels.tolist() == [c for c in range(5) for _ in range(3)]
    assert episode.support.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert not set(episode.support.names) & set(episode.query.names)
    for part in (episode.support, episode.query):
        shown = [name.rpartition("/")[0] for name in part.names]
        assert shown == [episode.classes[label] for label in part.labels.tolist()]
    alphabets = {name.partition("/")[0] for i in range(20) for name in data.episode("test", i).classes[:1]}
    assert len(alphabets) > 1


def test_within_an_alphabet_all_characters_are_of_one():
    data = make_data(within_alphabet=True)
    for index in range(10):
        assert len({name.partition("/")[0] for name in data.episode("test", index).classes}) == 1


def test_over_all_characters_alphabets_mix():
    data = make_data()
    assert any(len({name.partition("/")[0] for name in data.episode("test", i).classes}) > 1 for i in range(5))


def test_k_shot_does_not_change_the_questions():
    one, three = make_data(k_shot=1).episode("test", 4), make_data(k_shot=3).episode("test", 4)
    assert one.query.names == three.query.names
    assert one.support.names[0] == three.support.names[0]


def test_an_episode_is_a_function_of_its_index():
    first, second = make_data(), make_data()
    first.episode("test", 0)
    assert torch.equal(first.episode("test", 7).query.images, second.episode("test", 7).query.images)
    assert torch.equal(first.episode("train", 7).query.images, second.episode("train", 7).query.images)


def test_quarter_turns_are_further_training_characters():
    data = make_data()
    assert any("@90" in name for name in data.class_names())
    assert len(data.characters("train").drawings) % 4 == 0
    assert not any("@" in name for name in data.characters("test").names)


def test_alphabets_of_train_val_and_test_differ():
    data = make_data()
    parts = [{a.partition("@")[0] for a in data.characters(split).alphabets} for split in ("train", "val", "test")]
    assert len(set.union(*parts)) == sum(map(len, parts))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k_shot": 4}, r"character 'alphabet04/character01' of split 'test' has 6 drawings, .* 4 \+ 3 = 7"),
        ({"n_way": 7, "within_alphabet": True}, "but 7 are needed"),
        ({"n_way": 40}, r"n_way is 40 but split 'test' has \d+ characters"),
    ],
)
def test_what_is_too_small_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_data(**options).setup("test")


class SmallValidationAlphabets(DrawnAlphabetTasks):
    """The background alphabets have fewer characters than the tasks that are tested."""

    def background(self):
        return draw_background(AlphabetSettings(background=4, evaluation=1, fewest=3, most=4, drawers=6))


def test_small_validation_alphabets_do_not_stop_a_test_within_alphabets():
    data = SmallValidationAlphabets(
        ALPHABETS, within_alphabet=True, training=TrainingTask(6, 2, 2), val_alphabets=1, n_way=5, n_query=3
    )
    data.setup("test")
    assert data.class_names()
    assert data.episode("test", 0).support.images.shape == (5, 1, 28, 28)
    with pytest.raises(ValueError, match=r"n_way is 5 but split 'val' has . characters"):
        data.setup("fit")


def test_all_alphabets_held_out():
    with pytest.raises(ValueError, match="val_alphabets is 4 but the background set has 4"):
        make_data(val_alphabets=4).setup("fit")


@pytest.mark.parametrize("name", ["n_way", "k_shot", "n_query"])
def test_training_task_is_checked(name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        TrainingTask(**{name: 0})
