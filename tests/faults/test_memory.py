"""Memory does not grow: 2,000 training steps, 2,000 test episodes and a video of 20,000 frames, after a warm-up."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback
from small_experiments import TASKS, config_words, task_words

import lightning_fewshot.cli.run
from lightning_fewshot.cli import main
from lightning_fewshot.tracking.frames import ArrayFrames
from lightning_fewshot.tracking.loop import follow

STEPS = 2000
FRAMES = 20_000
WARM_UP = 300
MOST_MB = 50
SIZES = ["--data.num_workers=0", "--trainer.accelerator=cpu", "--pictures.count=1", "--test_after_fit=false"]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3000)]


def resident_mb():
    """Return the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


class Watch(Callback):
    """Note the memory after every step and every test episode."""

    def __init__(self):
        self.mb = []

    def _note(self, *args, **kwargs):
        self.mb.append(resident_mb())

    on_train_batch_end = on_test_batch_end = _note

    def growth(self):
        """Return the growth after the warm-up, in MB."""
        return max(self.mb[WARM_UP:]) - max(self.mb[:WARM_UP])


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def watch(monkeypatch):
    """Take the place of the progress bar."""
    watch = Watch()
    monkeypatch.setattr(lightning_fewshot.cli.run, "Progress", lambda: watch)
    return watch


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


def test_training(in_tmp, task, watch):
    epochs = 8  # the warm-up has one with its validation and its checkpoint
    sizes = [*SIZES, f"--data.episodes.train={STEPS // epochs}", "--data.episodes.val=2"]
    main(["fit", *task_words(task), *sizes, f"--trainer.max_epochs={epochs}", "--run_dir=run"])
    assert len(watch.mb) == STEPS
    print(f"training, {task}: {watch.growth():.1f} MB", flush=True)
    assert watch.growth() < MOST_MB, watch.mb[::100]


def test_testing(in_tmp, task, watch):
    short = ["--data.max_frames=2"] if task == "tracking" else []
    main(["test", *task_words(task), *SIZES[:3], *short, f"--data.episodes.test={STEPS}", "--run_dir=run"])
    assert len(watch.mb) == STEPS
    print(f"testing, {task}: {watch.growth():.1f} MB", flush=True)
    assert watch.growth() < MOST_MB, watch.mb[::100]


class Moving:
    """A video of a bright square that goes to and fro, drawn frame by frame."""

    def __len__(self):
        return FRAMES

    def __getitem__(self, t):
        image = np.full((96, 96, 3), 60, np.uint8)
        x = 20 + abs(t % 80 - 40)
        image[30:54, x : x + 24] = (200, 120, 40)
        return image


ONE_SCALE = ["--model.search.scales=1"]


@pytest.mark.parametrize("name", ["learnet_tracker", "mlt", "metartt", "rt_mdnet"])
def test_tracking(in_tmp, name):
    module = tracker_of(name)
    mb = []
    for step in follow(module.tracker(), ArrayFrames(Moving()), torch.tensor([20.0, 30.0, 44.0, 54.0])):
        if step.t % 10 == 0:
            mb.append(resident_mb())
    assert step.t == FRAMES - 1
    growth = max(mb[WARM_UP // 3 :]) - max(mb[: WARM_UP // 3])
    print(f"tracking, {name}: {growth:.1f} MB", flush=True)
    assert growth < MOST_MB, mb[::100]


def tracker_of(name):
    """Return the untrained module of an experiment on its tiny sizes."""
    files = {"rt_mdnet": ("rt_mdnet/rt_mdnet.yaml", "rt_mdnet/tiny.yaml")}.get(
        name, (f"{name}.yaml", f"{name}/tiny.yaml")
    )
    sizes = ["--trainer.accelerator=cpu", *(ONE_SCALE if name == "learnet_tracker" else [])]
    run = main(["fit", *config_words(*files), *sizes, "--trainer.fast_dev_run=true", "--run_dir=run"])
    return run.model.eval()
