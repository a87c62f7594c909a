"""Processor time, for the benchmarks: other work on the machine does not change a ratio."""

import time

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback


def processor_times(work, repeats):
    """Return the processor time of every ``work()`` after a first one that is not counted."""
    work()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return found


def seconds(work, repeats=3):
    """Return the least processor time of ``work()``, which other work on the machine disturbs least."""
    return min(processor_times(work, repeats))


def fit_and_bare_loop(build, data, steps, warm, folder, rounds=3):
    """Return the processor time of ``steps`` steps of a fit, and of the same work on prepared episodes.

    Args:
        build: Makes a module.
        data: Its data, ``steps + warm`` training episodes.
        steps: Steps that count.
        warm: Steps before the clock starts.
        folder: For Lightning.
        rounds: Times that both are measured; the least counts.
    """
    fitted, looped = [], []
    for _ in range(rounds):
        torch.manual_seed(0)
        module, clock = build(), Clock(warm)
        trainer = Trainer(
            max_epochs=1,
            accelerator="cpu",
            callbacks=[clock],
            logger=False,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
        trainer.fit(module, datamodule=data)
        prepared = [data.episode("train", i) for i in range(steps)]
        optimizer = torch.optim.AdamW(module.parameters())

        def bare(module=module, optimizer=optimizer, prepared=prepared):
            for episode in prepared:
                optimizer.zero_grad()
                sum(module.loss(episode).values()).backward()
                optimizer.step()

        fitted.append(clock.stop - clock.start)
        looped.append(seconds(bare, 1))
    return min(fitted), min(looped)


class Clock(Callback):
    """Processor time of fit, from the start of step ``first`` to the end of the last."""

    def __init__(self, first):
        self.first = first

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if batch_idx == self.first:
            self.start = time.process_time()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.stop = time.process_time()
