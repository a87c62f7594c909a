"""A disk that fills up, or turns read-only, in the middle of a run: one line, and the last good checkpoint goes on."""

import re
import subprocess
from pathlib import Path

import pytest
from pytorch_lightning.callbacks import Callback

import lightning_fewshot.cli.run
from lightning_fewshot.checkpoint_files import read_checkpoint

OPTIONS = ["--trainer.log_every_n_steps", 1, "--pictures.count", 1]
SAVED_OFTEN = ["--checkpoint.every_n_steps", 1]


def _mount(*words):
    return subprocess.run(["mount", *words], capture_output=True).returncode == 0


@pytest.fixture
def disk(in_tmp):
    """A small file system of its own; needs the right to mount."""
    Path("disk").mkdir()
    if not _mount("-t", "tmpfs", "-o", "size=2m", "none", "disk"):
        pytest.skip("file systems cannot be mounted here")
    yield Path("disk")
    subprocess.run(["umount", "-l", "disk"], check=True)


class _At(Callback):
    """Let something happen at one training step."""

    def __init__(self, step, what):
        self.step, self.what = step, what

    def on_train_batch_start(self, trainer, *args):
        if trainer.global_step == self.step:
            self.what()


def _fill(disk):
    try:
        with open(disk / "filler", "wb", buffering=0) as file:
            while file.write(b"x" * 1024):
                pass
    except OSError:
        pass


FAULTS = {
    "full": (_fill, lambda disk: (disk / "filler").unlink(), "No space left on device"),
    "read-only": (
        lambda disk: _mount("-o", "remount,ro", str(disk)),
        lambda disk: _mount("-o", "remount,rw", str(disk)),
        "Read-only file system",
    ),
}


@pytest.mark.parametrize(("fault", "options"), [("full", [*OPTIONS, *SAVED_OFTEN]), ("read-only", OPTIONS)])
def test_a_disk_that_fails_in_a_training(cli, results, monkeypatch, disk, fault, options):
    begin, mend, said = FAULTS[fault]
    run = disk / "run"
    cli("fit", *options, run_dir="whole")
    with monkeypatch.context() as patch:
        patch.setattr(lightning_fewshot.cli.run, "Progress", lambda: _At(8, lambda: begin(disk)))
        with pytest.raises(SystemExit) as end:
            cli("fit", *options, run_dir=run)
    message = str(end.value.code)
    assert message.startswith("error: ")
    assert re.search(rf"{said}: \S*disk/run/", message), "names the file"
    assert message.endswith("--ckpt_path disk/run/checkpoints/last.ckpt")
    assert "\n" not in message
    assert read_checkpoint(run / "checkpoints/last.ckpt")["global_step"] == (
        8 if "--checkpoint.every_n_steps" in options else 6
    )
    mend(disk)
    cli("fit", *options, "--ckpt_path", run / "checkpoints/last.ckpt", run_dir=run)
    assert results(run)["metrics"] == results("whole")["metrics"]
    assert (run / "metrics.csv").read_text() == Path("whole/metrics.csv").read_text()
