import json

import numpy as np
import pytest

from lightning_fewshot.files import write_atomically
from lightning_fewshot.sampling import (
    EpisodePlan,
    EpisodeSampler,
    episode_rng,
    read_episodes,
    write_episodes,
)

ITEMS = {f"c{c}": [f"{c}_{i}" for i in range(12)] for c in range(9)}


def _sampler(**changes):
    return EpisodeSampler(
        **({"items": ITEMS, "n_way": 4, "k_shot": 2, "n_query": 3, "seed": 5, "split": "val"} | changes)
    )


def test_an_episode_is_a_function_of_seed_split_and_number_alone():
    sampler = _sampler()
    forwards = [sampler[i] for i in range(20)]
    assert [_sampler()[i] for i in reversed(range(20))] == forwards[::-1]
    reordered = dict(reversed(ITEMS.items()))
    assert [_sampler(items=reordered)[i] for i in range(20)] == forwards, "the order of the mapping does not matter"
    for changed in ({"seed": 6}, {"split": "test"}):
        assert all(_sampler(**changed)[i] != forwards[i] for i in range(20))
    assert len(set(forwards)) == 20


def test_sizes_and_disjoint_support_and_query():
    for plan in (_sampler()[i] for i in range(50)):
        assert len(set(plan.classes)) == 4
        items = [item for rows in (plan.support, plan.query) for row in rows for item in row]
        assert len(items) == len(set(items)) == 4 * 5
        for name, support, query in zip(plan.classes, plan.support, plan.query, strict=True):
            assert (len(support), len(query)) == (2, 3)
            assert {*support, *query} <= set(ITEMS[name])


def test_classes_and_items_are_drawn_evenly():
    drawn = [_sampler(n_query=0)[i] for i in range(3000)]
    counts = np.unique([c for plan in drawn for c in plan.classes], return_counts=True)[1]
    expected, spread = 3000 * 4 / 9, np.sqrt(3000 * 4 / 9 * 5 / 9)
    assert len(counts) == 9
    assert (abs(counts - expected) < 4 * spread).all()
    first = np.unique([plan.support[0][0].split("_")[1] for plan in drawn], return_counts=True)[1]
    assert len(first) == 12
    assert (abs(first - 250) < 4 * np.sqrt(250)).all()


def test_an_item_of_two_classes_is_used_once():
    shared = [f"photo{i}" for i in range(8)]
    sampler = _sampler(items={"cat": shared, "dog": shared}, n_way=2, k_shot=1, n_query=3)
    for i in range(20):
        items = [item for rows in sampler[i][1:] for row in rows for item in row]
        assert len(items) == len(set(items)) == 8
    with pytest.raises(ValueError, match=r"class '(cat|dog)' of split 'val' has 3 items left .* 1 \+ 4 = 5 are needed"):
        _sampler(items={"cat": shared[:7], "dog": shared[:7]}, n_way=2, k_shot=1, n_query=4)[0]


@pytest.mark.parametrize("items", [ITEMS, {name: [f"photo{i}" for i in range(60)] for name in ITEMS}])
def test_the_number_of_shots_changes_no_question(items):
    one, five = (_sampler(items=items, k_shot=k) for k in (1, 5))
    for i in range(20):
        assert (one[i].classes, one[i].query) == (five[i].classes, five[i].query)
        shots = zip(one[i].support, five[i].support, strict=True)
        assert all(len(few) == 1 and len(many) == 5 for few, many in shots)


def test_a_class_that_lacks_shots_says_how_many_items_it_has():
    items = {"cat": ["a", "b", "c", "d"], "dog": ["b", "c", "d", "e"]}
    with pytest.raises(ValueError, match=r"class '(cat|dog)' of split 'val' has 2 items left .* 2 \+ 1 = 3 are needed"):
        _sampler(items=items, n_way=2, k_shot=2, n_query=1)[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_way": 10}, "n_way is 10 but split 'val' has 9 classes"),
        ({"k_shot": 10}, r"class 'c0' of split 'val' has 12 items, but k_shot \+ n_query = 10 \+ 3 = 13 are needed"),
        ({"k_shot": 0}, "n_way and k_shot must be at least 1 .* got 4, 0 and 3"),
        ({"n_query": -1}, "n_query at least 0, got 4, 2 and -1"),
    ],
)
def test_impossible_episodes_name_both_numbers(changes, message):
    with pytest.raises(ValueError, match=message):
        _sampler(**changes)


def test_streams_of_an_episode_are_independent():
    draws = {(s, i, t): episode_rng(0, s, i, t).integers(2**60) for s in "ab" for i in range(3) for t in ("", "x", "y")}
    assert len(set(draws.values())) == len(draws)


def test_a_list_of_episodes_is_read_as_it_was_written(tmp_path):
    plans = [_sampler()[i] for i in range(5)]
    plans.append(EpisodePlan(("ünï",), ((3,),), ((4, 5),)))
    write_episodes(tmp_path / "list.json", plans, seed=5, k_shot=2)
    assert read_episodes(tmp_path / "list.json") == plans


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_a_truncated_list_is_one_clear_error(tmp_path, part):
    path = tmp_path / "list.json"
    write_episodes(path, [_sampler()[i] for i in range(5)])
    text = path.read_text()
    path.write_text(text[: int(part * len(text))])
    with pytest.raises(ValueError, match=r"list\.json is truncated or not an episode list"):
        read_episodes(path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"episodes": [{"classes": []}]}', '{"episodes": 3}'])
def test_another_json_is_one_clear_error(tmp_path, text):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(ValueError, match="not an episode list"):
        read_episodes(tmp_path / "list.json")


ODD_EPISODES = {
    "a list as a name": lambda e: e["query"][0].__setitem__(0, []),
    "a class without support": lambda e: e["support"][0].clear(),
    "a class too few": lambda e: e["classes"].pop(),
    "a support row too few": lambda e: e["support"].pop(),
    "no query": lambda e: e.update(query=[]),
}


@pytest.mark.parametrize("change", ODD_EPISODES.values(), ids=ODD_EPISODES)
def test_an_episode_that_cannot_be_one_is_named(tmp_path, change):
    path = tmp_path / "list.json"
    write_episodes(path, [_sampler()[i] for i in range(3)])
    record = json.loads(path.read_text())
    change(record["episodes"][1])
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"list\.json.*episode 1"):
        read_episodes(path)


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        read_episodes(tmp_path / "none.json")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    write_atomically(tmp_path / "a.json", "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "a.json", "new \udcff")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"
