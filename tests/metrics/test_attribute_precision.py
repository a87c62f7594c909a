"""Attribute precision against plain loops, and what it says of embeddings that are known."""

import numpy as np
import pytest
import torch

from lightning_fewshot.metrics.attribute_precision import attribute_precision, attribute_table


def by_loops(points, attributes, size):
    shares = []
    for i, row in enumerate(attributes):
        order = np.argsort(np.linalg.norm(points - points[i], axis=1))
        neighbours = [j for j in order if j != i][:size]
        shares += [np.mean([attributes[j][a] for j in neighbours]) for a in np.flatnonzero(row)]
    return np.mean(shares)


def test_against_plain_loops():
    rng = np.random.default_rng(0)
    points, attributes = rng.normal(size=(30, 4)), rng.random((30, 5)) < 0.4
    ours = attribute_precision(torch.from_numpy(points), torch.from_numpy(attributes), (1, 5, 29))
    assert ours.tolist() == pytest.approx([by_loops(points, attributes, size) for size in (1, 5, 29)])


def test_an_embedding_that_is_the_attribute_is_perfect():
    has = torch.tensor([True] * 6 + [False] * 6)
    points = has[:, None].double() + 0.01 * torch.rand(12, 1, generator=torch.Generator().manual_seed(0))
    assert attribute_precision(points, has[:, None], (1, 5)).tolist() == [1.0, 1.0]


def test_all_other_images_as_neighbours_give_the_share_of_the_attribute():
    has = torch.tensor([[True], [True], [True], [False], [False]])
    assert float(attribute_precision(torch.rand(5, 3), has, (4,))) == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    ("attributes", "sizes", "message"), [([[True]] * 3, (3,), "3 images"), ([[False]] * 3, (1,), "none of the 3")]
)
def test_what_cannot_be_measured_is_named(attributes, sizes, message):
    with pytest.raises(ValueError, match=message):
        attribute_precision(torch.rand(3, 2), torch.tensor(attributes), sizes)


def test_a_table_of_attributes():
    names, table = attribute_table([{"round"}, {"red", "round"}, set()])
    assert names == ("red", "round")
    assert table.tolist() == [[False, True], [True, True], [False, False]]
