"""OSLSM alone: its losses, its shots, its learning rates."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.oslsm.grid import upsampled
from lightning_fewshot.models.oslsm.masks import support_objects
from lightning_fewshot.models.oslsm.settings import (
    ImageSides,
    NewLayers,
    PixelLoss,
    Prototypes,
    SegmentationBranchSettings,
    SupportEncoder,
)
from lightning_fewshot.settings import BackboneSettings

LITE = {"backbone": BackboneSettings("efficientnet_lite0"), "branch": SegmentationBranchSettings(16, dropout=0.0)}


def encoder(**options):
    return SupportEncoder(**{"size": 64, **options})


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        *((f"{name}Segmenter", {}) for name in ("OSLSM", "NearestNeighbour", "Logistic", "FineTuning", "Siamese")),
        *(("OSLSMSegmenter", {"encoder": encoder(**e)}) for e in ({"conditioning": "channel"}, {"hashing": False})),
        ("OSLSMSegmenter", {"encoder": encoder(pooling=Prototypes(0.5))}),
        *(
            ("OSLSMSegmenter", {"loss": PixelLoss(**p)})
            for p in ({"reduction": "sum"}, {"dice": 0.5}, {"contrast": 0.5})
        ),
        ("OSLSMSegmenter", {"shot_aggregation": "mean"}),
        ("OSLSMSegmenter", {**LITE, "encoder": encoder(prototype_init=True, code_norm=True)}),
    ],
    ids=str,
)
def test_losses_are_finite_and_reach_every_trained_parameter(scenes, segmenter, method, changes):
    module = segmenter(method, **changes)
    terms = module.loss(scenes.episode("train", 0))
    sum(terms.values()).backward()
    settings = changes.get("loss", PixelLoss())
    shares = {name for name in ("dice", "contrast") if getattr(settings, name)}
    assert set(terms) == ({"verification"} if method == "SiameseSegmenter" else {"pixels"}) | shares
    assert all(torch.isfinite(term) for term in terms.values())
    assert [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None] == []


def test_each_shot_is_a_classifier_of_its_own_and_predict_does_not_adapt(scenes, segmenter):
    module, episode = segmenter().eval(), scenes.episode("test", 0)
    state = module.adapt(episode.support)
    assert state.weight.shape == (2, 16)
    alone = module.adapt(Examples(*(None if p is None else p[:1] for p in episode.support)))
    torch.testing.assert_close(alone.weight[0], state.weight[0], atol=1e-5, rtol=1e-4)
    module.conditioning = None
    module.predict(state, episode.query)


def test_joined_shots_are_one_classifier_with_their_mean_score(scenes, segmenter):
    episode = scenes.episode("test", 0)
    each, joined = (segmenter(shot_aggregation=how).eval() for how in ("or", "mean"))
    assert len(joined.adapt(episode.support).weight) == 1
    with torch.no_grad():
        scores, mean = (m.logits(m.adapt(episode.support), episode.query.images)[0] for m in (each, joined))
    torch.testing.assert_close(mean[0], scores.mean(0), atol=1e-5, rtol=1e-4)


def test_one_batch_can_be_overfitted(make_scenes, segmenter):
    scenes = make_scenes(k_shot=1, batch_size=2, image_size=96)
    batch = pairs_as_classes(scenes.episode("train", 0))
    module = segmenter(branch=SegmentationBranchSettings(8, NewLayers(64, 3), 0.0), encoder=encoder(code_norm=True))
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        sum(module.loss(batch).values()).backward()
        optimizer.step()
    preds = module.predict(module.adapt(batch.support), batch.query)
    assert module.quality(batch, preds) > 0.6


def pairs_as_classes(batch):
    """Give a training batch as an episode in which every pair has a class of its own."""

    def own(part):
        masks = [
            (m == label + 1) * (i + 1) for i, (m, label) in enumerate(zip(part.class_masks, part.labels, strict=True))
        ]
        return part._replace(labels=torch.arange(len(masks)), class_masks=torch.stack(masks).to(torch.uint8))

    n = len(batch.query.labels)
    names = tuple(map(str, range(n)))
    return Episode(own(batch.support), own(batch.query), names, batch.index, tuple(range(n)))


@pytest.mark.parametrize(("join", "align"), [("or", False), ("mean", True)])
def test_contrast_asks_every_query_for_the_classes_of_all_pairs(scenes, segmenter, join, align):
    batch = scenes.episode("train", 1)
    module = segmenter(
        loss=PixelLoss(contrast=0.25, dice=0.25), shot_aggregation=join, sides=ImageSides(align_corners=align)
    ).eval()
    masks, labels = batch.query.class_masks.clone(), batch.query.labels
    masks[0, :5] = 255
    batch = batch._replace(query=batch.query._replace(class_masks=masks))
    terms = module.loss(batch)
    with torch.no_grad():
        weight, bias = module.conditioning(batch.support.images, torch.stack(support_objects(batch.support)))
        cells = (
            torch.einsum("pd,qdhw->pqhw", weight, module.batch_features(batch.query.images)) + bias[:, None, None, None]
        )
        scores = upsampled(cells, (64, 64), align).double()
    known = masks != 255
    own, losses, overlaps = [], [], []
    for p, label in enumerate(labels.tolist()):
        truth = (masks == label + 1).double()
        losses.append(binary_cross_entropy_with_logits(scores[p, p], truth[p], reduction="none")[known[p]])
        chance = scores[p].sigmoid() * known
        own.append(2 * (chance[p] * truth[p]).sum() / (chance[p].sum() + truth[p].sum()))
        overlaps.append(2 * (chance * truth).sum() / (chance.sum() + truth.sum()))
    assert terms["pixels"].item() == pytest.approx(0.5 * torch.cat(losses).mean().item(), rel=1e-4)
    assert terms["dice"].item() == pytest.approx(0.25 * (1 - torch.stack(own).mean().item()), rel=1e-4)
    assert terms["contrast"].item() == pytest.approx(0.25 * (1 - torch.stack(overlaps).mean().item()), rel=1e-4)


def test_the_conditioning_branch_learns_slower_and_only_matrices_decay(segmenter):
    module = segmenter(encoder=encoder(lr_factor=0.1), bias_lr_factor=2.0)
    groups = module.parameter_groups()
    slow = {id(p) for p in module.conditioning.network.parameters()}
    assert sum(len(g["params"]) for g in groups) == len(list(module.parameters()))
    for group in groups:
        assert {id(p) in slow for p in group["params"]} == {group["lr_factor"] in (0.1, 0.2)}
        assert group["lr_factor"] in ((0.2, 2.0) if "weight_decay" in group else (0.1, 1.0))
        assert {p.ndim > 1 for p in group["params"]} == {"weight_decay" not in group}


@pytest.mark.parametrize("how", ["or", "mean"])
@pytest.mark.parametrize("contrast", [0.0, 1.0])
def test_shots_belong_to_queries_by_their_index_and_not_by_their_place(make_scenes, segmenter, how, contrast):
    batch = make_scenes(batch_size=2).episode("train", 0)
    support = batch.support
    index = torch.tensor([0, 0, 1])  # the first query image has two shots, the second one
    images, masks = support.images[[0, 0, 1]], support.class_masks[[0, 0, 1]]
    images[1] = images[1].flip(0)
    shots = Examples(images, support.labels[[0, 0, 1]], class_masks=masks, query_index=index)
    module = segmenter(shot_aggregation=how, loss=PixelLoss(contrast=contrast)).eval()
    order = torch.tensor([2, 0, 1])
    shuffled = Examples(images[order], shots.labels[order], class_masks=masks[order], query_index=index[order])
    with torch.no_grad():
        expected, found = (module.loss(batch._replace(support=part)) for part in (shots, shuffled))
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-4)


@pytest.mark.parametrize("how", ["or", "mean"])
def test_training_joins_shots_as_prediction_does(make_scenes, segmenter, how):
    """Eq. (3) of a training batch of one pair with two shots is that of the probabilities that predict gives."""
    episode = make_scenes(k_shot=2).episode("test", 0)
    module = segmenter(shot_aggregation=how).eval()
    batch = episode._replace(support=episode.support._replace(query_index=torch.zeros(2, dtype=torch.int64)))
    with torch.no_grad():
        (pred,) = module(episode)
        loss = module.loss(batch)["pixels"].item()
    truth = (episode.query.class_masks == 1).float()
    expected = torch.nn.functional.binary_cross_entropy(pred.probs, truth)
    assert loss == pytest.approx(expected.item(), rel=1e-4)


def test_pairs_that_do_not_say_whose_their_shots_are_are_refused(scenes, segmenter):
    batch = scenes.episode("train", 0)
    with pytest.raises(ValueError, match=r"training needs support\.query_index"):
        segmenter().loss(batch._replace(support=batch.support._replace(query_index=None)))
    one = batch.support._replace(query_index=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="query_index gives shots to 1 of 3 query images"):
        segmenter().loss(batch._replace(support=one))
