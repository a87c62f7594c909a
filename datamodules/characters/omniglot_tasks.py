"""Omniglot (Lake et al., 2015) as few-shot tasks: 5 or 20 ways, 1 or 5 shots, several queries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from datamodules.characters.drawings import SIDE, Characters
from datamodules.characters.omniglot_files import SOURCE_SIDE, open_folder, read_alphabets
from datamodules.characters.tasks import CharacterTasks


class OmniglotTasks(CharacterTasks):
    """Tasks of Omniglot's official halves: 30 alphabets to train and validate on, the characters of 20 to test on.

    Args:
        root: Folder that holds ``images_background`` and ``images_evaluation``, or their zips; None takes
            ``$FEWSHOT_DATA/omniglot``, or ``data/omniglot`` where that is not set.
        side: Side in pixels to which drawings are averaged down.
        options: See :class:`CharacterTasks`.
    """

    def __init__(self, root: str | None = None, side: int = SIDE, **options: Any) -> None:
        super().__init__(**options)
        if not 1 <= side <= SOURCE_SIDE:
            raise ValueError(f"side is {side} but must be from 1 to {SOURCE_SIDE} pixels, the size of the drawings")
        self.root = Path(root) if root else Path(os.environ.get("FEWSHOT_DATA", "data")) / "omniglot"
        self.side = side

    def background(self) -> Characters:
        """Return the 30 alphabets to train on and to hold out from."""
        return read_alphabets(open_folder(self.root, "images_background"), self.side)

    def evaluation(self) -> Characters:
        """Return the 20 alphabets to test on."""
        return read_alphabets(open_folder(self.root, "images_evaluation"), self.side)
