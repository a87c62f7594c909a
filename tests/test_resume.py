"""A run that is interrupted anywhere and resumed ends with the weights and the metrics of an unbroken one."""

import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from pytorch_lightning.callbacks import Callback

import lightning_fewshot.cli.run

ROOT = Path(__file__).parents[1]


def _same(first, second):
    """Compare the last and the tested (best) weights, and what else a run goes on from, of two runs."""
    best, last = [[_saved(run, kind) for run in (first, second)] for kind in ("best", "last")]
    for one, two in (best, last):
        assert one["state_dict"].keys() == two["state_dict"].keys()
        for name, value in one["state_dict"].items():
            assert torch.equal(value, two["state_dict"][name]), name
    for key in ("global_step", "epoch", "lr_schedulers"):
        assert last[0][key] == last[1][key], key
    return True


def _saved(run, kind):
    """Load a checkpoint; the best one of a resumed run may stand in the folder of the run before."""
    path = Path(run) / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    if kind == "last":
        return content
    state = next(v for v in content["callbacks"].values() if "best_model_path" in v)
    return torch.load(state["best_model_path"], weights_only=True)


class _KeepEvery(Callback):
    """Copy last.ckpt after every step, validation and epoch: each copy is what a SIGKILL could have left."""

    def __init__(self, run):
        self.run, self.count = Path(run), 0

    def _copy(self, *args, **kwargs):
        last = self.run / "checkpoints/last.ckpt"
        if last.exists():
            shutil.copy(last, self.run / f"{self.count}.ckpt")
            self.count += 1

    on_train_batch_end = on_validation_end = on_train_epoch_end = _copy


@pytest.mark.parametrize("validation", ["--trainer.check_val_every_n_epoch=1", "--trainer.val_check_interval=2"])
def test_every_checkpoint_of_a_run_resumes_to_its_end(cli, results, monkeypatch, validation):
    options = ["--pictures.count", 0, "--test_after_fit", "false", validation]
    with monkeypatch.context() as patch:
        patch.setattr(lightning_fewshot.cli.run, "Progress", lambda: _KeepEvery("whole"))
        cli("fit", "--checkpoint.every_n_steps", 1, *options, run_dir="whole")
    copies = sorted(Path("whole").glob("*.ckpt"), key=lambda p: int(p.stem))
    steps = {torch.load(p, weights_only=True)["global_step"] for p in copies}
    assert steps >= set(range(1, 12)), "there is a checkpoint of every step to resume from"
    for copy in copies:
        step = torch.load(copy, weights_only=True)["global_step"]
        if step == 12:
            break
        resumed = cli("fit", "--ckpt_path", copy, *options, run_dir=f"from_{copy.stem}")
        assert _same(f"from_{copy.stem}", "whole"), f"resumed at step {step} ({copy})"
        assert resumed.trainer.global_step == 12
        assert results(f"from_{copy.stem}")["metrics"] == results("whole")["metrics"], f"step {step}"


def _last_step(run):
    return torch.load(Path(run) / "checkpoints/last.ckpt", weights_only=True)["global_step"]


def _wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.02)


def test_sigkill_in_an_epoch_and_resume(cli, start, results):
    options = ["--data.num_workers", 1, "--data.episodes.train", 20, "--pictures.count", 0]
    cli("fit", *options, run_dir="whole")
    process = start("fit", *options, "--data.seconds", 0.1, "--checkpoint.every_n_steps", 3, run_dir="killed")
    checkpoint = Path("killed/checkpoints/last.ckpt")
    _wait_for(lambda: checkpoint.exists() and _last_step("killed") >= 24, process)
    process.kill()
    process.wait()
    step = _last_step("killed")
    assert 20 < step < 40, "it was killed in the middle of the second epoch"
    cli("fit", *options, "--ckpt_path", checkpoint, run_dir="resumed")
    assert _same("resumed", "whole")
    assert results("resumed")["metrics"] == results("whole")["metrics"]


def test_sigterm_saves_says_how_to_resume_and_exits(cli, start, results):
    options = ["--data.num_workers", 0, "--data.episodes.train", 20, "--pictures.count", 0]
    cli("fit", *options, run_dir="whole")
    process = start("fit", *options, "--data.seconds", 0.1, "--checkpoint.every_n_steps", 1, run_dir="stopped")
    _wait_for(Path("stopped/checkpoints/last.ckpt").exists, process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 143, output
    assert "resume with --ckpt_path stopped/checkpoints/last.ckpt" in output
    assert "Traceback" not in output
    assert not Path("stopped/results.json").exists(), "there is no test after a stop"
    cli("fit", *options, "--ckpt_path", "stopped/checkpoints/last.ckpt", run_dir="resumed")
    assert _same("resumed", "whole")
    assert results("resumed")["metrics"] == results("whole")["metrics"]


class _Terminate(Callback):
    """Ask the run to stop at one step, as SIGTERM would."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == self.step:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("step", [0, 2, 5, 6, 10])
def test_sigterm_at_any_step(cli, results, monkeypatch, step):
    """Step 5 is the last of an epoch: its validation is done before the run stops."""
    cli("fit", run_dir="whole")
    with monkeypatch.context() as patch:
        patch.setattr(lightning_fewshot.cli.run, "Progress", lambda: _Terminate(step))
        with pytest.raises(SystemExit, match="143"):
            cli("fit", run_dir="stopped")
    assert _last_step("stopped") == step + 1
    cli("fit", "--ckpt_path", "stopped/checkpoints/last.ckpt", run_dir="resumed")
    assert _same("resumed", "whole")
    assert results("resumed")["metrics"] == results("whole")["metrics"]


@pytest.mark.slow
def test_repmet_is_resumed_exactly(cli, results, monkeypatch):
    small = ["--config", ROOT / "experiments/repmet.yaml", "--trainer.accelerator", "cpu", "--trainer.max_epochs", 1]
    small += [
        "--data.scene.image_size",
        64,
        "--data.classes",
        "{train: 6, val: 5, test: 5}",
        "--data.batch_size",
        2,
        "--data.n_query",
        1,
    ]
    small += ["--data.episodes.train", 4, "--data.episodes.val", 1, "--data.episodes.test", 2, "--data.num_workers", 0]
    small += ["--model.roi_head.widths", "[32]", "--model.proposals", "{train: 8, test: 8}", "--pictures.count", 0]
    cli("fit", *small, run_dir="whole", toy=False)
    with monkeypatch.context() as patch:
        patch.setattr(lightning_fewshot.cli.run, "Progress", lambda: _Terminate(2))
        with pytest.raises(SystemExit, match="143"):
            cli("fit", *small, run_dir="part", toy=False)
    cli("fit", *small, "--ckpt_path", "part/checkpoints/last.ckpt", run_dir="resumed", toy=False)
    assert _same("resumed", "whole")
    assert results("resumed")["metrics"] == results("whole")["metrics"]


def test_nan_loss_stops_with_step_episode_and_last_good_checkpoint(cli, capsys):
    with pytest.raises(SystemExit) as error:
        cli("fit", "--model.nan_at", 8)
    message = str(error.value.code)
    assert message.startswith("error: the loss is nan at step 8")
    assert "\n" not in message
    assert "training episode 8" in message
    assert "train_" in message, "the images of the batch are named"
    assert "Last good checkpoint: run/checkpoints/last.ckpt" in message
    assert _last_step("run") == 6


def test_weights_that_are_no_numbers_are_never_saved(cli, monkeypatch):
    class Spoil(Callback):
        def on_train_batch_end(self, trainer, module, *args):
            if trainer.global_step == 3:
                module.embed[0].weight.data[0, 0] = torch.inf

    monkeypatch.setattr(lightning_fewshot.cli.run, "Progress", Spoil)
    with pytest.raises(SystemExit, match=r"embed\.0\.weight is not finite after step 3"):
        cli("fit", "--checkpoint.every_n_steps", 3)
    assert not list(Path("run").rglob("*.ckpt"))


def test_a_kill_while_writing_leaves_the_old_checkpoint(cli, monkeypatch):
    """The file is replaced by a rename; one that breaks off leaves the old bytes under the name."""
    trained = cli("fit")
    path = Path("run/checkpoints/last.ckpt")
    before = path.read_bytes()

    def breaks(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", breaks)
    with pytest.raises(OSError, match="No space left"):
        trained.trainer.save_checkpoint(path)
    assert path.read_bytes() == before


def test_a_truncated_checkpoint_is_one_clear_error(cli):
    cli("fit", "--trainer.max_epochs", 1)
    whole = Path("run/checkpoints/last.ckpt").read_bytes()
    Path("half.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit, match=r"error: half\.ckpt is truncated or not a checkpoint"):
        cli("test", "--ckpt_path", "half.ckpt")


def test_a_checkpoint_that_would_run_code_is_refused(cli, in_tmp):
    cli("fit", "--trainer.max_epochs", 1)
    content = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    torch.save({**content, "evil": _Evil()}, "evil.ckpt")
    with pytest.raises(SystemExit, match=r"error: evil\.ckpt is no checkpoint of tensors and plain data alone"):
        cli("test", "--ckpt_path", "evil.ckpt")
    assert not Path("pwned").exists()


class _Evil:
    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


def test_a_checkpoint_of_other_sizes_names_what_differs(cli):
    cli("fit", "--trainer.max_epochs", 1)
    with pytest.raises(SystemExit) as error:
        cli("test", "--model.width", 9, "--ckpt_path", "run/checkpoints/best.ckpt")
    message = str(error.value.code)
    assert "does not fit this ToyModel: 6 parameters differ" in message
    assert "embed.0.weight: (8, 64) in the file, (9, 64) here" in message
    assert "\n" not in message
