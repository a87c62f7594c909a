"""kill -9 at 20 random moments of fit, test, sweep and tracking evaluations, of one experiment a task."""

import os
import zlib

import numpy as np
import pytest
import yaml
from kills import FORKED_CELL, Commands, kill_and_resume, resumed, same_results, same_training
from makers import load
from small_experiments import TASKS, task_words

KILLS = int(os.environ.get("KILLS", 20))  # of each command
SIZES = [
    "--data.num_workers=0",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--pictures.count=1",
]
SIZES += ["--data.episodes.val=2", "--data.episodes.test=4"]
TRAINING = ["--data.episodes.train=2", "--trainer.max_epochs=2", "--checkpoint.every_n_steps=1"]
TRAINING += ["--trainer.log_every_n_steps=1"]
MODULES = ("datamodules", "timm", "torchvision.ops", "faster_coco_eval", "albumentations")

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    server = Commands(tmp_path_factory.mktemp("kills"), MODULES)
    yield server
    server.close()


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


@pytest.fixture
def rng(request):
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


def trained(commands, task):
    """Return a checkpoint of a short training; the commands that come start faster after it."""
    run = commands.folder / f"trained_{task}"
    if not (path := run / "checkpoints/best.ckpt").is_file():
        commands.run_first(["fit", *task_words(task), *SIZES, *TRAINING, "--run_dir", run])
    return path


def test_fit(commands, task, rng):
    trained(commands, task)
    command = ["fit", *task_words(task), *SIZES, *TRAINING]

    def begin(run, after):
        return commands.run(resumed(command, run), after, begun=run)

    assert kill_and_resume(begin, commands.folder / f"fit_{task}", KILLS, rng, same_training) >= 1


def test_test(commands, task, rng):
    command = ["test", *task_words(task), *SIZES, "--ckpt_path", trained(commands, task)]

    def begin(run, after):
        return commands.run([*command, "--run_dir", run], after, begun=run)

    assert kill_and_resume(begin, commands.folder / f"test_{task}", KILLS, rng, same_results) >= 1


def test_tracking_of_a_supervised_evaluation(commands, rng):
    load("videos").make_vot(commands.folder)
    vot = f"{{class_path: datamodules.VOT, init_args: {{root: {commands.folder / 'VOT'}, num_workers: 0}}}}"
    command = ["test", *task_words("tracking"), *SIZES, f"--data.test={vot}"]
    command += ["--ckpt_path", trained(commands, "tracking")]

    def begin(run, after):
        return commands.run([*command, "--run_dir", run], after, begun=run)

    assert kill_and_resume(begin, commands.folder / "test_supervised", KILLS, rng, same_results) >= 1


def test_sweep(commands, task, rng):
    """Half of the kills end the sweep alone: the cell that it has started must not meet the one that is resumed."""
    trained(commands, task)
    words = ["fit", *task_words(task), *SIZES, *TRAINING, "--trainer.max_epochs=1"]
    sweep = {
        "method": "grid",
        "command": ["${env}", "${interpreter}", str(FORKED_CELL), *words, "${args}"],
        "parameters": {"seed_everything": {"values": [0, 1]}},
    }
    folder = commands.folder / f"sweep_{task}"
    folder.mkdir()
    (folder / "s.yaml").write_text(yaml.safe_dump(sweep))

    def begin(run, after):
        args = ["sweep", folder / "s.yaml", "--runs", run, "--study", run / "study.db"]
        return commands.run(args, after, group=bool(rng.integers(2)))

    def compare(run, whole):
        for seed in (0, 1):
            same_training(run / f"seed_everything={seed}", whole / f"seed_everything={seed}")

    assert kill_and_resume(begin, folder, KILLS, rng, compare) >= 1
