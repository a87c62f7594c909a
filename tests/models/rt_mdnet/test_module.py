"""RT-MDNet as a module: a layer for every video, a fresh last layer for every target, the instance embedding loss."""

import pytest
import torch
from clips import clip_episode
from torch.nn.functional import cross_entropy

from lightning_fewshot.models.rt_mdnet import RTMDNet
from lightning_fewshot.models.rt_mdnet.loss import instance_loss
from lightning_fewshot.models.rt_mdnet.settings import Domains, SGDAdaptation


def test_rt_mdnet_learns_a_layer_for_every_video(tiny):
    module = RTMDNet(**tiny, domains=Domains(7))
    episode = clip_episode(2)._replace(class_ids=(3, 12))
    sum(module.loss(episode).values()).backward()
    touched = module.branches.grad[:, 1].abs().sum(1) > 0  # negative rows: no instance loss
    assert touched.nonzero().flatten().tolist() == [3, 5]
    with pytest.raises(ValueError, match="no class_ids"):
        module.loss(episode._replace(class_ids=None))


def test_rt_mdnet_starts_from_a_fresh_last_layer(tiny):
    module = RTMDNet(**tiny)
    first, second = module.start(), module.start()
    assert not torch.equal(first["fc6.weight"], second["fc6.weight"])
    assert torch.equal(first["fc4.weight"], second["fc4.weight"])


def test_without_the_instance_loss_there_is_one_term(tiny):
    module = RTMDNet(**tiny, domains=Domains(7, instance_weight=0.0))
    assert set(module.loss(clip_episode(2))) == {"classification"}


def test_instance_loss_is_cross_entropy_among_domains():
    logits, domain = torch.randn(2, 3, 4), torch.tensor([1, 3])
    each = [cross_entropy(logits[p], domain[p].repeat(3)) for p in range(2)]
    torch.testing.assert_close(instance_loss(logits, domain), torch.stack(each).mean())


@pytest.mark.parametrize(
    ("group", "values", "message"),
    [
        (Domains, {"count": 0}, r"domains\.count is 0 but must be at least 1"),
        (Domains, {"instance_weight": -1.0}, r"instance_weight is -1\.0"),
        (SGDAdaptation, {"k_init": 0}, "k_init is 0 but must be at least 1"),
        (SGDAdaptation, {"k_on": 0}, "k_on is 0 but must be at least 1"),
        (SGDAdaptation, {"online_lr": 0.0}, r"online_lr is 0\.0 but must be above 0"),
    ],
)
def test_numbers_are_checked(group, values, message):
    with pytest.raises(ValueError, match=message):
        group(**values)


def test_the_dropout_is_checked(tiny):
    with pytest.raises(ValueError, match=r"drop is 1\.0 but must be at least 0 and below 1"):
        RTMDNet(**tiny, drop=1.0)
