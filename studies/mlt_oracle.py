"""What target-specific kernels can gain at all: fitted to each target directly, in place of MLT's meta-learner.

    python studies/mlt_oracle.py runs/matching/checkpoints/best.ckpt --data videos videos-2 davis drawn

Of every target an exemplar is cut from its first frame, and patches from frames spread over the rest, moved at random.
Every second patch is seen, the others are held out; of the seen ones MLT's memory is the first M = 4. On top of the
frozen matching network are fitted, by Adam on the loss that the network trains on:

- "gain and offset": of the response, for each target, on M patches. The place of the highest response stays.
- "kernels, M patches": MLT's E kernels, for each target, on M patches: the best that a meta-learner could do from what
  it is given, without knowledge of other targets.
- "kernels, all seen": the same on all seen patches: how much the kernels can express.
- "common kernels": one bank for all targets, on the seen patches of the other half of the targets (two folds).
- each of these "centred": kernels see hidden maps minus their mean over the seen patches of the fold's targets.
- "meta-learner": kernels of a trained one, with --meta, from M patches.

Reported on held-out patches: the loss, and hits, the share of patches whose highest response lies within two cells (a
quarter of the target's side) of the target. Intervals (95 %) are over targets; differences are to the network alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from datamodules import DAVISVideos, DrawnVideos, GOT10k
from datamodules.tracking.base import TrackingData
from datamodules.tracking.patches import TrainingCrops, cut_exemplar, cut_search
from lightning_fewshot.boxes import valid
from lightning_fewshot.checkpoints import build_module
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.metrics.estimate import mean_interval
from lightning_fewshot.models.mlt import MetaLearnerTracker
from lightning_fewshot.models.mlt.meta_learner import START
from lightning_fewshot.models.mlt.network import MatchingNetwork, MatchState
from lightning_fewshot.nn.correlation import target_cells
from lightning_fewshot.nn.response_loss import ResponseLoss

CROPS = TrainingCrops(shift=24.0, stretch=0.05)
NEAR = 2.0  # cells
SIZE = 4  # M
RATES = {"kernels": 0.01, "adjust": 0.1}


class Target(NamedTuple):
    """Hidden maps of one target.

    Args:
        state: Of its exemplar.
        hidden: ``(T, C, H, W)`` of its patches, seen ones and held-out ones in turn.
        cells: ``(T, 2)`` where the target is in the response.
    """

    state: MatchState
    hidden: Tensor
    cells: Tensor

    def seen(self, count: int | None = None) -> slice:
        """Return which patches are seen: all, or the first ``count``."""
        return slice(0, None if count is None else 2 * count, 2)


class Extra(NamedTuple):
    """What is added to the matching network.

    Args:
        kernels: ``(E, C)`` or None.
        centre: ``(C, 1, 1)`` what is subtracted from the maps that the kernels see.
        gain: Of the response.
        offset: Of the response.
    """

    kernels: Tensor | None = None
    centre: Tensor | float = 0.0
    gain: Tensor | float = 1.0
    offset: Tensor | float = 0.0


def read_targets(name: str, network: MatchingNetwork, patches: int, drawn: int) -> list[Target]:
    """Return the targets of "drawn", "davis", or a folder in GOT-10k's layout."""
    data: TrackingData
    if name == "drawn":
        data, splits = DrawnVideos(episodes=EpisodeCounts(1, 1, drawn)), ("test",)
    elif name == "davis":
        data, splits = DAVISVideos(), ("test",)
    else:
        data, splits = GOT10k(folder=name), ("train", "val")
    targets = (_target(data, split, i, network, patches) for split in splits for i in range(data.count(split)))
    return [target for target in targets if target is not None]


@torch.no_grad()
def _target(data: TrackingData, split: str, number: int, network: MatchingNetwork, patches: int) -> Target | None:
    target, rng = data.target(split, number), np.random.default_rng(number)
    boxes = target.boxes()[: len(target)].float()
    times = valid(boxes, 4.0).nonzero()[:, 0]
    if len(times) <= patches or times[0] != 0:
        return None
    chosen = times[torch.linspace(1, len(times) - 1, patches).round().long()].tolist()
    cut = [cut_search(target.frames[t], boxes[t], CROPS, rng) for t in chosen]
    cells = target_cells(torch.cat([box for _, box in cut]), CROPS.exemplar, network.stream.stride).float()
    state = network.adapt(cut_exemplar(target.frames[0], boxes[0], CROPS)[0][None])
    return Target(state, network.hidden(torch.stack([image for image, _ in cut])), cells)


def responses(network: MatchingNetwork, target: Target, extra: Extra, which: slice) -> Tensor:
    """Return responses ``(n, H', W')`` to some of a target's patches."""
    hidden, template = target.hidden[which], target.state.hidden
    maps, exemplar = network.embed(hidden), target.state.template
    if extra.kernels is not None:
        maps, exemplar = (_embed(network, part, extra) for part in (hidden, template))
    cells = exemplar.shape[2] * exemplar.shape[3]
    return extra.gain * network.response(exemplar / cells, maps)[0] + extra.offset


def _embed(network: MatchingNetwork, hidden: Tensor, extra: Extra) -> Tensor:
    layer = network.last_layer()
    common = nn.functional.conv2d(hidden, (layer.scale[:, None] * layer.weight)[..., None, None], layer.shift)
    own = nn.functional.conv2d(hidden - extra.centre, extra.kernels[..., None, None])
    return nn.functional.normalize(torch.cat((common, own), 1), dim=1)


def loss_of(network: MatchingNetwork, loss: ResponseLoss, target: Target, extra: Extra, which: slice) -> Tensor:
    """Return the loss on some of a target's patches."""
    maps = responses(network, target, extra, which)
    return loss(maps, loss.target(target.cells[which], maps.shape[-1]))


def fit(parameters: list[Tensor], losses: Callable[[int], Tensor], steps: int, rate: float) -> None:
    """Take Adam's steps on ``losses(step)``."""
    optimizer = torch.optim.Adam(parameters, rate)
    for step in range(steps):
        optimizer.zero_grad()
        losses(step).backward()
        optimizer.step()


class Oracle:
    """Fit what is added to a matching network.

    Args:
        network: In evaluation mode.
        loss: That it trains on.
        kernels: E.
        steps: Of Adam, for each target.
    """

    def __init__(self, network: MatchingNetwork, loss: ResponseLoss, kernels: int, steps: int) -> None:
        self.network = network
        self.loss = loss
        self.kernels = kernels
        self.steps = steps

    def start(self, channels: int) -> Tensor:
        """Return kernels like the meta-learner's first ones."""
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(self.kernels, channels, generator=generator) * START * channels**-0.5
        return drawn.requires_grad_()

    def adjusted(self, target: Target) -> Extra:
        """Fit gain and offset on M patches."""
        gain, offset = torch.ones((), requires_grad=True), torch.zeros((), requires_grad=True)
        extra = Extra(gain=gain, offset=offset)
        self._fit([gain, offset], target, extra, target.seen(SIZE), RATES["adjust"])
        return extra

    def specific(self, target: Target, count: int | None, centre: Tensor | float = 0.0) -> Extra:
        """Fit kernels to a target."""
        extra = Extra(self.start(target.hidden.shape[1]), centre)
        self._fit([extra.kernels], target, extra, target.seen(count), RATES["kernels"])
        return extra

    def common(self, targets: list[Target], centre: Tensor | float = 0.0) -> Extra:
        """Fit one bank of kernels to targets in turn."""
        extra = Extra(self.start(targets[0].hidden.shape[1]), centre)
        order = torch.randperm(len(targets) * 4, generator=torch.Generator().manual_seed(0)) % len(targets)

        def losses(step: int) -> Tensor:
            target = targets[int(order[step % len(order)])]
            return loss_of(self.network, self.loss, target, extra, target.seen())

        fit([extra.kernels], losses, len(order), RATES["kernels"])
        return extra

    def _fit(self, parameters: list[Tensor], target: Target, extra: Extra, which: slice, rate: float) -> None:
        fit(parameters, lambda step: loss_of(self.network, self.loss, target, extra, which), self.steps, rate)

    @torch.no_grad()
    def judged(self, target: Target, extra: Extra) -> tuple[float, float]:
        """Return loss and hits on held-out patches."""
        held_out = slice(1, None, 2)
        maps, cells = responses(self.network, target, extra, held_out), target.cells[held_out]
        best = maps.flatten(1).argmax(1)
        places = torch.stack((best % maps.shape[2], best // maps.shape[2]), 1)
        hits = (places - cells).norm(dim=1) <= NEAR
        return loss_of(self.network, self.loss, target, extra, held_out).item(), hits.float().mean().item()


def centre_of(targets: list[Target]) -> Tensor:
    """Return the mean of seen hidden maps ``(C, 1, 1)``."""
    return torch.stack([t.hidden[t.seen()].mean((0, 2, 3)) for t in targets]).mean(0)[:, None, None]


def run(oracle: Oracle, targets: list[Target], meta: MetaLearnerTracker | None) -> dict[str, Tensor]:
    """Return loss and hits of every target, ``(N, 2)`` by what was added."""
    rows: dict[str, list[tuple[float, float]]] = {}
    folds = [targets[1::2], targets[::2]]  # of target i the other half
    centres = [centre_of(fold) for fold in folds]
    banks = [[oracle.common(fold), oracle.common(fold, c)] for fold, c in zip(folds, centres, strict=True)]
    for i, target in enumerate(targets):
        centre, (bank, centred) = centres[i % 2], banks[i % 2]
        added = {
            "the network alone": Extra(),
            "gain and offset": oracle.adjusted(target),
            "kernels, M patches": oracle.specific(target, SIZE),
            "kernels, M patches, centred": oracle.specific(target, SIZE, centre),
            "kernels, all seen": oracle.specific(target, None),
            "kernels, all seen, centred": oracle.specific(target, None, centre),
            "common kernels": bank,
            "common kernels, centred": centred,
        }
        if meta is not None:
            added["meta-learner, M patches"] = _from_meta(meta, target)
        for name, extra in added.items():
            rows.setdefault(name, []).append(oracle.judged(target, extra))
    return {name: torch.tensor(values) for name, values in rows.items()}


@torch.no_grad()
def _from_meta(meta: MetaLearnerTracker, target: Target) -> Extra:
    which = target.seen(SIZE)
    hidden, cells = target.hidden[which], target.cells[which]
    wanted = meta.response_loss.target(cells, hidden.shape[-1] - target.state.hidden.shape[-1] + 1)
    return Extra(meta.specialiser().from_hidden(target.state, hidden, wanted).kernels[0])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", help="of a MatchingTracker")
    parser.add_argument("--meta", help="checkpoint of a MetaLearnerTracker on it")
    parser.add_argument("--data", nargs="+", default=["videos", "videos-2", "davis", "drawn"])
    parser.add_argument("--drawn", type=int, default=40, help="drawn videos")
    parser.add_argument("--patches", type=int, default=16, help="of each target")
    parser.add_argument("--kernels", type=int, default=16, help="E")
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    torch.manual_seed(0)
    module = build_module(options.checkpoint).requires_grad_(False)
    targets = [t for n in options.data for t in read_targets(n, module.network, options.patches, options.drawn)]
    oracle = Oracle(module.network, module.response_loss, options.kernels, options.steps)
    results = run(oracle, targets, None if options.meta is None else build_module(options.meta).requires_grad_(False))
    alone = results["the network alone"]
    print(f"{len(targets)} targets, {len(targets) * options.patches // 2} held-out patches\n")
    print("| added | loss | difference | hits | difference |\n|---|---:|---:|---:|---:|")
    for name, values in results.items():
        cells = [f"{e.value:.3f} ± {(e.high - e.low) / 2:.3f}" for e in _estimates(values, alone)]
        print(f"| {name} | {' | '.join(cells)} |")


def _estimates(values: Tensor, alone: Tensor) -> list:
    return [mean_interval(v) for i in (0, 1) for v in (values[:, i], values[:, i] - alone[:, i])]


if __name__ == "__main__":
    main()
