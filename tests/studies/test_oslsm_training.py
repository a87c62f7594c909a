"""The bench of OSLSM's last layers: its own parts on a tiny network, without data."""

from copy import deepcopy
from types import SimpleNamespace

import oslsm_training
import pytest
import torch
from oslsm_bench import baselines
from oslsm_bench import pairs as oslsm_pairs
from oslsm_bench import recipes as study
from oslsm_bench import rows as oslsm_rows
from oslsm_bench import siamese as oslsm_siamese

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.oslsm import (
    CopyMaskSegmenter,
    FineTuningSegmenter,
    LogisticSegmenter,
    NearestNeighbourSegmenter,
    OSLSMSegmenter,
    PrototypeSegmenter,
)
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
        encoder=SupportEncoder(pooling=Prototypes(0.5), prototype_init=True, size=65, learned_bias=True),
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
    found = study.oslsm(module)(oslsm_rows.Questions(pairs))
    for pred, probs in zip(preds, found, strict=True):
        torch.testing.assert_close(pred.probs[0], probs, rtol=2e-2, atol=2e-2)


def several_shots(n=2):
    """Return an evaluation episode of one query image with n shots of its class."""
    full = episode()
    shots = full.support._replace(query_index=None)
    masks = (shots.class_masks > 0).to(torch.uint8)
    support = Examples(shots.images[:n], torch.zeros(n, dtype=torch.int64), class_masks=masks[:n], names=("d", "e")[:n])
    query = Examples(full.query.images[:1], torch.tensor([0]), class_masks=full.query.class_masks[:1], names=("a",))
    return Episode(support, query, ("x",), 0, (0,), "episode")


def questions_of(module, *episodes):
    pairs = [oslsm_pairs.cached(module, e, coarse=False) for e in episodes]
    pairs = oslsm_pairs.Pairs(*(torch.cat(part) for part in zip(*pairs, strict=True)))
    features, index = oslsm_pairs.distinct(iter(episodes), lambda *shot: oslsm_pairs.one_seen(module, *shot))
    known = oslsm_pairs.distinct(iter(episodes), lambda *shot: oslsm_pairs.one_support(module, *shot))
    return oslsm_rows.Questions(pairs._replace(seen=features[index]), oslsm_pairs.Supports(*known))


def test_several_shots_are_those_of_the_module(module):
    module = deepcopy(module)
    module.shot_aggregation = "mean"
    asked = several_shots()
    pred = module.predict(module.adapt(asked.support), asked.query)[0]
    (probs,) = study.oslsm(module)(questions_of(module, asked))
    torch.testing.assert_close(pred.probs[0], probs, rtol=2e-2, atol=2e-2)
    one = oslsm_rows.with_shots(questions_of(module, asked), 1)
    assert one.pairs.seen.shape[1] == one.supports.index.shape[1] == 1


@pytest.mark.parametrize("shots", [1, 2])
def test_the_row_of_prototypes_is_that_of_its_class(module, shots):
    reference = PrototypeSegmenter(
        backbone=BackboneSettings("efficientnet_lite0", frozen_stages=5, frozen_batchnorm=True),
        branch=SegmentationBranchSettings(output_stride=32, dropout=0.0, feature_norm=True),
        sides=ImageSides(query_size=65, align_corners=True),
    )
    module = deepcopy(module)
    module.segmentation.train()
    with torch.no_grad():
        module.segmentation.top(module.segmentation.maps(episode().query.images.float()))  # statistics
    module.segmentation.eval()
    reference.segmentation.load_state_dict(module.segmentation.state_dict())
    asked = several_shots(shots)
    with torch.no_grad():
        pred = reference.eval()(asked)[0]
        (probs,) = baselines.untrained_prototypes(module.segmentation)(questions_of(module, asked))
    torch.testing.assert_close(pred.probs[0], probs, rtol=2e-2, atol=2e-2)
    copied = CopyMaskSegmenter()(asked)[0].probs[0]
    torch.testing.assert_close(next(oslsm_rows.copied_mask(questions_of(module, asked))), copied)


@pytest.mark.parametrize(
    ("method", "segmenter"),
    [
        (baselines.nearest_neighbours, NearestNeighbourSegmenter),
        (baselines.logistic, LogisticSegmenter),
        (baselines.fine_tuning, FineTuningSegmenter),
    ],
)
def test_the_rows_of_labelled_locations_are_those_of_their_classes(module, method, segmenter):
    reference = segmenter(
        backbone=BackboneSettings("efficientnet_lite0", frozen_stages=5, frozen_batchnorm=True),
        branch=SegmentationBranchSettings(output_stride=32, dropout=0.0, feature_norm=True),
        sides=ImageSides(query_size=65, align_corners=True),
    ).eval()
    reference.segmentation.load_state_dict(module.segmentation.state_dict())
    reference.segmentation.norm.calibrated = True  # the statistics are one set for all images
    module, asked = deepcopy(module), several_shots()
    module.segmentation = reference.segmentation
    with torch.no_grad():
        found = next(method(reference.segmentation)(questions_of(module, asked)))
    torch.testing.assert_close(reference(asked)[0].probs[0], found, rtol=5e-2, atol=5e-2)  # half precision is kept


def test_siamese_matching_learns_what_is_of_one_kind(module):
    pairs = oslsm_pairs.cached(module, episode(), coarse=True)
    known = oslsm_pairs.distinct(iter([episode()]), lambda *shot: oslsm_pairs.one_support(module, *shot))
    supports = oslsm_pairs.Supports(*known)
    maps = torch.randn(2, *pairs.maps.shape[1:], generator=torch.Generator().manual_seed(0))
    mark = torch.zeros_like(supports.labels[:, 0])
    mark[:, :2] = True  # the object's locations look alike in query and support, as do the others'
    fake = torch.where(mark[:, None], maps[0], maps[1])
    supports = supports._replace(maps=fake, labels=torch.stack([mark, torch.ones_like(mark)], dim=1))
    masks = torch.zeros_like(pairs.masks)
    masks[:, :13] = 1
    pairs = pairs._replace(maps=fake.flip(3), masks=masks)
    module = deepcopy(module)
    module.segmentation.norm.calibrated = True
    method = oslsm_siamese.siamese(module.segmentation, pairs, supports, steps=40)
    probs = next(method(oslsm_rows.Questions(pairs, supports)))
    inside = masks[0] == 1
    assert probs[inside].mean() > 0.5 > probs[~inside].mean()


def test_a_support_that_is_asked_twice_is_computed_once(module):
    calls = []
    asked = several_shots()
    values, index = oslsm_pairs.distinct(iter([asked, asked]), lambda *shot: (calls.append(1) or torch.ones(1),))
    assert len(calls) == len(values) == 2
    assert index.tolist() == [[0, 1], [0, 1]]
    _, index = oslsm_pairs.distinct(iter([episode(), episode()]), lambda *shot: (torch.ones(1),))
    assert index.tolist() == [[i] for i in range(6)]  # augmented: each its own


def test_masked_supports_are_seen_as_the_network_does(module):
    masked = OSLSMSegmenter(
        backbone=BackboneSettings("efficientnet_lite0"),
        branch=SegmentationBranchSettings(output_stride=32),
        encoder=SupportEncoder(size=65, crop=True),
    ).eval()
    support = episode().support
    objects = support.class_masks > 0
    with torch.no_grad():
        network = masked.conditioning.network
        torch.testing.assert_close(
            network.code(network.pooled(support.images, objects)), network(support.images, objects)
        )


def test_a_mismatched_support_asks_for_another_class(module):
    pairs = oslsm_pairs.cached(module, episode(), coarse=True)
    assert pairs.masks.shape[-2:] == (17, 17)
    other = oslsm_rows.mismatched(oslsm_rows.Questions(pairs)).pairs
    assert torch.equal(other.seen, pairs.seen[[1, 2, 0]])
    assert torch.equal(other.maps, pairs.maps)
    with pytest.raises(ValueError, match="3 pairs ask for one class"):
        oslsm_rows.mismatched(oslsm_rows.Questions(pairs._replace(classes=torch.zeros(3))))


def test_a_video_is_measured_by_j_over_sequences(module):
    masks = torch.zeros(3, 2, 2, dtype=torch.uint8)
    masks[:, 0] = 1  # the upper half is the object
    pairs = oslsm_pairs.Pairs(torch.zeros(3), torch.zeros(3, 1), masks, torch.tensor([4, 4, 7]), torch.arange(3.0))
    answers = [torch.ones(2, 2), masks[0].float(), torch.zeros(2, 2)]  # IoU 1/2, 1 and 0
    test = oslsm_rows.Bootstrap(oslsm_rows.Questions(pairs), video=True)
    values = test.values(lambda _: iter(answers))
    assert float(values[0]) == pytest.approx((0.75 + 0.0) / 2)
    assert set(values[1:].tolist()) == {0.0, 0.375, 0.75}  # a resample has either sequence twice, or both


def test_the_best_threshold_is_that_of_the_test_itself():
    masks = torch.zeros(2, 2, 2, dtype=torch.uint8)
    masks[:, 0] = 1
    pairs = oslsm_pairs.Pairs(torch.zeros(2), torch.zeros(2, 1), masks, torch.tensor([4, 7]), torch.arange(2.0))
    test = oslsm_rows.Bootstrap(oslsm_rows.Questions(pairs))
    known = SimpleNamespace(test=test.questions)
    answers = 0.05 + 0.2 * masks.float()  # all below 0.5, and told apart by 0.1
    assert float(test.values(lambda _: iter(answers))[0]) == 0.0
    assert float(oslsm_training.with_best_threshold(lambda _: iter(answers), known, test, 1)[0]) == 1.0


def test_a_cache_with_too_few_pairs_is_refused(tmp_path, module):
    data = SimpleNamespace(counts={"val": 5}, protocol=lambda split: {"n_query": 1})
    cache = oslsm_pairs.Cache(tmp_path, "pascal1", SimpleNamespace(of=lambda split: data), batches=1)
    torch.save(tuple(oslsm_pairs.cached(module, episode(), coarse=False)), tmp_path / "val1.pt")
    with pytest.raises(ValueError, match="3 pairs of 5"):
        cache.pairs("val", module)
    data.counts["val"] = 2
    assert len(cache.pairs("val", module).classes) == 2


def test_a_recipe_can_train_a_bias_of_all(module):
    pairs = oslsm_pairs.cached(module, episode(), coarse=True)
    module = deepcopy(module)
    study.train(module, pairs._replace(seen=pairs.seen[:, None]), study.Recipe(phi=1e-4, g=1e-4, bias=1e-2, steps=2))
    assert float(module.conditioning.bias) != 0
    assert float(study.features_of(module, pairs)[2].detach()[0]) != 0


def test_training_lowers_the_loss_and_moves_what_a_recipe_names(module):
    pairs = oslsm_pairs.cached(module, episode(), coarse=True)
    pairs = oslsm_pairs.Pairs(*(part.repeat(3, *[1] * (part.dim() - 1)) for part in pairs))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    first = float(study.loss_of(module, pairs, study.DICE).detach())
    study.train(module, pairs, study.Recipe(phi=0.0, g=1e-2, steps=12))
    moved = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rpartition(".")[0] for name in moved} == {"conditioning.network.body.classifier"}
    assert float(study.loss_of(module, pairs, study.DICE).detach()) < first
