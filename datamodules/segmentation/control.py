"""A control for one-shot methods: the same questions, asked with the support of another class."""

from __future__ import annotations

from collections.abc import Callable

from lightning_fewshot.episodes import Episode


def with_other_support(task: Callable[[int], Episode], index: int, count: int) -> Episode:
    """Return one-way episode ``index`` with the support of the next episode that asks for another class.

    What a method still finds, it finds without its support.

    Args:
        task: Makes an episode from its number.
        index: Of the episode.
        count: Episodes there are; after the last comes the first.

    Raises:
        ValueError: All episodes ask for the same class.
    """
    episode = task(index)
    for step in range(1, count):
        other = task((index + step) % count)
        if other.class_ids != episode.class_ids:
            return episode._replace(support=other.support)
    raise ValueError(f"other_support: all {count} episodes ask for {episode.classes[0]!r}, so no support shows another")


def check_one_way(other_support: bool, n_way: int) -> None:
    """Refuse the control where an episode has several classes.

    Raises:
        ValueError: ``n_way`` is not 1.
    """
    if other_support and n_way != 1:
        raise ValueError(f"other_support needs one class an episode, but n_way is {n_way}")
