"""Two cells of every sweep run on the sizes of tests, by the command of W&B's agent, and give the sweep's metric."""

from pathlib import Path

import optuna
import pytest
from tiny_experiments import FAST, FOLDER, INIT_FROM, ROOT, SWEEPS, checkpoint, config_arguments

from lightning_fewshot.cli import main
from lightning_fewshot.cli.sweeping.command import agent_command
from lightning_fewshot.cli.sweeping.file import read_sweep
from lightning_fewshot.cli.sweeping.metric import read_metric

FIXED = [FAST, "--trainer.accelerator=cpu", "--trainer.precision=32-true", "--trainer.enable_progress_bar=false"]
FEWER = {
    "{steps: 100}": "{steps: 2}",
    "steps=100": "steps=2",
    "episodes.test=30": "episodes.test=2",
    "val_alphabets=5": "val_alphabets=1",
    "k_shot=5": "k_shot=3",  # the tiny photos have four of a class
    "k_shot=10": "k_shot=3",
    "n_way=50": "n_way=2",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a function that makes the checkpoint of a run that a sweep starts from, each once."""
    folder = tmp_path_factory.mktemp("made")
    return lambda named: str(checkpoint(named, folder / named.split("/")[1]))


def two_cells(sweep):
    """Return the first and the last cell of a grid; of a random search two that are drawn."""
    if sweep.method == "grid":
        cells = list(sweep.cells())
        return [cells[0], cells[-1]]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask() for _ in range(2)]
    return [{parameter.name: parameter.draw(trial) for parameter in sweep.parameters} for trial in trials]


def tiny_command(words, made):
    """Return the arguments of a cell's command, each config followed by its tiny file, its checkpoint made here."""
    first = next(i for i, word in enumerate(words) if word in ("fit", "test"))
    words = [part for word in words[first:] for part in _split(word)]
    arguments = [words[0]]
    for key, value in zip(words[1::2], words[2::2], strict=True):
        if key == "--config":
            arguments += config_arguments([ROOT / value])
        elif key in ("--ckpt_path", INIT_FROM):
            arguments += [f"{key}={made(value)}"]
        else:
            arguments += [f"{key}={value}"]
    for long, short in FEWER.items():
        arguments = [argument.replace(long, short) for argument in arguments]
    return arguments


def _split(word):
    key, equals, value = word.partition("=")
    return (key, value) if word.startswith("--") and equals else (word,)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_two_cells_give_the_metric(path, in_tmp, monkeypatch, tiny_data, made):
    monkeypatch.setenv("FEWSHOT_DATA", str(tiny_data))
    sweep = read_sweep(path)
    assert sweep.metric
    cells = two_cells(sweep)
    assert cells[0] != cells[1]
    for i, values in enumerate(cells):
        arguments = tiny_command(agent_command(sweep, values), made)
        split = sweep.metric.partition("/")[0]
        validated = ["--test_after_fit=false"] if split == "val" else []
        main([*arguments, *FIXED, *validated, f"--run_dir={in_tmp / str(i)}"])
        assert isinstance(read_metric(Path(str(i)), sweep.metric), float), FOLDER
