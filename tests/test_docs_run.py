"""The ``fit`` and ``test`` commands of the documents run: one batch each, on tiny data in the real layouts.

tests/test_docs.py parses all commands as they are written. Here sizes are those of the tiny files, roots those of the
tests, and nothing starts from a checkpoint unless it must. ``predict`` and the other commands run in their own tests.
"""

import json

import pytest
from test_docs import ROOT, commands
from tiny_experiments import FAST, STRATEGIES, tiny_file

from lightning_fewshot.cli import main

PLACES = ("--ckpt_path", "--run_dir", "--data.root", "--model.init_from", "--model.init_args.init_from")
SIZES = ("--data.episodes", "--data.k_shot", "--data.n_", "--data.side", "--data.images.", "--data.splits.val_classes")
SIZES += ("--data.val_alphabets", "--data.sources", "--trainer.")
FIXED = (FAST, "--trainer.accelerator=cpu", "--trainer.precision=32-true")


def runs():
    """Return the arguments of every kind of ``fit`` and ``test`` whose configs name a model."""
    found = [words for words in commands() if words[0] in ("fit", "test") and any(map(names_a_model, words))]
    apart = {str(path.relative_to(ROOT)) for path in STRATEGIES}
    return [words for words in found if not apart.intersection(words) and "--estimate" not in words]


def names_a_model(word):
    """Say whether a word is a config of an experiment, not of data alone."""
    return word.endswith(".yaml") and "experiments/data/" not in word


def tiny(words):
    """Return a command with tiny sizes: what it says of places and sizes is left out, every other option is kept."""
    made = [words[0]]
    for key, value in zip(words[1::2], words[2::2], strict=True):
        if key == "--config":
            beside = (ROOT / value).with_suffix(".tiny.yaml")
            first = "--config" not in made
            sizes = tiny_file(ROOT / value) if first else beside if beside.is_file() else None
            made += [argument for file in (ROOT / value, sizes) if file for argument in (key, str(file))]
        elif key not in PLACES and not key.startswith(SIZES):
            made.append(f"{key}={value}")
    if "--data.data" in words:  # other data below a wrapper have no tiny file
        made += ["--data.data.rules.min_pixels=1", "--data.data.n_query=1"]
    return [*made, *FIXED]


def detector(words, run_dir):
    """Train the plain detector that an external embedding stands on, for a step; return the option that names it."""
    if not any(word.endswith("/dml_external.yaml") for word in words):
        return []
    plain = [word.replace("dml_external", "finetune") for word in words]
    one_step = ["--trainer.fast_dev_run=false", "--trainer.max_steps=1", "--test_after_fit=false"]
    main([*tiny(plain), *one_step, f"--run_dir={run_dir}"])
    return [f"--model.init_args.init_from={run_dir}/checkpoints/last.ckpt"]


@pytest.mark.slow
@pytest.mark.every_experiment
@pytest.mark.parametrize("words", runs(), ids=lambda words: " ".join(words)[:80])
def test_a_command_of_the_documents_runs(words, in_tmp, monkeypatch, tiny_data):
    monkeypatch.setenv("FEWSHOT_DATA", str(tiny_data))
    monkeypatch.chdir(tiny_data)
    try:
        main([*tiny(words), *detector(words, in_tmp / "plain"), f"--run_dir={in_tmp / 'run'}"])
    except SystemExit as error:
        if "download" in str(error.code):
            pytest.skip(str(error.code))
        raise AssertionError(error.code) from error
    metrics = json.loads((in_tmp / "run/results.json").read_text())["metrics"]
    assert metrics
