"""The experiments of the project on the sizes of their tiny files: their commands, and their data as tests draw it."""

import importlib.util
import shlex
from pathlib import Path

from lightning_fewshot.cli import main
from lightning_fewshot.cli.run_folder import experiment_name

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments"
TINY = "tiny.yaml"
INIT_FROM = "--model.init_args.init_from"
EXPERIMENTS = sorted(path for path in FOLDER.rglob("*.yaml") if not path.name.endswith(TINY))
SWEEPS = [path for path in EXPERIMENTS if path.parent.name == "sweeps"]
STRATEGIES = [path for path in EXPERIMENTS if path.parent.name == "strategies"]  # of machines with several GPUs
RUNNABLE = [path for path in EXPERIMENTS if path not in SWEEPS + STRATEGIES]
FAST = "--trainer.fast_dev_run=true"


def header(path):
    """Return the three comment lines that a yaml starts with."""
    lines = path.read_text().splitlines()[:3]
    assert all(line.startswith("# ") for line in lines), f"{path.name} starts with three comment lines"
    return lines


def command(path):
    """Return the subcommand of the header, its configs, and its other arguments but for checkpoints and roots."""
    words = shlex.split(header(path)[1].split("python -m lightning_fewshot ")[1])
    pairs = list(zip(words[1::2], words[2::2], strict=True))
    configs = [ROOT / value for key, value in pairs if key == "--config"]
    left_out = ("--config", "--ckpt_path", "--data.root", INIT_FROM)
    others = [f"{key}={value}" for key, value in pairs if key not in left_out]
    assert path in configs, f"the command of {path.name} names it"
    return words[0], configs, others


def initial(path, run_dir, *arguments):
    """Make the checkpoint that a header starts from, by the experiment that its name says; sizes may name their own."""
    words = shlex.split(header(path)[1])
    if INIT_FROM not in words or INIT_FROM.rpartition(".")[2] in (tiny_file(path) or path).read_text():
        return []
    return [f"{INIT_FROM}={checkpoint(words[words.index(INIT_FROM) + 1], run_dir, *arguments)}"]


def checkpoint(named, run_dir, *arguments):
    """Make the checkpoint that ``runs/<experiment>/...`` means, of one training step; return its path."""
    wanted = named.split("/")[1]
    source = next(p for p in RUNNABLE if experiment_name([str(c) for c in command(p)[1]]) == wanted)
    made = Path(run_dir) / "checkpoints/last.ckpt"
    if not made.exists():
        one_step = ["--trainer.fast_dev_run=false", "--trainer.max_steps=1", "--test_after_fit=false"]
        run_tiny(source, run_dir, *one_step, *arguments)
    return made


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


def make_tiny_data(root):
    """Draw every data set in its real layout, as the makers in tests/data do."""
    for folder in sorted((ROOT / "tests/data").iterdir()):
        spec = importlib.util.spec_from_file_location(f"make_{folder.name}", folder / "make.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.make_all(root)
    return root


def run_tiny(path, run_dir, *arguments):
    """Run the command of a config's header on tiny sizes; return the command line's object."""
    subcommand, configs, others = command(path)
    fixed = [FAST, "--trainer.accelerator=cpu", "--trainer.precision=32-true"]
    return main([subcommand, *config_arguments(configs), *others, *fixed, *arguments, f"--run_dir={run_dir}"])
