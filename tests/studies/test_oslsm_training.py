"""The bench of OSLSM's last layers: its own parts on a tiny network, without data."""

import oslsm_pairs
import oslsm_training as study
import pytest
import torch

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.oslsm import OSLSMSegmenter
from lightning_fewshot.models.oslsm.settings import (
    ImageSides,
    PixelLoss,
    Prototypes,
    SegmentationBranchSettings,
    SupportEncoder,
)
from lightning_fewshot.settings import BackboneSettings


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return OSLSMSegmenter(
        backbone=BackboneSettings("efficientnet_lite0", frozen_stages=5, frozen_batchnorm=True),
        branch=SegmentationBranchSettings(output_stride=32, dropout=0.0, feature_norm=True),
        sides=ImageSides(query_size=65, align_corners=True),
        encoder=SupportEncoder(pooling=Prototypes(0.5), prototype_init=True, size=65),
        loss=PixelLoss(dice=0.5, contrast=0.25),
    ).eval()


def episode(n=3):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, 3, 65, 65), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(n, 65, 65, dtype=torch.uint8)
    for i in range(n):
        masks[i, 8 + 8 * i : 40, 4:44] = i + 1
    part = Examples(images, torch.arange(n), class_masks=masks, names=tuple("abc"[:n]))
    support = part._replace(images=images.flip(3), class_masks=masks.flip(2), query_index=torch.arange(n))
    return Episode(support, part, tuple("xyz"[:n]), 0, tuple(range(n)), "pairs")


def test_cached_pairs_give_the_loss_and_the_scores_of_the_module(module):
    pairs = oslsm_pairs.cached(module, episode(), coarse=False)
    with torch.no_grad():
        terms = module.loss(episode())
        ours = study.loss_of(module, pairs, module.pixel_loss)
    torch.testing.assert_close(ours, sum(terms.values()), rtol=2e-2, atol=2e-2)  # half precision is kept
    state = module.adapt(episode().support._replace(query_index=None))
    preds = module.predict(state, episode().query)
    for pred, (probs, _) in zip(preds, study.scores_of(module, pairs), strict=True):
        torch.testing.assert_close(pred.probs[0], probs, rtol=2e-2, atol=2e-2)


def test_a_mismatched_support_asks_for_another_class(module):
    pairs = oslsm_pairs.cached(module, episode(), coarse=True)
    assert pairs.masks.shape[-2:] == (17, 17)
    other = study.mismatched(pairs)
    assert torch.equal(other.prototypes, pairs.prototypes[[1, 2, 0]])
    assert torch.equal(other.maps, pairs.maps)


def test_training_lowers_the_loss_and_moves_what_a_recipe_names(module):
    pairs = oslsm_pairs.cached(module, episode(), coarse=True)
    pairs = oslsm_pairs.Pairs(*(part.repeat(3, *[1] * (part.dim() - 1)) for part in pairs))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    first = float(study.loss_of(module, pairs, study.DICE).detach())
    study.train(module, pairs, study.Recipe(phi=0.0, g=1e-2, steps=12))
    moved = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rpartition(".")[0] for name in moved} == {"conditioning.network.body.classifier"}
    assert float(study.loss_of(module, pairs, study.DICE).detach()) < first
