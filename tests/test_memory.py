"""The memory of a training step, estimated: parts are compared with what torch itself keeps."""

import re
from pathlib import Path

import pytest
import torch
from tiny_experiments import FOLDER, command, header
from torch import nn

from datamodules.detection.coco import CocoDetection
from datamodules.detection.tiny_imagenet import Mosaic, TinyImageNetMosaics
from lightning_fewshot.cli import main
from lightning_fewshot.cli.estimate import stand_in
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.memory import examples_bytes, optimizer_bytes, saved_bytes, step_memory
from lightning_fewshot.settings import Optimization

FLOAT = 4
SMALL = 0.1  # GB; what needs more takes longer than the other tests may
PAPER_SCALE = sorted(
    path
    for path in FOLDER.rglob("*.yaml")
    if path.name in ("photos.yaml", "paper.yaml") or path.stem.endswith("_paper")
)


class Tiny(nn.Module):
    """Two convolutions; what a step needs of a paper's module."""

    def __init__(self, optimization=Optimization("AdamW")):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 2, 3, padding=1))
        self.optimization = optimization

    def parameter_groups(self):
        return [{"params": list(self.parameters()), "lr_factor": 0.5}]

    def loss(self, episode):
        return {"loss": self.network(episode.query.images.float()).mean()}


def episode(count, side=16):
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    return Episode(None, Examples(images), ("a",))


def by_hand(count, side=16):
    """Return what two convolutions with a ReLU keep: the first's input, and the ReLU's output, which they share."""
    return count * side * side * (3 + 5) * FLOAT


def kept_by_torch(run):
    """Return the bytes of all distinct tensors that autograd is given to keep."""
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.setdefault(t.untyped_storage().data_ptr(), t), lambda t: t
    ):
        result = run()
    del result
    return kept


def test_activations_are_what_autograd_keeps():
    tiny, e = Tiny(), episode(4)
    parameters = {p.untyped_storage().data_ptr() for p in tiny.parameters()}
    kept = kept_by_torch(lambda: tiny.loss(e))
    expected = sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in parameters)
    assert saved_bytes(lambda: tiny.loss(e), tiny) == expected == by_hand(4)


def test_a_step_is_continued_in_a_line():
    memory = step_memory(Tiny(), episode, batch_size=40)
    assert memory.activations == by_hand(40)
    assert memory.episode == 40 * 3 * 16 * 16
    assert memory.total == sum(vars(memory).values())
    assert "total" in str(memory)


def test_what_an_inner_loop_lets_go_is_not_added_up():
    tiny, e = Tiny(), episode(3)

    def adapt(steps):
        for _ in range(steps):
            torch.autograd.grad(tiny.loss(e)["loss"], list(tiny.parameters()))
        return tiny.loss(e)

    assert saved_bytes(lambda: adapt(4), tiny) == saved_bytes(lambda: adapt(1), tiny) == by_hand(3)


def test_mixed_precision_keeps_halves():
    tiny, e = Tiny(), episode(4)
    with_halves = saved_bytes(lambda: tiny.loss(e), tiny, torch.autocast("cpu", torch.bfloat16))
    weights = sum(p.numel() for p in tiny.parameters()) * 2  # autocast keeps a copy of them
    assert with_halves <= by_hand(4) / 2 + weights


@pytest.mark.parametrize(
    "optimization",
    [
        Optimization("AdamW"),
        Optimization("SGD"),
        Optimization("SGD", options={"momentum": 0.9, "fused": True}),
        Optimization("RMSprop", options={"momentum": 0.9, "centered": True}),
    ],
    ids=lambda o: f"{o.optimizer}{len(o.options)}",
)
def test_states_of_the_optimizer_are_those_after_a_step(optimization):
    tiny = Tiny(optimization)
    optimizer = optimization.make_optimizer(tiny.parameter_groups())
    tiny.loss(episode(1))["loss"].backward()
    optimizer.step()
    values = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    assert optimizer_bytes(tiny) == sum(v.numel() * v.element_size() for v in values)


def test_examples_count_whatever_holds_tensors():
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    boxes = [torch.zeros(2, 4), torch.zeros(0, 4)]
    assert examples_bytes(Examples(images, boxes=boxes)) == 96 + 32
    assert examples_bytes(None) == 0


def test_estimate_needs_neither_data_nor_a_run(in_tmp, capsys, monkeypatch):
    monkeypatch.setenv("FEWSHOT_DATA", str(in_tmp))
    configs = [f"--config={FOLDER}/mlt/{name}.yaml" for name in ("matching_paper", "matching_paper.tiny")]
    main(["fit", *configs, "--estimate"])
    said = capsys.readouterr().out
    assert "on DrawnVideos (drawn: ImageNetVID is not here)" in said
    assert "total" in said
    assert not list(Path().iterdir())


def test_a_stand_in_has_the_size_of_canvases_and_else_of_common_photos():
    assert stand_in(TinyImageNetMosaics(mosaic=Mosaic(canvas=96))).scene.image_size == 96
    assert stand_in(CocoDetection()).scene.image_size == 384


def stated(path):
    """Return the gigabytes that the header of a config states."""
    (value,) = re.findall(r"([\d.]+) GB a step by --estimate", "".join(header(path)))
    return float(value)


def _cases():
    slow = [pytest.mark.every_experiment, pytest.mark.slow]
    return [pytest.param(path, marks=slow * (stated(path) > SMALL), id=path.parent.name) for path in PAPER_SCALE]


@pytest.mark.parametrize("path", _cases())
def test_the_memory_of_every_paper_scale_config_stands_in_it(path, in_tmp, capsys, monkeypatch):
    monkeypatch.setenv("FEWSHOT_DATA", str(in_tmp))
    _, configs, others = command(path)
    main(["fit", *(f"--config={config}" for config in configs), *others, "--estimate"])
    (total,) = re.findall(r"total +([\d.]+) GB", capsys.readouterr().out)
    assert float(total) == pytest.approx(stated(path), rel=0.05)
