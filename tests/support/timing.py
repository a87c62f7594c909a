"""Processor time, for the benchmarks: other work on the machine does not change a ratio."""

import time

from pytorch_lightning.callbacks import Callback


def seconds(work, repeats=3):
    """Return the least processor time of ``work()``, which other work on the machine disturbs least."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


class Clock(Callback):
    """Processor time of fit, from the start of step ``first`` to the end of the last."""

    def __init__(self, first):
        self.first = first

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == self.first:
            self.start = time.process_time()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.stop = time.process_time()
