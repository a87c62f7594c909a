"""The simulated GPU of the tests sees what CUDA would refuse and what would wait, and nothing else."""

import pytest
import torch
from simulated_device import GPU, SimulatedDevice

CASES = [
    (lambda x: x.sum().item(), 1),
    (lambda x: bool((x > 0).any()), 1),
    (lambda x: (x > 0).nonzero(), 1),
    (lambda x: x[x > 0], 1),
    (lambda x: x.cpu(), 1),
    (lambda x: x.to("cpu", non_blocking=True), 0),
    (lambda x: x.tolist(), 1),
    (lambda x: torch.tensor([1.0, 2.0], device=x.device) + x[:2], 1),
    (lambda x: torch.arange(3, device=x.device) + x, 0),
    (lambda x: x.new_zeros(3) + torch.zeros_like(x) + torch.zeros(3, dtype=x.dtype, device=x.device), 0),
    (lambda x: x + torch.tensor(1.0), 0),  # a number of the CPU travels with the operation
    (lambda x: x.clone().masked_fill_(x > 0, 0), 0),
    (lambda x: x.clone().__setitem__(x > 0, 0.0), 0),
    (lambda x: x.clone().__setitem__(1, 0.0), 0),
    (lambda x: x.clone().__setitem__(1, torch.tensor(0.0)), 1),
    (lambda x: torch.nn.functional.normalize(x[None]).T.reshape(-1)[1:], 0),
    (lambda x: x.repeat_interleave(torch.ones(3, dtype=torch.long, device=x.device)), 1),
    (lambda x: x.repeat_interleave(torch.ones(3, dtype=torch.long, device=x.device), output_size=3), 0),
]


@pytest.fixture
def device():
    with SimulatedDevice() as device, device.during("here"):
        yield device


@pytest.mark.parametrize(("call", "waits"), CASES, ids=[str(i) for i in range(len(CASES))])
def test_waits_are_counted(device, call, waits):
    x = torch.arange(3.0).to(GPU, non_blocking=True)
    call(x)
    assert device.count("here") == waits, device.waits
    assert not device.mixed


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.stack([x.sum(), torch.tensor(1.0)]),
        lambda x: torch.ones(3)[x.long()],
        lambda x: x.numpy(),
        lambda x: torch.rand(3, device=x.device, generator=torch.Generator()),
        lambda x: torch.nn.Linear(3, 2)(x),
    ],
)
def test_mixing_is_refused(device, call):
    call(torch.arange(3.0).to(GPU, non_blocking=True))
    assert device.mixed


def test_parameters_move_and_the_backward_pass_is_seen(device):
    layer = torch.nn.Linear(3, 2).to(GPU)
    assert layer.weight.device == GPU
    loss = layer(torch.ones(4, 3, device=GPU)[1:]).square().mean()
    loss.backward()
    assert device.holds(layer.weight.grad)
    torch.optim.AdamW(layer.parameters()).step()
    assert not device.mixed
    layer.cpu()
    assert layer.weight.device.type == "cpu"
    layer(torch.ones(4, 3))
    assert not device.mixed


def test_a_freed_storage_leaves_no_trace(device):
    for _ in range(100):
        torch.ones(1000, device=GPU)
        assert not device.holds(torch.ones(1000))
