"""Learned rates: no step of an optimiser makes one negative, and every step changes it by a share of itself."""

import pytest
import torch

from lightning_fewshot.models.metartt.rates import Rates


def test_rates_start_at_their_first_value(network):
    for step in Rates(network, 3, "vector", 0.02).steps():
        for name, p in network.head().items():
            torch.testing.assert_close(step[name], torch.full_like(p, 0.02))


@pytest.mark.parametrize("kind", ["vector", "scalar"])
def test_adam_cannot_flip_a_sign(network, kind):
    """A rate of 0.001 that is pulled down 500 times at a learning rate of 0.1, a hundred times its size."""
    rates = Rates(network, 2, kind, 0.001)
    optimizer = torch.optim.Adam(rates.parameters(), lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        sum(value.sum() for step in rates.steps() for value in step.values()).backward()
        optimizer.step()
    assert all((value > 0).all() for step in rates.steps() for value in step.values())


def test_a_step_of_adam_is_a_share_of_the_rate(network):
    """The first step of Adam is its learning rate, whatever the gradient: exp(-0.01) of the rate remains."""
    rates = Rates(network, 1, "vector", 0.001)
    optimizer = torch.optim.Adam(rates.parameters(), lr=0.01)
    sum(value.sum() for value in rates.steps()[0].values()).backward()
    optimizer.step()
    expected = torch.tensor(0.001 * 2.718281828**-0.01)
    torch.testing.assert_close(rates.steps()[0]["fc5.bias"][0, 0], expected, rtol=1e-4, atol=0)


def test_a_fixed_rate_is_not_learned(network):
    rates = Rates(network, 2, "fixed", 0.02)
    assert not list(rates.parameters())
    assert rates.steps()[1]["fc4.weight"].item() == pytest.approx(0.02)
