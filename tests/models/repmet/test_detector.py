"""The detectors as wholes, adapted to tiny drawn scenes; and bad arguments."""

import pytest
import torch
from tiny_detectors import EVERYTHING, OF_CLASS, detector

from lightning_fewshot.models.repmet import (
    ExternalMetricDetector,
    PlainDetector,
    PlainMetricDetector,
)
from lightning_fewshot.models.repmet.adaptation import LinearHead, MetricHead
from lightning_fewshot.models.repmet.settings import (
    AuxiliaryClassifier,
    EmbeddingSpace,
    Evaluation,
    FineTuning,
    Mixture,
)
from lightning_fewshot.nn.two_stage import Pyramid
from lightning_fewshot.settings import BackboneSettings


@pytest.mark.parametrize(
    ("cls", "finetuning"),
    [(cls, f) for cls in OF_CLASS for f in (None, FineTuning(steps=3)) if f or cls is not PlainDetector],
)  # a linear layer of new classes exists only by fine-tuning
def test_every_row_of_table_3_adapts_and_predicts(scenes, cls, finetuning):
    module = detector(cls, detections=EVERYTHING, finetuning=finetuning).eval()
    episode = scenes.episode("test", 0)
    state = module.adapt(episode.support)
    preds = module.predict(state, episode.query)
    assert isinstance(state, LinearHead if cls is PlainDetector else MetricHead)
    assert len(preds) == len(episode.query.images)
    for detections in preds:
        assert len(detections.scores) <= module.detections.max_detections
        assert (detections.scores.diff() <= 0).all()
        assert ((detections.boxes >= 0) & (detections.boxes <= 96)).all()
        assert set(detections.labels.tolist()) <= {0, 1, 2}
        assert ((detections.scores >= 0) & (detections.scores <= 1)).all()


def test_adapting_twice_gives_the_same_state_and_changes_nothing(scenes):
    module = detector(finetuning=FineTuning(steps=2)).eval()
    before = {n: v.clone() for n, v in module.state_dict().items()}
    episode = scenes.episode("test", 1)
    first, second = module.adapt(episode.support), module.adapt(episode.support)
    assert all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))
    assert first.mixture == second.mixture
    assert all(torch.equal(v, before[n]) for n, v in module.state_dict().items())


def test_trained_classes_serve_the_classes_of_the_episode(scenes):
    seen = Evaluation(trained_classes=True)
    module = detector(evaluation=seen).eval()
    episode = scenes.episode("test", 0)._replace(class_ids=(4, 1), classes=("a", "b"))
    state, features = module.state_of(episode), torch.randn(5, 32)
    assert torch.equal(state.representatives, module.representatives.weight[[4, 1]])
    torch.testing.assert_close(state.scores(features), module.trained_head().scores(features)[:, [4, 1]])
    plain = detector(PlainDetector, evaluation=seen).eval()
    assert torch.equal(plain.state_of(episode).weight, plain.classify.weight[[0, 5, 2]])


def test_one_trained_detector_is_adapted_in_two_ways(scenes):
    """PlainDetector fine-tunes a linear layer from zero, PlainMetricDetector compares the features themselves."""
    trained = detector(PlainDetector, finetuning=FineTuning(steps=4), imprint=False).eval()
    by_distance = detector(PlainMetricDetector).eval()
    torch.nn.init.normal_(trained.classify.weight)
    by_distance.load_state_dict(trained.state_dict())
    support = scenes.episode("test", 0).support
    linear, metric = trained.adapt(support), by_distance.adapt(support)
    assert linear.weight.shape == (4, 32)
    assert 0 < linear.weight.abs().max() <= 4 * trained.finetuning.lr * 1.01  # four steps of Adam from zero
    assert torch.equal(metric.weight, torch.eye(32))
    regions = trained.support_regions(support)
    features = trained.network.features(regions.maps, regions.boxes)
    for label in range(3):  # the features of a support box lie by the representatives of its class
        rows = features[torch.cat(list(support.labels)) == label]
        assert (metric.scores(rows).argmax(dim=1) == label).float().mean() >= 0.5


def test_finetuning_changes_the_last_layer_and_the_representatives_alone(scenes):
    support = scenes.episode("test", 0).support
    plain = detector(PlainMetricDetector).eval().adapt(support)
    tuned = detector(PlainMetricDetector, finetuning=FineTuning(steps=2)).eval().adapt(support)
    assert not torch.equal(plain.weight, tuned.weight)
    assert not torch.equal(plain.representatives, tuned.representatives)
    assert torch.equal(plain.used, tuned.used)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: detector(pyramid=Pyramid((8, 16, 64), (24, 40, 64))), r"strides asks for \[64\]"),
        (lambda: detector(backbone=BackboneSettings("regnetx_002", "package")), "none is known for 'regnetx_002'"),
        (
            lambda: detector(evaluation=Evaluation(trained_classes=True), finetuning=FineTuning()),
            "trained_classes is True but finetuning is",
        ),
        (lambda: detector(PlainMetricDetector, foreground=-1.0), "foreground is -1.0 but must be at least 0"),
        (lambda: detector(ExternalMetricDetector, foreground=-1.0), "foreground is -1.0 but must be at least 0"),
        (lambda: detector(ExternalMetricDetector, dim=0), "dim is 0 but must be at least 1"),
        (lambda: EmbeddingSpace(dim=0), "dim is 0 but must be at least 1"),
        (lambda: EmbeddingSpace(representatives_lr=0.0), "representatives_lr is 0.0 but must be above 0"),
        (lambda: Mixture(sigma=0.0), "sigma is 0.0 but must be above 0"),
        (lambda: Mixture(n_modes=0), "n_modes is 0 but must be at least 1"),
        (lambda: Mixture(margin=-0.1), "margin is -0.1 but must be at least 0"),
        (lambda: Mixture(logit_scale=0.0), "logit_scale is 0.0 but must be above 0"),
        (lambda: Mixture(logits="raw"), "logits is 'raw' but must be 'log' or 'scaled'"),
        (lambda: AuxiliaryClassifier(weight=-1.0), "weight is -1.0 but must be at least 0"),
        (lambda: AuxiliaryClassifier(foreground=-1.0), "foreground is -1.0 but must be at least 0"),
        (lambda: AuxiliaryClassifier(weight=0.0, foreground=1.0), "foreground is 1.0 but weight is 0"),
        (lambda: AuxiliaryClassifier(pretrain=1.0), "pretrain is 1.0 but must be at least 0 and below 1"),
        (lambda: AuxiliaryClassifier(weight=0.0, pretrain=0.5), "pretrain is 0.5 but weight is 0"),
        (lambda: FineTuning(steps=0), "steps is 0 but must be at least 1"),
        (lambda: FineTuning(lr=0.0), "lr is 0.0 but must be above 0"),
        (lambda: Evaluation(iou_thresholds=()), r"iou_thresholds is \(\) but must hold values"),
        (lambda: Evaluation(iou_thresholds=(0.5, 1.5)), "iou_thresholds is .* but must hold values"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
