"""What is answered before anything heavy is imported, and what is refused before anything is made."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lightning_fewshot.cli import main
from lightning_fewshot.cli.config_files import read_config
from lightning_fewshot.cli.request import read_request
from lightning_fewshot.cli.run_folder import experiment_name, make_run_dir, point_to, resolve_latest, shared_run_dir

ROOT = Path(__file__).parents[1]
LIGHT = """
import sys
try:
    {statement}
except SystemExit as end:
    code = end.code
heavy = {{"torch", "pytorch_lightning", "lightning_fabric", "jsonargparse", "numpy", "wandb"}} & set(sys.modules)
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("import lightning_fewshot", ""),
        ("from lightning_fewshot.cli import main; main(['--help'])", "fit  "),
        ("from lightning_fewshot.cli import main; main([])", "usage: python -m lightning_fewshot COMMAND"),
        ("from lightning_fewshot.cli import main; main(['--version'])", "."),
        ("from lightning_fewshot.cli import main; main(['tset'])", "did you mean 'test'?"),
        ("from lightning_fewshot.cli import main; main(['--config', 'x'])", "the command comes first"),
    ],
)
def test_help_and_typing_errors_import_neither_torch_nor_lightning(statement, said):
    command = [sys.executable, "-c", LIGHT.format(statement=statement)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout + done.stderr


def test_help_names_every_command_and_a_mistyped_one_ends_with_2(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in ("fit", "validate", "test", "predict", "score"))
    with pytest.raises(SystemExit) as end:
        main(["predcit"])
    assert end.value.code == 2
    assert "'predict'" in capsys.readouterr().err


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty but must be a mapping"),
        ("- 1\n- 2\n", "is a list but must be a mapping"),
        ("fit\n", "is a str but must be a mapping"),
        ("a: {b", "cannot be read"),
        (BOMB, "its aliases stand for .* values, more than 100000"),
        ("a: &a [*a]\n", "cannot be read: an alias stands for what contains it"),
        ("a: " + "[" * 5000 + "]" * 5000, "cannot be read"),
        ("a: " + "x" * 1_000_001, "more than 1000000"),
        ("trainer: -1", r"trainer is -1 but must be a group of keys"),
        ("checkpoint: 5", r"checkpoint is 5 but must be a group of keys"),
        ("pictures: x", r"pictures is 'x' but must be a group of keys"),
        ("trainer: [1]", r"trainer is \[1\] but must be a group of keys"),
        ("model: 3", r"model is 3 but must be a group of keys"),
        ("trainer:", r"trainer is empty but must be a group"),
    ],
)
def test_configs_that_are_none_are_named(cli, text, message):
    Path("c.yaml").write_text(text)
    with pytest.raises(SystemExit, match=f"error: c.yaml:? ?.*{message}"):
        cli("fit", "--config", "c.yaml", toy=False)
    assert not Path("run").exists()


def test_aliases_in_moderation_a_byte_order_mark_and_a_missing_file(in_tmp):
    Path("c.yaml").write_bytes(b"\xef\xbb\xbfmodel: &m {class_path: toy.ToyModel}\nother: *m\n")
    assert read_config("c.yaml")["other"] == {"class_path": "toy.ToyModel"}
    with pytest.raises(FileNotFoundError, match=r"there is no config file none\.yaml"):
        read_config("none.yaml")


def test_an_alias_bomb_in_a_file_of_a_group_is_refused_too(cli, capsys):
    Path("trainer.yaml").write_text(BOMB)
    with pytest.raises(SystemExit):
        cli("fit", "--trainer", "trainer.yaml")
    assert "its aliases stand for" in capsys.readouterr().err


def test_a_value_for_a_group_on_the_command_line_is_refused(cli):
    with pytest.raises(SystemExit) as end:
        cli("fit", "--trainer", "-1")
    assert end.value.code not in (0, None)


def test_what_a_sweep_passes_for_null(cli):
    assert read_request("fit", ["--model.init_from=None", "--x=Nones"]).args == ["--model.init_from=null", "--x=Nones"]
    run = cli("fit", "--trainer.fast_dev_run", "true", "--trainer.gradient_clip_val=None", "--trainer.max_time=None")
    assert run.trainer.gradient_clip_val is None


def test_a_missing_model_or_data_is_said_in_words(cli, capsys):
    for args, what in ((["--data", "toy.ToyData"], "model"), (["--model", "toy.ToyModel"], "data")):
        with pytest.raises(SystemExit) as end:
            cli("fit", *args, toy=False)
        assert end.value.code == 2
        assert f"no {what} is named: give --config FILE or --{what} CLASS" in capsys.readouterr().err


def test_a_misspelt_class_is_one_line_with_the_nearest(cli, capsys):
    with pytest.raises(SystemExit) as end:
        cli("fit", "--model", "toy.ToyModl", "--data", "toy.ToyData", toy=False)
    assert end.value.code == 2
    first, last = capsys.readouterr().err.splitlines()
    assert first == (
        "error: there is no class toy.ToyModl: module 'toy' has no attribute 'ToyModl'; did you mean 'toy.ToyModel'?"
    )
    assert "--help" in last


def test_a_config_may_name_no_optimizer_but_optimizers(cli, capsys):
    settings = {"optimization": {"optimizer": "os.system"}}
    config = {"model": {"class_path": "toy.ToyModel", "init_args": settings}, "data": {"class_path": "toy.ToyData"}}
    Path("c.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit):
        cli("fit", "--config", "c.yaml", toy=False)
    settings["optimization"]["optimizer"] = {"class_path": "os.system", "init_args": {"command": "touch pwned"}}
    Path("c.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit):
        cli("fit", "--config", "c.yaml", "--print_config", toy=False)
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("configs", "name"),
    [
        ([], "unnamed"),
        (["experiments/repmet.yaml"], "repmet"),
        (["/x/experiments/oslsm/photos.yaml"], "oslsm-photos"),
        (["experiments/oslsm.yaml", "experiments/oslsm/baselines/nearest.yaml"], "oslsm-nearest"),
        (["experiments/repmet.yaml", "experiments/repmet/tiny.yaml", "experiments/data/voc.yaml"], "repmet-voc"),
        (["experiments/data/voc.tiny.yaml"], "voc"),
        (["mine/first.yaml", "data.yaml"], "first-data"),
        (["runs/repmet/2026-01-01_00-00-00/config.yaml"], "repmet"),
        (["config.yaml"], "config"),
    ],
)
def test_names_of_experiments(configs, name):
    assert experiment_name(configs) == name


def test_latest_leads_to_the_newest_training(in_tmp):
    folders = []
    for newest in (True, True, False):
        with shared_run_dir():
            folders.append(make_run_dir(None, "x", newest))
    assert len(set(folders)) == 3
    assert Path("runs/x/latest").resolve() == folders[1].resolve()
    assert resolve_latest("runs/x/latest/checkpoints/best.ckpt") == str(folders[1] / "checkpoints/best.ckpt")
    assert resolve_latest("mine/latest/best.ckpt") == "mine/latest/best.ckpt", "somebody's own folder"


def test_latest_is_a_text_file_where_links_are_impossible(in_tmp, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    for name in ("first", "second"):
        Path(f"runs/x/{name}").mkdir(parents=True)
        point_to(Path(f"runs/x/{name}"))
    assert Path("runs/x/latest").read_text() == "second"
    assert resolve_latest("runs/x/latest/checkpoints/best.ckpt") == "runs/x/second/checkpoints/best.ckpt"


def test_bfloat16_that_would_be_emulated_is_float32(cli, monkeypatch, capsys):
    import lightning_fewshot.cli.run as module

    options = ["--trainer.precision", "bf16-mixed", "--trainer.fast_dev_run", "true"]
    monkeypatch.setattr(module, "native_bfloat16", lambda device: False)
    assert cli("fit", *options).trainer.precision == "32-true"
    lines = [line for line in capsys.readouterr().out.splitlines() if "bf16-mixed" in line]
    assert len(lines) == 1
    assert lines[0].startswith("precision: float32 in place of bf16-mixed")
    monkeypatch.setattr(module, "native_bfloat16", lambda device: True)
    assert cli("fit", *options).trainer.precision == "bf16-mixed"
    assert "float32" not in capsys.readouterr().out
    assert torch.is_grad_enabled()
