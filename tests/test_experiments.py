"""Every yaml in experiments/, found by glob, runs through the command of its header, on the sizes of its tiny file."""

import importlib.util
import json
import shlex
from pathlib import Path

import pytest
import yaml

from lightning_fewshot.cli import main
from lightning_fewshot.cli.run_folder import experiment_name
from lightning_fewshot.module import FewShotModule

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "experiments"
TINY = "tiny.yaml"
INIT_FROM = "--model.init_args.init_from"
EXPERIMENTS = sorted(path for path in FOLDER.rglob("*.yaml") if not path.name.endswith(TINY))
SWEEPS = [path for path in EXPERIMENTS if path.parent.name == "sweeps"]
RUNNABLE = [path for path in EXPERIMENTS if path.parent.name != "sweeps"]


def _header(path):
    lines = path.read_text().splitlines()[:3]
    assert all(line.startswith("# ") for line in lines), f"{path.name} starts with three comment lines"
    return lines


def _command(path):
    """Return the subcommand of the header, its configs, and its other arguments but for checkpoints and roots."""
    words = shlex.split(_header(path)[1].split("python -m lightning_fewshot ")[1])
    pairs = list(zip(words[1::2], words[2::2], strict=True))
    configs = [ROOT / value for key, value in pairs if key == "--config"]
    left_out = ("--config", "--ckpt_path", "--data.root", INIT_FROM)
    others = [f"{key}={value}" for key, value in pairs if key not in left_out]
    assert path in configs, f"the command of {path.name} names it"
    return words[0], configs, others


def _initial(path, run_dir):
    """Make the checkpoint that a header starts from, by the experiment that its name says; sizes may name their own."""
    words = shlex.split(_header(path)[1])
    if INIT_FROM not in words or INIT_FROM.rpartition(".")[2] in (tiny_file(path) or path).read_text():
        return []
    wanted = words[words.index(INIT_FROM) + 1].split("/")[1]
    source = next(p for p in RUNNABLE if experiment_name([str(c) for c in _command(p)[1]]) == wanted)
    run_tiny(source, run_dir, "--trainer.fast_dev_run=false", "--trainer.max_steps=1", "--test_after_fit=false")
    return [f"{INIT_FROM}={run_dir}/checkpoints/last.ckpt"]


def tiny_file(path):
    """Return the sizes that belong to a config: ``<stem>.tiny.yaml`` beside it, else the nearest ``tiny.yaml``."""
    beside = path.with_suffix(f".{TINY}")
    folders = [path.parent / path.stem, path.parent, *path.parent.parents]
    nearest = [f / TINY for f in folders if FOLDER in f.parents and (f / TINY).is_file()]
    return beside if beside.is_file() else (nearest or [None])[0]


def config_arguments(configs):
    """Return ``--config`` for each config, each followed by its tiny file."""
    files = [f for config in configs for f in (config, tiny_file(config)) if f is not None]
    return [argument for file in files for argument in ("--config", str(file))]


def _maker(name):
    spec = importlib.util.spec_from_file_location(f"make_{name}", ROOT / f"tests/data/{name}/make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A folder with every data set in its real layout, as the makers in tests/data draw them."""
    root = tmp_path_factory.mktemp("data")
    for folder in sorted((ROOT / "tests/data").iterdir()):
        maker = _maker(folder.name)
        maker.make_all(root)
    return root


def run_tiny(path, run_dir, *arguments):
    """Run the command of a config's header on tiny sizes."""
    subcommand, configs, others = _command(path)
    fixed = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.precision=32-true"]
    main([subcommand, *config_arguments(configs), *others, *fixed, *arguments, f"--run_dir={run_dir}"])
    return subcommand


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: str(path.relative_to(FOLDER)))
def test_every_experiment_runs(path, in_tmp, monkeypatch, tiny_data):
    monkeypatch.setenv("FEWSHOT_DATA", str(tiny_data))
    monkeypatch.chdir(tiny_data)
    monkeypatch.setattr(FewShotModule, "needs_training", False)  # the header's checkpoint is left out
    try:
        subcommand = run_tiny(path, in_tmp / "run", *_initial(path, in_tmp / "initial"))
    except SystemExit as error:
        if "download" in str(error.code):
            pytest.skip(str(error.code))
        raise AssertionError(error.code) from error
    if subcommand == "predict":
        assert json.loads((in_tmp / "run/predictions.json").read_text()) is not None
    else:
        metrics = json.loads((in_tmp / "run/results.json").read_text())["metrics"]
        assert metrics
        assert all(metric["n"] >= 1 for metric in metrics.values())


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_every_sweep_names_keys_that_exist(path, in_tmp, capsys, tiny_data, monkeypatch):
    """The first and the last value of every parameter are accepted by the command that the agent would run."""
    monkeypatch.setenv("FEWSHOT_DATA", str(tiny_data))
    monkeypatch.chdir(ROOT)
    _header(path)
    sweep = yaml.safe_load(path.read_text())
    words = sweep["command"]
    first = next(i for i, word in enumerate(words) if word in ("fit", "test"))
    assert words[-1] == "${args}"
    fixed = _without_checkpoint([str(word) for word in words[first:-1]])
    for end in (0, -1):
        chosen = {key: choice for key, choice in sweep["parameters"].items() if key != "ckpt_path"}
        arguments = [f"--{key}={_value(choice, end)}" for key, choice in chosen.items()]
        with pytest.raises(SystemExit) as error:
            main([*fixed, *arguments, "--print_config"])
        assert error.value.code == 0, capsys.readouterr().err


def _without_checkpoint(words):
    """Leave out the checkpoint of a run that was not made here."""
    at = words.index("--ckpt_path") if "--ckpt_path" in words else len(words)
    return words[:at] + words[at + 2 :]


def _value(choice, end):
    if "values" in choice:
        return choice["values"][end]
    return choice.get("value", choice.get(("min", "max")[end]))
