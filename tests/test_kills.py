"""One kill -9 at a random moment of a quick training; ``tests/faults/test_kills.py`` deals hundreds."""

import numpy as np
from conftest import TOY
from kills import Commands, kill_and_resume, resumed, same_training

QUICK = ["--data.num_workers=0", "--data.seconds=0.05", "--pictures.count=1", "--checkpoint.every_n_steps=1"]


def test_a_training_that_is_killed_once_ends_as_a_whole_one(tmp_path):
    commands = Commands(tmp_path, ["toy"])

    def begin(run, after):
        return commands.run(resumed(["fit", *TOY, *QUICK], run), after, begun=run)

    assert kill_and_resume(begin, tmp_path / "fit", 1, np.random.default_rng(0), same_training) >= 1
    commands.close()
