"""Several processes of one run: when one dies, the others end within seconds, with a line, not waiting for it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from lightning_fewshot.files import FIRST_PROCESS_VARIABLE

LOOK_S = 1.0  # between two looks
GRACE_S = 5.0  # a process that finds the first one gone may be at its own end


class ProcessWatch(Callback):
    """End this process when another of the run has ended before its time.

    A collective operation would wait for it for half an hour, and nothing says for whom. The process that has started
    the others watches them, they watch it. Processes that ``torchrun`` or a cluster starts are watched by these.
    """

    def __init__(self) -> None:
        self._over = threading.Event()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Begin to watch, in a thread of its own."""
        if trainer.world_size == 1:
            return
        self._over = threading.Event()
        threading.Thread(target=self._watch, args=(trainer, self._over), daemon=True, name="process-watch").start()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stop: the others may end now."""
        self._over.set()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Stop: this process ends with what it has to say itself."""
        self._over.set()

    def _watch(self, trainer: pl.Trainer, over: threading.Event) -> None:
        started = getattr(trainer.strategy.launcher, "procs", [])
        while not over.wait(LOOK_S):
            if first_is_gone():
                if not over.wait(GRACE_S):
                    _end(trainer, "the first process of this run ended")
                return
            for number, process in enumerate(started, 1):
                if process.poll():
                    _end(trainer, f"process {number} of this run {how(process.returncode)}", started)


def first_is_gone() -> bool:
    """Return whether the process that has started this one, as a further process of its run, has ended."""
    first = os.environ.get(FIRST_PROCESS_VARIABLE, "")
    return first.isdigit() and int(first) not in (os.getpid(), os.getppid())


def how(code: int) -> str:
    """Say how a process ended.

    >>> how(-9), how(1)
    ('was killed by SIGKILL', 'ended with exit code 1')
    """
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name if -code in set(signal.Signals) else f'signal {-code}'}"


def _end(trainer: pl.Trainer, reason: str, others: Any = ()) -> None:
    """End at once: a collective operation that waits for the lost process cannot be interrupted."""
    checkpoint = getattr(trainer.checkpoint_callback, "last_good_path", "") if trainer.state.fn == "fit" else ""
    advice = f"; go on from the last good checkpoint: --ckpt_path {checkpoint}" if checkpoint else ""
    print(f"error: {reason}, so this one ends too{advice}", file=sys.stderr, flush=True)
    for process in others:
        process.kill()
    os._exit(1)
