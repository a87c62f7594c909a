"""Speed of RepMet's parts as ratios within one run. Run with `pytest tests/benchmarks/test_repmet_speed.py -s`.

Processor time is counted on one thread, so that other work on the machine does not change a ratio.
"""

from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from timing import say, seconds

from lightning_fewshot.data import EpisodicDataModule
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.nn.roi_pooling import PyramidPool

STRIDES, SIDE, CHANNELS, IMAGES, ROIS = (8, 16, 32), 128, 64, 8, 37  # experiments/repmet.yaml

pytestmark = pytest.mark.usefixtures("one_thread")


def test_pooling_by_products_against_torchvision():
    """Forward and backward over a training batch."""
    shapes = [(IMAGES, CHANNELS, SIDE // stride, SIDE // stride) for stride in STRIDES]
    pyramid = {str(i): torch.randn(shape, requires_grad=True) for i, shape in enumerate(shapes)}
    corner = torch.rand(IMAGES, ROIS, 2) * 80
    rois = list(torch.cat([corner, corner + 15 + torch.rand(IMAGES, ROIS, 2) * 45], dim=2))
    pool = PyramidPool(STRIDES, size=5, canonical_scale=224, canonical_level=4)
    products = seconds(lambda: pool.by_products(list(pyramid.values()), rois).sum().backward(), 4)
    torchvisions = seconds(lambda: pool.align(pyramid, rois, [(SIDE, SIDE)] * IMAGES).sum().backward(), 4)
    say(f"RoIAlign of {IMAGES * ROIS} rois: {torchvisions / products:.1f} times torchvision's speed")
    assert torchvisions / products >= 1.5


def test_shares_of_a_training_step():
    """Where the time of experiments/repmet.yaml goes: each part forward and backward on what it gets in training."""
    module, data = _main_experiment()
    episode, network = data.episode("train", 1), module.network
    query = episode.query
    maps = network.maps(query.images)
    leaves = maps._replace(pyramid={name: m.detach().requires_grad_() for name, m in maps.pyramid.items()})
    boxes = maps.scaled(query.boxes)
    rois = [torch.cat([p, b]) for p, b in zip(network.propose(leaves, boxes).boxes, boxes, strict=True)]
    pooled = network.pooled(leaves, rois).detach().requires_grad_()
    optimizer = module.optimization.make_optimizer(module.parameter_groups())
    parts = {
        "backbone and pyramid": lambda: sum(m.sum() for m in network.maps(query.images).pyramid.values()).backward(),
        "region proposals": lambda: sum(network.propose(leaves, boxes).losses.values()).backward(),
        "RoI pooling": lambda: network.pooled(leaves, rois).sum().backward(),
        "head": lambda: network.head(pooled).sum().backward(),
        "optimiser": optimizer.step,
    }
    whole = seconds(lambda: sum(module.loss(episode).values()).backward(), 5)
    times = {name: seconds(part, 5) for name, part in parts.items()}
    whole += times["optimiser"]
    draw = seconds(lambda: data.episode("train", 2), 5)
    shares = ", ".join(f"{name} {t / whole:.0%}" for name, t in times.items())
    rest = 1 - sum(times.values()) / whole
    say(f"a step of repmet.yaml: {shares}, losses and the rest {rest:.0%}; drawing beside it {draw / whole:.0%}")
    assert draw < whole  # another process draws: training never waits for it


def _main_experiment():
    settings = yaml.safe_load(Path("experiments/repmet.yaml").read_text())
    parser = ArgumentParser()
    parser.add_subclass_arguments(FewShotModule, "model")
    parser.add_subclass_arguments(EpisodicDataModule, "data")
    made = parser.instantiate_classes(parser.parse_object({key: settings[key] for key in ("model", "data")}))
    made.model.set_classes(made.data.class_names())
    return made.model.train(), made.data
