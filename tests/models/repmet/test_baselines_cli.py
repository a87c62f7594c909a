"""The rows of table 3 through the command line: one trained detector, adapted in two ways, and an embedding on it."""

import json
import warnings
from pathlib import Path

import pytest

from lightning_fewshot.cli import main

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
FIXED = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--pictures.count=0"]


def run(verb, overlay, folder, *options):
    files = ["repmet.yaml", "repmet/tiny.yaml", f"repmet/baselines/{overlay}.yaml"]
    configs = [word for file in files for word in ("--config", str(EXPERIMENTS / file))]
    cli = main([verb, *configs, *FIXED, *options, f"--run_dir={folder}"])
    return cli, json.loads(Path(folder, "results.json").read_text())["metrics"]


@pytest.fixture
def plain(in_tmp):
    cli, _ = run("fit", "finetune", "plain", "--model.finetuning.steps=2")
    assert type(cli.model).__name__ == "PlainDetector"
    assert cli.model.finetuning.steps == 2
    return "plain/checkpoints/last.ckpt"


def test_one_trained_detector_serves_all_three_baselines(plain, capsys):
    options = ("--ckpt_path", plain, "--model.finetuning={steps: 2}")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "(?i).*discard.*")  # what the other class lacks is dropped without a word
        cli, metrics = run("test", "dml", "dml", *options)
    assert type(cli.model).__name__ == "PlainMetricDetector"
    assert cli.model.mixture.n_modes == 3  # repmet.yaml's
    assert "map_50" in metrics
    cli, metrics = run("fit", "dml_external", "external", "--model.init_args.init_from", plain)
    assert type(cli.model).__name__ == "ExternalMetricDetector"
    assert "map_50" in metrics
    assert "discard" not in capsys.readouterr().err.lower()


def test_an_external_embedding_is_not_trained_on_nothing(in_tmp):
    with pytest.raises(SystemExit, match="error: init_from is not set but an external embedding is trained"):
        run("fit", "dml_external", "external")


@pytest.mark.parametrize("steps", ["0", "-1"])
def test_finetuning_in_no_steps_is_refused(in_tmp, steps):
    with pytest.raises(SystemExit, match=f"steps is {steps} but must be at least 1"):
        run("fit", "finetune", "plain", f"--model.finetuning.steps={steps}")


def test_options_of_another_method_are_refused(in_tmp, capsys):
    with pytest.raises(SystemExit):
        run("fit", "finetune", "plain", "--model.init_args.mixture.sigma=0.3")
    assert "mixture" in capsys.readouterr().err
