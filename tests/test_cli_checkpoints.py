"""A checkpoint on the command line: enough on its own, never code, and compared where training goes on from it."""

import csv
import errno
import json
import os
from pathlib import Path

import pytest
import torch

import lightning_fewshot.callbacks.checkpoints as checkpoint_callbacks
from lightning_fewshot.checkpoint_files import read_checkpoint, write_checkpoint

BEST = "trained/checkpoints/best.ckpt"
LAST = "trained/checkpoints/last.ckpt"
SHORT = ["--trainer.max_epochs", 1, "--test_after_fit", "false", "--pictures.count", 0]


def test_a_checkpoint_alone_is_enough(cli, results):
    """Class, settings and data come from it; what the command line adds wins."""
    cli("fit", "--model.width", 6, "--data.n_way", 4, "--seed_everything", 3, run_dir="trained")
    run = cli("test", "--ckpt_path", BEST, "--trainer.accelerator", "cpu", run_dir="tested", toy=False)
    assert run.model.embed[0].out_features == 6
    assert run.datamodule.n_way == 4
    assert results("tested")["metrics"] == results("trained")["metrics"]
    run = cli("validate", f"--ckpt_path={BEST}", "--data.n_way", 2, "--model.nan_at", 7, run_dir="other", toy=False)
    assert (run.datamodule.n_way, run.model.nan_at) == (2, 7)
    cli("predict", "--ckpt_path", BEST, "--data", "toy.ToyData", run_dir="predicted", toy=False)
    assert len(json.loads(Path("predicted/predictions.json").read_text())) == 6


def test_a_model_that_is_named_is_the_one_that_is_made(cli):
    cli("fit", "--model.width", 6, *SHORT, run_dir="trained")
    with pytest.raises(SystemExit, match="does not fit this ToyModel"):
        cli("test", "--ckpt_path", BEST, run_dir="tested")


def test_the_command_that_help_shows_works_as_pasted(cli, monkeypatch, results):
    """Twice: a test does not move ``latest``."""
    cli("fit", "--run_dir", "null", *SHORT)
    for _ in range(2):
        run = cli("test", "--ckpt_path", "runs/unnamed/latest/checkpoints/best.ckpt", "--run_dir", "null", toy=False)
        record = json.loads((run.run_dir / "results.json").read_text())
        assert Path(record["protocol"]["weights"]).is_file()
        assert "latest" not in record["protocol"]["weights"]


def test_a_checkpoint_without_an_entry_needs_a_model_named(cli, results):
    cli("fit", run_dir="trained")
    content = read_checkpoint(BEST)
    del content["few_shot"]
    write_checkpoint(content, "old.ckpt")
    with pytest.raises(SystemExit, match=r"error: old\.ckpt does not say which model it is of"):
        cli("test", "--ckpt_path", "old.ckpt", run_dir="tested", toy=False)
    cli("test", "--ckpt_path", "old.ckpt", run_dir="tested")
    assert results("tested")["metrics"] == results("trained")["metrics"]


@pytest.mark.parametrize("shape", ["_class_path", "flat", "class_path"])
def test_hyper_parameters_in_a_file_are_not_settings(cli, shape):
    """LightningCLI would merge them into the config, and call what they name."""
    cli("fit", *SHORT, run_dir="trained")
    evil = {"optimization": {"class_path": "os.system", "init_args": {"command": "touch pwned"}}, "width": 3}
    said = {
        "_class_path": {"_class_path": "toy.ToyModel", **evil},
        "flat": evil,
        "class_path": {"class_path": "toy.ToyModel", "init_args": evil},
    }
    torch.save({**read_checkpoint(BEST), "hyper_parameters": said[shape]}, "evil.ckpt")
    run = cli("test", "--ckpt_path", "evil.ckpt", run_dir="tested", toy=False)
    assert run.model.embed[0].out_features == 8
    assert not Path("pwned").exists()


def test_settings_of_a_checkpoint_are_data(cli):
    cli("fit", *SHORT, run_dir="trained")
    content = read_checkpoint(BEST)
    evil = {"class_path": "os.system", "init_args": {"command": "touch pwned"}}
    for init_args in ({"optimization": evil}, {"width": evil}, {"optimization": {"options": {"params": evil}}}):
        entry = {**content["few_shot"], "init_args": init_args}
        write_checkpoint({**content, "few_shot": entry}, "evil.ckpt")
        with pytest.raises(SystemExit):
            cli("test", "--ckpt_path", "evil.ckpt", "--model.nan_at", "x", run_dir="tested", toy=False)
        assert not Path("pwned").exists()


def test_flipped_weights_are_refused_by_test_and_by_resuming(cli):
    cli("fit", *SHORT, run_dir="trained")
    whole = bytearray(Path(LAST).read_bytes())
    weights = read_checkpoint(LAST)["state_dict"]["embed.0.weight"].numpy().tobytes()
    whole[whole.index(weights) + 3] ^= 0x80
    Path("bad.ckpt").write_bytes(bytes(whole))
    for command in ("test", "fit"):
        with pytest.raises(SystemExit, match=r"error: bad\.ckpt is damaged: the checksum"):
            cli(command, "--ckpt_path", "bad.ckpt", run_dir="next")


def test_files_that_are_no_checkpoints_of_a_run_are_one_line(cli):
    cli("fit", *SHORT, run_dir="trained")
    content = read_checkpoint(LAST)
    del content["pytorch-lightning_version"]
    write_checkpoint(content, "weights.ckpt")
    for path in ("weights.ckpt", "trained"):
        with pytest.raises(SystemExit, match=rf"error: {path} is"):
            cli("fit", "--ckpt_path", path, run_dir="next")


def test_resuming_with_other_settings_says_so(cli, capsys):
    cli("fit", *SHORT, run_dir="trained")
    capsys.readouterr()
    other = ["--seed_everything", 1, "--data.n_way", 2, "--data.seed", 5, "--model.nan_at", 99]
    cli("fit", "--ckpt_path", LAST, *other, "--trainer.max_epochs", 2, run_dir="other")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resumed with other settings")]
    for change in ("seed_everything 0 -> 1", "data.n_way 3 -> 2", "data.seed 0 -> 5", "model.nan_at -1 -> 99"):
        assert change in line
    assert line.count("->") == 4
    cli("fit", "--ckpt_path", LAST, "--data.num_workers", 1, run_dir="same")
    assert "resumed with other settings" not in capsys.readouterr().out


def test_a_resumed_run_keeps_its_metrics(cli):
    def rows(folder="trained"):
        with open(f"{folder}/metrics.csv", newline="") as file:
            return [(row["step"], row["train/loss"], row["val/accuracy"]) for row in csv.DictReader(file)]

    options = ["--trainer.log_every_n_steps", 1, "--test_after_fit", "false", "--model.optimization.schedule=constant"]
    cli("fit", *options, run_dir="whole")
    cli("fit", *options, "--trainer.max_epochs", 1, run_dir="trained")
    cli("fit", *options, "--ckpt_path", LAST, run_dir="trained")
    assert rows() == rows("whole")
    cli("fit", *options, "--ckpt_path", LAST, "--trainer.max_epochs", 3, run_dir="trained")
    assert len(rows()) == 3 * 7
    cli("test", "--ckpt_path", LAST, run_dir="trained")
    assert len(rows()) == 3 * 7 + 1
    cli("fit", *options, run_dir="trained")
    assert len(rows()) == 2 * 7, "another training has a file of its own"
    assert Path("trained/metrics.1.csv").exists()


def test_rows_after_the_checkpoint_are_written_anew(cli):
    """A run that was killed has logged steps that the resumed one takes again."""
    options = ["--trainer.log_every_n_steps", 1, "--test_after_fit", "false", "--model.optimization.schedule=constant"]
    cli("fit", *options, run_dir="trained")
    whole = Path("trained/metrics.csv").read_text()
    cli("fit", *options, "--checkpoint.every_n_steps", 4, "--trainer.max_steps", 4, run_dir="part")
    cli("fit", *options, "--ckpt_path", "part/checkpoints/last.ckpt", run_dir="trained")
    assert Path("trained/metrics.csv").read_text() == whole


def test_a_full_disk_is_one_line_with_the_last_good_checkpoint(cli, monkeypatch):
    write, count = checkpoint_callbacks.write_checkpoint, []

    def full(content, path):
        count.append(path)
        if len(count) > 3:
            raise OSError(errno.ENOSPC, "cannot write the checkpoint: No space left on device", str(path))
        write(content, path)

    monkeypatch.setattr(checkpoint_callbacks, "write_checkpoint", full)
    with pytest.raises(SystemExit) as end:
        cli("fit", "--checkpoint.every_n_steps", 1, "--trainer.max_epochs", 3)
    message = str(end.value.code)
    assert message.startswith("error: cannot write the checkpoint: No space left on device: run/checkpoints/last.ckpt")
    assert message.endswith("--ckpt_path run/checkpoints/last.ckpt")
    assert "\n" not in message
    assert read_checkpoint("run/checkpoints/last.ckpt")["global_step"] == 3


def test_a_full_disk_at_the_results_is_one_line(cli, monkeypatch):
    replace = os.replace

    def full(old, new):
        if str(new).endswith("results.json"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(old, new)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SystemExit, match=r"error: cannot write: No space left on device: run/results\.json"):
        cli("fit")


def test_predict_without_weights_is_refused(cli):
    with pytest.raises(SystemExit, match="error: ToyModel needs trained weights"):
        cli("predict")
