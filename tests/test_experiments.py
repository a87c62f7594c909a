"""Every yaml in experiments/, found by glob, runs through the command that its own header gives, on tiny sizes."""

import importlib.util
import inspect
import json
import shlex
from pathlib import Path

import pytest
import yaml

from lightning_fewshot.cli import main

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.yaml"))
RUNNABLE = [
    p for p in EXPERIMENTS if p.parent.name != "sweeps" and p.name != "tracking/video.yaml"
]  # needs a checkpoint
SWEEPS = [path for path in EXPERIMENTS if path.parent.name == "sweeps"]

# A size that is tiny where a model or a data set has that key; a new paper adds a line only if its defaults are large;
# a line of one class alone names it.
TINY = {
    "backbone": "resnet10t",
    "weights": "none",
    "deformable": "false",
    "frozen_stages": "0",
    "widths": "[32]",
    "proposals": "[8, 8]",
    "output_stride": "32",
    "features": "8",
    "fc": "new",
    "prototype_init": "false",
    "support_size": "32",
    "query_size": "65",
    "min_pixels": "50",
    "finetune_steps": "2",
    "n_way": "2",
    "n_query": "1",
    "batch_size": "2",
    "short_side": "96",
    "max_side": "128",
    "image_size": "96",
    "pairs": "4",
    "stream": "S",
    "learnet": "S",
    "num_workers": "0",
    "channels": "[3, 4, 5]",
    "MetaLearnerTracker.channels": "[6, 8, 10, 12]",
    "hidden": "6",
    "target_pixels": "40",
    "scene": "4.0",
    "episode": "{first: [6, 8], frame: [4, 6], candidates: 16}",
    "tracking": "{candidates: 16, first: [20, 60], first_scenes: 2, frame: [6, 12], regression_samples: 20}",
    "first_frame_steps": "2",
    "max_frames": "12",
    "train_episodes": "1",
    "val_episodes": "1",
    "test_episodes": "1",
}


# What the few classes and photos of the drawn data sets cannot do.
DRAWN = {
    "coco.yaml": ["--data.val_classes=2"],
    "tiny_imagenet.yaml": ["--data.val_classes=2", "--data.held_out=2"],
    "omniglot.yaml": ["--data.val_alphabets=1"],
    "folder.yaml": ["--data.root=."],
    "fss1000.yaml": ["--data.val_classes=2"],
    "mixed_videos.yaml": ["--data.sources=[videos, coco]"],
    "mlt.yaml": ["--model.init_args.init_from=random"],
    "mlt/paper.yaml": ["--model.init_args.init_from=random", "--data.parts=train"],
}
COCO = ["person", "bicycle", "car", "zebra", "giraffe", "kite", "fork"]
VOC = ["bird", "bus", "cow", "dog", "cat", "car", "person"]


def _header(path):
    lines = path.read_text().splitlines()[:3]
    assert all(line.startswith("# ") for line in lines), f"{path.name} starts with three comment lines"
    return lines


def _command(path):
    """Return the arguments of the header's command; the placeholder of a checkpoint is left out."""
    words = shlex.split(_header(path)[1].split("python -m lightning_fewshot ")[1])
    pairs = list(zip(words[1::2], words[2::2], strict=True))
    configs = [ROOT / value for key, value in pairs if key == "--config"]
    others = [f"{key}={value}" for key, value in pairs if key not in ("--config", "--ckpt_path", "--data.root")]
    assert path in configs, f"the command of {path.name} names it"
    return words[0], configs, others


def _tiny_sizes(configs):
    arguments = []
    for part in ("model", "data"):
        loaded = [yaml.safe_load(path.read_text()).get(part, {}) for path in configs]
        module, _, name = [c["class_path"] for c in loaded if "class_path" in c][-1].rpartition(".")
        known = _keys(getattr(importlib.import_module(module), name))
        own = {key.removeprefix(f"{name}."): value for key, value in TINY.items() if key.startswith(f"{name}.")}
        arguments += [f"--{part}.{key}={value}" for key, value in (TINY | own).items() if key in known]
    return arguments


def _keys(cls):
    """Return the parameters of a class, and of its bases as long as it takes ``**options`` for them."""
    known = set()
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()
            known |= {p.name for p in parameters}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                return known
    return known


def _maker(name):
    spec = importlib.util.spec_from_file_location(f"make_{name}", ROOT / f"tests/data/{name}/make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A folder with every data set in its real layout, as the makers in tests/data draw them."""
    from datamodules.detection.imagenet_loc import read_classes

    root = tmp_path_factory.mktemp("data")
    classes = read_classes()
    photos = _maker("photos")
    photos.make_coco(root, COCO, 6)
    photos.make_voc(root, VOC, 6)
    photos.make_ilsvrc(root, [*list(classes["novel"].values())[:3], *list(classes["train"].values())[:3]], 40)
    photos.make_folder(root, COCO, 12)
    _maker("tiny_imagenet").make(root)
    _maker("omniglot").make(root / "omniglot")
    videos = _maker("videos")
    for name in ("otb", "vot", "templecolor", "uav123", "got10k", "vid"):
        getattr(videos, f"make_{name}")(root)
    videos.make_got10k(root, folder="videos")
    videos.make_clip(root / "clip.mp4")
    masks = _maker("masks")
    for make in (masks.make_pascal5i, masks.make_camvid, masks.make_pets, masks.make_fss):
        make(root)
    masks.make_coco20i(root)
    masks.make_panoptic(root, classes=16)  # eight things, two of them in a fold
    masks.make_folder_masks(root / "my-masks")
    return root


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: str(path.relative_to(ROOT / "experiments")))
def test_every_experiment_runs(path, in_tmp, monkeypatch, tiny_data):
    monkeypatch.setenv("FEWSHOT_DATA", str(tiny_data))
    subcommand, configs, others = _command(path)
    files = [argument for config in configs for argument in ("--config", str(config))]
    fixed = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.precision=32-true"]
    drawn = [argument for config in configs for argument in DRAWN.get(config.name, [])]
    monkeypatch.chdir(tiny_data)
    try:
        main([subcommand, *files, *others, *_tiny_sizes(configs), *drawn, *fixed, f"--run_dir={in_tmp}/run"])
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


def test_a_video_is_tracked_with_a_checkpoint_of_the_experiment_that_is_named(in_tmp, monkeypatch, tiny_data):
    experiment, overlay = (ROOT / f"experiments/{name}.yaml" for name in ("mlt_matching", "track_video"))
    assert experiment.name in _header(overlay)[2]
    fixed = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1"]
    main(["fit", "--config", str(experiment), *_tiny_sizes([experiment]), *fixed, f"--run_dir={in_tmp}/fit"])
    _, _, others = _command(overlay)
    sizes = [size for size in _tiny_sizes([overlay]) if size.startswith("--model")]
    monkeypatch.chdir(tiny_data)
    with pytest.raises(SystemExit, match="needs trained weights: make them with"):
        main(["predict", "--config", str(overlay), *others, *sizes, f"--run_dir={in_tmp}/none"])
    checkpoint = f"--ckpt_path={in_tmp}/fit/checkpoints/best.ckpt"
    main(["predict", "--config", str(overlay), *others, *sizes, checkpoint, f"--run_dir={in_tmp}/run"])
    assert (in_tmp / "run/tracks/clip.mp4").stat().st_size
    assert len((in_tmp / "run/tracks/clip.txt").read_text().splitlines()) == 12


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_every_sweep_names_keys_that_exist(path, in_tmp, capsys, tiny_data, monkeypatch):
    """The first and the last value of every parameter are accepted by the command that the agent would run."""
    monkeypatch.setenv("FEWSHOT_DATA", str(tiny_data))
    _header(path)
    sweep = yaml.safe_load(path.read_text())
    words = sweep["command"]
    first = next(i for i, word in enumerate(words) if word in ("fit", "test"))
    assert words[-1] == "${args}"
    fixed = [str(ROOT / word) if str(word).endswith(".yaml") else str(word) for word in words[first:-1]]
    for end in (0, -1):
        arguments = [f"--{key}={_value(choice, end)}" for key, choice in sweep["parameters"].items()]
        with pytest.raises(SystemExit) as error:
            main([*fixed, *arguments, "--print_config"])
        assert error.value.code == 0, capsys.readouterr().err


def _value(choice, end):
    if "values" in choice:
        return choice["values"][end]
    return choice.get("value", choice.get(("min", "max")[end]))
