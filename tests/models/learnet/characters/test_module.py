"""The module through the command line: fit and test on tiny data, pictures, sweeps whose keys exist."""

import importlib.util
from pathlib import Path

import pytest
import torch
import yaml

from lightning_fewshot import ModifiedHausdorff, SiameseLearnet
from lightning_fewshot.cli import main
from lightning_fewshot.episodes import Episode, Examples

ROOT = Path(__file__).parents[4]
TINY = [
    "--data.n_way=5",
    "--data.training.pairs=8",
    "--data.episodes={train: 2, val: 1, test: 2}",
]


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(ROOT)
    torch.manual_seed(0)


@pytest.fixture
def omniglot(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("make_omniglot", ROOT / "tests/data/omniglot/make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("FEWSHOT_DATA", str(tmp_path))
    return module.make(tmp_path / "omniglot")


def test_fit_ends_with_a_test_and_pictures(tmp_path):
    run = tmp_path / "run"
    drawn = ["--data.alphabets.background=3", "--data.alphabets.evaluation=2", "--data.val_alphabets=1"]
    cli = main(
        ["fit", "--config", "experiments/learnet.yaml", "--trainer.max_epochs=1", "--run_dir", str(run), *TINY, *drawn]
    )
    assert cli.model.estimates["error"].n == 40  # problems
    assert {p.name for p in (run / "pictures").glob("*.png")} >= {"val_0000.png", "test_0000.png", "test_0001.png"}


@pytest.mark.parametrize("sweep", ["learnet_table1", "learnet_random_search"])
def test_sweep_commands_run(sweep, omniglot, tmp_path):
    config = yaml.safe_load((ROOT / f"experiments/sweeps/{sweep}.yaml").read_text())
    command = config["command"]
    command = command[command.index("fit") : command.index("${args}")]
    chosen = [f"--{key}={_first(values)}" for key, values in config["parameters"].items()]
    held_out = ["--data.val_alphabets=1"] if sweep == "learnet_random_search" else []
    cli = main([*command, *chosen, *TINY, *held_out, "--trainer.max_epochs=1", "--run_dir", str(tmp_path / "run")])
    assert cli.trainer.global_step == 2
    if sweep == "learnet_table1":
        assert cli.model.network.architecture == "siamese_shared"
        assert cli.model.network.compare.name == "inner_product"


def test_lakes_runs_through_the_command_line(omniglot, tmp_path):
    configs = ["--config", "experiments/learnet/baselines/hausdorff.yaml", "--config", "experiments/data/omniglot.yaml"]
    cli = main(["test", *configs, "--data.test_problems=lake", "--run_dir", str(tmp_path / "run")])
    assert cli.model.estimates["error"].n == 10
    assert cli.model.estimates["error"].value == 0  # the tiny characters differ by angle, drawers only by place


@pytest.mark.parametrize("module_class", [SiameseLearnet, ModifiedHausdorff])
@pytest.mark.parametrize(("problems", "ways"), [(1, 3), (4, 20)])
def test_draw_any_number_of_problems(module_class, problems, ways):
    images = torch.randint(0, 256, (problems * (ways + 1), 1, 28, 28), dtype=torch.uint8)
    labels = torch.zeros(problems, ways, dtype=torch.int64)
    labels[:, 1] = 1
    query = Examples(images[problems:], labels.flatten())
    episode = Episode(Examples(images[:problems]), query, ("incongruous", "congruous"), protocol="problems")
    module = module_class().eval()
    picture = module.draw(episode, module(episode).detach())
    assert picture.dtype == torch.uint8
    assert picture.shape[0] == 3
    assert (torch.tensor([60, 200, 80], dtype=torch.uint8) == picture.flatten(1).T).all(1).any()  # the match, in green


def test_weight_decay_spares_what_has_one_dimension():
    decayed, spared = SiameseLearnet().parameter_groups()
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert spared["weight_decay"] == 0
    assert len(decayed["params"]) + len(spared["params"]) == len(list(SiameseLearnet().parameters()))


def _first(values):
    if "values" in values:
        return values["values"][0]
    return values.get("value", values.get("min"))
