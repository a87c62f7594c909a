"""The command line as a user meets it."""

import ctypes
import hashlib
import json
import os
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from lightning_fewshot.cli import main

ROOT = Path(__file__).parents[1]
REPMET = ROOT / "experiments/repmet.yaml"


def _yaml(path, **content):
    Path(path).write_text(yaml.safe_dump(content))
    return path


def test_several_configs_merge_the_last_wins_and_the_command_line_wins_over_all(cli):
    _yaml("first.yaml", model={"class_path": "toy.ToyModel", "init_args": {"width": 5}}, trainer={"max_epochs": 1})
    _yaml("data.yaml", data={"class_path": "toy.ToyData", "init_args": {"n_way": 2, "k_shot": 3, "num_workers": 0}})
    _yaml("second.yaml", data={"init_args": {"k_shot": 2}}, checkpoint={"monitor": "val/accuracy"})
    configs = [a for name in ("first", "data", "second") for a in ("--config", f"{name}.yaml")]
    run = cli("fit", *configs, "--data.n_query", 4, "--trainer.accelerator", "cpu", toy=False)
    assert (run.datamodule.n_way, run.datamodule.k_shot, run.datamodule.n_query) == (2, 2, 4)
    assert run.model.embed[0].out_features == 5
    assert run.experiment == "first-data-second"
    saved = yaml.safe_load(Path("run/config.yaml").read_text())
    assert saved["data"]["init_args"]["k_shot"] == 2
    assert saved["weights_only"] is True


def test_the_saved_config_repeats_the_run(cli, results):
    cli("fit", "--data.seed", 3, "--model.width", 6, run_dir="first")
    cli("fit", "--config", "first/config.yaml", run_dir="second", toy=False)
    assert results("first")["metrics"] == results("second")["metrics"]


def test_public_names_and_short_forms(cli):
    """``class_path: lightning_fewshot.RepMetDetector`` resolves, and ``--data.seed`` needs no ``init_args``."""
    with pytest.raises(SystemExit) as end:
        cli(
            "fit",
            "--config",
            REPMET,
            "--data.seed",
            7,
            "--model.init_args.mixture.sigma=0.3",
            "--print_config",
            toy=False,
        )
    assert end.value.code == 0


def test_dotted_keys_of_a_sweep_are_the_keys_of_the_config(cli, capsys):
    cli_args = ["--model.init_args.mixture.sigma=0.3", "--data.init_args.k_shot=5", "--trainer.max_epochs=2"]
    with pytest.raises(SystemExit):
        cli("fit", "--config", REPMET, *cli_args, "--print_config", toy=False)
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["class_path"] == "lightning_fewshot.RepMetDetector"
    assert config["model"]["init_args"]["mixture"]["sigma"] == 0.3
    assert config["data"]["init_args"]["k_shot"] == 5


def test_help_of_the_model_explains_every_parameter(in_tmp, capsys):
    with pytest.raises(SystemExit) as end:
        main(["fit", "--model.help", "lightning_fewshot.RepMetDetector"])
    assert end.value.code == 0
    text = capsys.readouterr().out.split("Help for")[1]
    entries = re.split(r"\n  (?=--model\.)", text)[1:]
    assert len(entries) > 20
    for entry in entries:
        name, _, rest = " ".join(entry.split()).partition(" ")
        explained = re.sub(r"\(type:.*|\(required.*", "", rest).split("...]")[-1].strip()
        assert len(explained) > 8, f"{name} is not explained: {entry}"
        assert ":class:" not in explained, f"{name} sends the reader away: {entry}"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--modle.width", 3], "unrecognized arguments: --modle.width 3"),
        (["--trainer.max_epoch", 3], "unrecognized arguments: --trainer.max_epoch 3"),
        (["--model.widht", 3], "model.widht is not accepted: toy.ToyModel has no such setting; did you mean 'width'?"),
        (
            ["--data.k_shots", 3],
            "data.k_shots is not accepted: toy.ToyData has no such setting; did you mean 'k_shot'?",
        ),
        (["--model.width", "wide"], "Expected a <class 'int'>"),
    ],
)
def test_an_unknown_key_is_one_clear_error(cli, capsys, args, message):
    with pytest.raises(SystemExit) as end:
        cli("fit", *args)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "usage:" not in error, "the error is not buried"
    assert ".help toy.Toy" in error.splitlines()[-1] or "--help" in error.splitlines()[-1]
    assert not Path("run").exists()


def test_an_unknown_key_in_a_file_is_named(cli, capsys):
    _yaml("bad.yaml", modle={"width": 3})
    with pytest.raises(SystemExit):
        cli("fit", "--config", "bad.yaml", toy=False)
    assert "modle" in capsys.readouterr().err


def test_validate_and_test_a_checkpoint(cli, results):
    cli("fit", run_dir="trained")
    for subcommand, split, n in (("validate", "val", 3), ("test", "test", 5)):
        path = Path("trained/checkpoints/best.ckpt")
        cli(subcommand, "--ckpt_path", path, run_dir=split)
        record = results(split)
        assert record["protocol"]["split"] == split
        assert record["protocol"]["weights"] == str(path)
        assert record["protocol"]["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert record["metrics"]["accuracy"]["n"] == n
    assert results("test")["metrics"] == results("trained")["metrics"]


def test_predict_writes_its_records(cli):
    cli("fit", run_dir="trained")
    cli("predict", "--ckpt_path", "trained/checkpoints/best.ckpt", run_dir="predicted")
    records = json.loads(Path("predicted/predictions.json").read_text())
    assert len(records) == 6
    assert set(records[0]) == {"image", "class", "score"}
    assert len(list(Path("predicted/pictures").glob("*.png"))) == 6


def test_run_folders_are_new_ones(cli, capsys):
    for _ in range(2):
        cli("fit", "--trainer.fast_dev_run", "true", "--run_dir", "null")
    folders = sorted(path for path in Path("runs/unnamed").iterdir() if path.name != "latest")
    assert len(folders) == 2
    assert Path("runs/unnamed/latest").resolve() == folders[-1].resolve()
    assert all((folder / "results.json").exists() for folder in folders)
    assert str(folders[0]) in capsys.readouterr().out


def test_a_run_folder_that_cannot_be_written_is_one_clear_error_before_anything_costs_time(cli):
    Path("file").write_text("")
    with pytest.raises(SystemExit) as end:
        cli("fit", run_dir="file/run")
    assert end.value.code == "error: cannot write into the run folder file/run: Not a directory; choose --run_dir"


@pytest.mark.parametrize("workers", [0, 1])
def test_data_that_cannot_be_read_is_one_line(cli, workers):
    with pytest.raises(SystemExit) as end:
        cli("fit", "--data.broken_at", 2, "--data.num_workers", workers)
    assert end.value.code == "error: photo 7.jpg is truncated"


def test_the_traceback_can_be_asked_for(cli, monkeypatch):
    monkeypatch.setenv("LIGHTNING_FEWSHOT_TRACEBACK", "1")
    with pytest.raises(ValueError, match=r"photo 7\.jpg is truncated"):
        cli("fit", "--data.broken_at", 2)


def test_a_missing_checkpoint_is_one_line(cli):
    with pytest.raises(SystemExit, match=r"error: .*none\.ckpt"):
        cli("test", "--ckpt_path", "none.ckpt")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (["--model.optimization.lr", -1], "lr is -1.0 but must be above 0"),
        (["--model.optimization.optimizer", "os.system"], "optimizer is 'os.system' but must name a subclass"),
        (["--data.episodes.train", 0], "episodes.train is 0 but must be at least 1"),
    ],
)
def test_a_setting_out_of_range_is_one_line(cli, setting, message):
    with pytest.raises(SystemExit) as error:
        cli("fit", *setting)
    assert message in str(error.value.code)
    assert "\n" not in str(error.value.code).partition("\nAll keys")[0]
    assert "Union" not in str(error.value.code)


def test_a_monitor_that_is_not_logged_is_one_line(cli):
    with pytest.raises(SystemExit, match=r"error: .*val/acuracy.*val/accuracy"):
        cli("fit", "--checkpoint.monitor", "val/acuracy")


def test_a_checkpoint_of_another_model_names_what_differs(cli):
    cli("fit", "--trainer.fast_dev_run", "false", "--trainer.max_epochs", 1)
    other = ["--model.roi_head.widths", "[8]", "--model.proposals", "{train: 4, test: 4}"]
    other += [
        "--data.classes",
        "{train: 6, val: 5, test: 5}",
        "--data.scene.image_size",
        64,
        "--data.episodes.test",
        1,
        "--trainer.accelerator",
        "cpu",
    ]
    with pytest.raises(SystemExit, match=r"does not fit this RepMetDetector: \d+ parameters differ \(classify\.bias"):
        cli("test", "--config", REPMET, *other, "--ckpt_path", "run/checkpoints/best.ckpt", toy=False)


def test_runs_are_reproducible(cli, results):
    for name in ("first", "second"):
        torch.rand(3)
        cli("fit", run_dir=name)
    assert results("first")["metrics"] == results("second")["metrics"]
    cli("fit", "--seed_everything", 1, run_dir="third")
    saved = [torch.load(f"{n}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for n in ("first", "third")]
    assert not torch.equal(saved[0]["embed.0.weight"], saved[1]["embed.0.weight"])


def test_waiting_threads_sleep(in_tmp, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    runpy.run_module("lightning_fewshot", run_name="not_main")
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    runpy.run_module("lightning_fewshot", run_name="not_main")
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE", "the user's word stands"


def test_freed_memory_is_kept(monkeypatch):
    from lightning_fewshot.__main__ import keep_freed_memory

    for name in [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]:
        monkeypatch.delenv(name)
    asked = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=lambda *option: asked.append(option) or 1))
    assert keep_freed_memory()
    assert asked == [(-3, 2**30), (-1, 2**30)]
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    assert not keep_freed_memory(), "another C library"
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("the user's word stands"))
    assert not keep_freed_memory()
