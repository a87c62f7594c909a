"""One of two processes that train, validate and test experiments together, in bf16-mixed, one experiment after another.

    python two_ranks.py RANK PORT DATA OUT EXPERIMENT...

writes what was seen of each experiment to OUT, a line of JSON each, and ends at the first that fails.
"""

import faulthandler
import json
import math
import os
import sys
import traceback
from contextlib import redirect_stdout
from pathlib import Path

import torch

COUNTS = {"train": 4, "val": 2, "test": 3}  # episodes: two steps each, and a test that does not divide by two
LONGEST_S = 300.0  # an experiment that takes longer waits for ever
RANKS = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.enable_progress_bar=false"]
OPTIONS = [*RANKS, "--trainer.precision=bf16-mixed", "--trainer.fast_dev_run=2"]


def main(rank, port, data, out, names):
    """Run experiments as one of two ranks."""
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", GROUP_RANK="0")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, TORCHELASTIC_RUN_ID="tests", FEWSHOT_DATA=data)
    os.chdir(data)
    from tiny_experiments import FOLDER

    seen = _Seen()
    seen.watch()
    with open(out, "w") as lines:
        for name in names:
            faulthandler.dump_traceback_later(LONGEST_S, exit=True)
            try:
                record = _run(FOLDER / name, Path(out).parent / name.replace("/", "-"), seen)
            except SystemExit as error:
                record = {"error": str(error.code)}
            except Exception as error:
                traceback.print_exc()
                record = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps({"experiment": name, **record}), file=lines, flush=True)
            if "error" in record and "download" not in record["error"]:
                os._exit(1)  # the other rank may wait for this one for ever


def _run(path, folder, seen):
    from tiny_experiments import command, initial, run_tiny

    mixed = any("MixedSegmentation" in config.read_text() for config in command(path)[1])  # has its sources' counts
    episodes = [] if mixed else [f"--data.episodes.{split}={count}" for split, count in COUNTS.items()]
    with redirect_stdout(sys.stderr):
        start = initial(path, folder / "initial", *RANKS, *episodes)
        seen.clear()
        cli = run_tiny(path, folder / "run", *start, *episodes, *OPTIONS)
    module = cli.model
    digest = [float(p.detach().double().abs().sum()) for p in module.parameters()]
    both = [None, None]
    kept = [float(b.double().sum()) for b in module.segmentation.norm.buffers()] if "prototypes" in path.stem else []
    of_rank = {"weights": digest + kept, "seen": seen.indices, "test": seen.updates}
    torch.distributed.all_gather_object(both, of_rank)
    return {
        "losses": seen.losses,
        "precision": cli.trainer.precision,
        "same_weights": both[0]["weights"] == both[1]["weights"],
        "finite_weights": all(map(math.isfinite, digest)),
        "counts": seen.counts,
        "indices": [rank["seen"] for rank in both],
        "metrics": _values(module.estimates),
        "of_one_process": _values(_reference(module, [u for rank in both for u in rank["test"]])),
    }


class _Seen:
    """What this rank was given: the numbers of its episodes, and what its test metric was updated with."""

    def __init__(self):
        self.clear()

    def clear(self):
        """Forget the experiment before."""
        self.indices = {"train": [], "val": [], "test": []}
        self.counts = {}
        self.updates = []
        self.losses = []

    def watch(self):
        """Look at every episode and every update from now on."""
        import lightning_fewshot.cli.run as command_line
        from lightning_fewshot.data import EpisodicDataModule, _Episodes
        from lightning_fewshot.module import FewShotModule

        load, get = EpisodicDataModule._loader, _Episodes.__getitem__
        set_up, train = FewShotModule.setup, FewShotModule.training_step

        def loader(data, split):
            if type(data).__name__ == "MixedSegmentation":
                data.counts[split] = COUNTS[split]
            if data.counts[split] == 1:
                data.counts[split] = 0  # one video, or one batch, of a data set of the tests is not for two processes
            self.counts[split] = data.counts[split]
            return load(data, split)

        def take(episodes, index):
            self.indices[episodes.split].append(index)
            return get(episodes, index)

        def setup(module, stage):
            fresh = module.run_seed is None
            set_up(module, stage)
            if fresh:
                metric = module.metrics["test"]
                update = metric.update
                metric.update = lambda *args: self.updates.append(args) or update(*args)

        def step(module, episode, batch_idx):
            loss = train(module, episode, batch_idx)
            self.losses.append(float(loss.detach()))
            return loss

        EpisodicDataModule._loader, _Episodes.__getitem__ = loader, take
        FewShotModule.setup, FewShotModule.training_step = setup, step
        FewShotModule.on_predict_start = lambda self: None  # the header's checkpoint is left out
        command_line.native_bfloat16 = lambda device: True  # emulated where the machine has none


def _reference(module, updates):
    """Return the estimates of all episodes as one process without a group computes them."""
    metric, initialized = module.build_metrics(), torch.distributed.is_initialized
    torch.distributed.is_initialized = lambda: False
    try:
        for preds, episode in sorted(updates, key=lambda update: update[1].index):
            metric.update(preds, episode)
        return metric.compute()
    finally:
        torch.distributed.is_initialized = initialized


def _values(estimates):
    return {name: [e.value, e.low, e.high, e.n] for name, e in estimates.items()}


if __name__ == "__main__":
    main(*sys.argv[1:5], sys.argv[5:])
