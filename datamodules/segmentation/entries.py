"""The sampler of PASCAL-5i (OSLSM, section 5): every entry (photo, class) is asked once in a pass."""

from __future__ import annotations

from functools import cached_property
from itertools import combinations, islice
from math import comb

from lightning_fewshot.sampling import EpisodePlan, EpisodeSampler

LISTED = 1000  # supports of an entry that are written down; of more, single ones are drawn


class EntrySampler(EpisodeSampler):
    """One-way episodes: walk through all entries (item, class) in random order; the shots are other items of the class.

    Each pass uses every entry once as query, so that classes count by their items (OSLSM, section 5). No entry gets the
    same support twice: an entry that has had all of them is left out of later passes, and the list ends with the last.
    """

    def __len__(self) -> int:
        """Return how many distinct pairs of an entry and a support there are."""
        return sum(self._supports)

    def __getitem__(self, index: int) -> EpisodePlan:
        """Return the plan of episode ``index``.

        Raises:
            IndexError: There are fewer distinct pairs.
        """
        if index >= len(self):
            raise IndexError(f"episode {index} of split {self.split!r}: there are {len(self)} distinct pairs")
        turn, left = 0, list(range(len(self._entries)))
        while index >= len(left):
            index, turn = index - len(left), turn + 1
            left = [entry for entry in left if self._supports[entry] > turn]
        entry = left[self._rng(turn, "order").permutation(len(left))[index]]
        name, query = self._entries[entry]
        return EpisodePlan((name,), (self._support(entry, turn),), ((query,),))

    def _support(self, entry: int, turn: int) -> tuple[str, ...]:
        """Return the support of an entry in a pass, another one in each."""
        name, query = self._entries[entry]
        others = [item for item in self.items[name] if item != query]
        rng = self._rng(entry, "shots")
        if self._supports[entry] <= LISTED:
            listed = combinations(rng.permutation(len(others)).tolist(), self.k_shot)
            chosen = next(islice(listed, int(rng.permutation(self._supports[entry])[turn]), None))
            return tuple(others[i] for i in chosen)
        drawn: dict[frozenset[int], tuple[int, ...]] = {}
        while len(drawn) <= turn:
            shots = tuple(rng.choice(len(others), self.k_shot, replace=False).tolist())
            drawn.setdefault(frozenset(shots), shots)
        return tuple(others[i] for i in list(drawn.values())[turn])

    @cached_property
    def _entries(self) -> list[tuple[str, str]]:
        return [(name, item) for name in self.names for item in self.items[name]]

    @cached_property
    def _supports(self) -> list[int]:
        """How many supports each entry can have."""
        return [comb(len(self.items[name]) - 1, self.k_shot) for name, _ in self._entries]
