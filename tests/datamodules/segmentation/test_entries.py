"""No pair of a question and a support is drawn twice."""

import pytest

from datamodules.segmentation import entries
from datamodules.segmentation.entries import EntrySampler

ITEMS = {"cat": [f"c{i}" for i in range(5)], "dog": ["d0", "d1", "c0"]}


@pytest.mark.parametrize("listed", [1000, 0])
@pytest.mark.parametrize("k_shot", [1, 2])
def test_all_distinct_pairs_are_drawn_once(monkeypatch, listed, k_shot):
    monkeypatch.setattr(entries, "LISTED", listed)
    sampler = EntrySampler(ITEMS, 1, k_shot, 1, seed=0, split="test")
    plans = [sampler[i] for i in range(len(sampler))]
    assert len(sampler) == {1: 5 * 4 + 3 * 2, 2: 5 * 6 + 3 * 1}[k_shot]
    assert len({(p.classes, p.query, frozenset(p.support[0])) for p in plans}) == len(plans)
    assert [len({(p.classes, p.query) for p in plans[i : i + 8]}) for i in (0,)] == [8]
    with pytest.raises(IndexError, match=f"there are {len(plans)} distinct pairs"):
        sampler[len(plans)]


def test_the_questions_do_not_depend_on_the_shots():
    one, two = (EntrySampler(ITEMS, 1, k, 1, seed=0, split="test") for k in (1, 2))
    assert [one[i].query for i in range(8)] == [two[i].query for i in range(8)]
