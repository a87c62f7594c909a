"""The sampler of PASCAL-5i (OSLSM, section 5): every entry (photo, class) is asked once in a pass."""

from __future__ import annotations

from lightning_fewshot.sampling import EpisodePlan, EpisodeSampler


class EntrySampler(EpisodeSampler):
    """One-way episodes: walk through all entries (item, class) in random order; the shots are other items of the class.

    Each pass uses every entry once as query, so that classes count by their items (OSLSM, section 5).
    """

    def __getitem__(self, index: int) -> EpisodePlan:
        """Return the plan of episode ``index``."""
        entries = [(name, item) for name in self.names for item in self.items[name]]
        turn, place = divmod(index, len(entries))
        name, query = entries[self._rng(turn, "order").permutation(len(entries))[place]]
        others = [item for item in self.items[name] if item != query]
        drawn = self._rng(index, "shots").choice(len(others), self.k_shot, replace=False)
        return EpisodePlan((name,), (tuple(others[i] for i in drawn),), ((query,),))
