import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, MultiStepLR

from lightning_fewshot.schedules import lr_factor
from lightning_fewshot.settings import Optimization


def _torch_factors(make, total):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, factors = make(optimizer), []
    for _ in range(total + 1):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        ("cosine", lambda o: CosineAnnealingLR(o, 50, eta_min=0.01)),
        ("geometric", lambda o: ExponentialLR(o, 0.01 ** (1 / 50))),
        ("steps", lambda o: MultiStepLR(o, [30, 45], 0.1)),
    ],
)
def test_schedules_are_those_of_torch(schedule, make):
    ours = [lr_factor(step, 50, schedule, final=0.01) for step in range(51)]
    assert ours == pytest.approx(_torch_factors(make, 50))


def test_warmup_rises_to_one_and_the_end_is_not_left():
    rise = [lr_factor(step, 100, "constant", warmup=0.1) for step in range(12)]
    assert rise == pytest.approx([0.1 * n for n in range(1, 11)] + [1, 1])
    assert lr_factor(150, 100, "cosine", final=0.02) == pytest.approx(0.02)
    assert lr_factor(0, 0) > 0


def test_the_milestones_of_a_run_are_settings():
    settings = Optimization("SGD", lr=0.5, schedule="steps", milestones=[0.2, 0.3])
    optimizer = settings.make_optimizer([{"params": [torch.nn.Parameter(torch.zeros(1))]}])
    schedule, rates = settings.make_schedule(optimizer, 20), []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.5] * 4 + [0.05] * 2 + [0.005] * 14)


@pytest.mark.parametrize("milestones", [(0.3, 0.2), (0.0, 0.5), (0.5, 1.0), (0.4, 0.4)])
def test_milestones_rise_within_the_run(milestones):
    with pytest.raises(ValueError, match="milestones is"):
        Optimization(schedule="steps", milestones=milestones)
