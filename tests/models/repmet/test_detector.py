"""The detectors as wholes, on tiny drawn scenes."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.ops import box_iou, clip_boxes_to_image

from datamodules.detection.scenes import Scenes
from datamodules.world.scenes import SceneClasses, SceneSettings
from lightning_fewshot.models.repmet import (
    ExternalMetricDetector,
    PlainDetector,
    PlainMetricDetector,
    RepMetDetector,
)
from lightning_fewshot.models.repmet.adaptation import LinearHead, MetricHead
from lightning_fewshot.models.repmet.settings import (
    AuxiliaryClassifier,
    EmbeddingSpace,
    Evaluation,
    FineTuning,
    Mixture,
)
from lightning_fewshot.nn.detections import DetectionFilter
from lightning_fewshot.nn.two_stage import Proposals, Pyramid, RoiHead
from lightning_fewshot.settings import BackboneSettings

PYRAMID = {"strides": (8, 16, 32), "anchor_sizes": (24, 40, 64), "channels": 16}
ROI_HEAD = {"pool_size": 3, "widths": (32, 32), "per_image": 16}
TINY = {
    "backbone": BackboneSettings("regnetx_002"),
    "pyramid": Pyramid(**PYRAMID),
    "proposals": Proposals(train=24, test=24),
    "roi_head": RoiHead(**ROI_HEAD),
}
OF_CLASS = {
    RepMetDetector: {"embedding": EmbeddingSpace(dim=16), "mixture": Mixture(n_modes=2)},
    PlainDetector: {},
    PlainMetricDetector: {"mixture": Mixture(n_modes=2)},
    ExternalMetricDetector: {"dim": 16, "mixture": Mixture(n_modes=2)},
}
EVERYTHING = DetectionFilter(score_threshold=0.0)
CLASSES = tuple("abcdef")


@pytest.fixture(scope="module")
def scenes():
    return Scenes(
        n_way=3,
        k_shot=2,
        n_query=1,
        batch_size=2,
        scene=SceneSettings(image_size=96),
        classes=SceneClasses(6, 4, 4, clutter=4),
        num_workers=0,
    )


def detector(cls=RepMetDetector, **changes):
    torch.manual_seed(0)
    module = cls(**{**TINY, **OF_CLASS[cls], **changes})
    module.set_classes(CLASSES)
    return module


@pytest.mark.parametrize(
    ("cls", "changes"),
    [
        (RepMetDetector, {}),
        (RepMetDetector, {"auxiliary": AuxiliaryClassifier(weight=0.0)}),
        (RepMetDetector, {"roi_head": RoiHead(**ROI_HEAD, ohem=False)}),
        (RepMetDetector, {"pyramid": Pyramid(**PYRAMID, deformable=True)}),
        (RepMetDetector, {"pyramid": Pyramid(**{**PYRAMID, "anchor_sizes": (24, 40, 64, 96)}, coarsest=True)}),
        (PlainDetector, {}),
        (PlainMetricDetector, {}),
    ],
)
def test_losses_are_finite_and_reach_every_trained_parameter(scenes, cls, changes):
    module = detector(cls, **changes)
    terms = module.loss(scenes.episode("train", 0))
    sum(terms.values()).backward()
    expected = {"loss_objectness", "loss_rpn_box_reg", "classification", "box"}
    if cls is RepMetDetector:
        expected |= {"embedding"} | ({"auxiliary"} if module.auxiliary.weight else set())
    assert set(terms) == expected
    assert all(torch.isfinite(t) for t in terms.values())
    without = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize("cls", OF_CLASS)
def test_every_trained_parameter_is_in_one_group(cls):
    fast = {"embedding": EmbeddingSpace(dim=16, representatives_lr=7.0)} if cls is RepMetDetector else {}
    module = detector(cls, **fast)
    groups = module.parameter_groups()
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(
        id(p) for p in module.parameters() if p.requires_grad
    )
    faster = [p for g in groups if g.get("lr_factor") == 7.0 for p in g["params"]]
    assert [id(p) for p in faster] == ([id(module.representatives.weight)] if cls is RepMetDetector else [])


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
    assert all(torch.equal(a, b) for a, b in zip(first[:-1], second[:-1], strict=True))
    assert first.mixture == second.mixture
    assert all(torch.equal(v, before[n]) for n, v in module.state_dict().items())


@pytest.mark.parametrize("cls", [RepMetDetector, PlainDetector, PlainMetricDetector])
@pytest.mark.parametrize("absent", [0, 2])
def test_a_class_without_support_is_never_detected(scenes, cls, absent):
    """The published ImageNet-LOC lists hold an episode whose support images have no box of one class."""
    module = detector(cls, finetuning=FineTuning(steps=3), detections=EVERYTHING).eval()
    support, query = (getattr(scenes.episode("test", 0), part) for part in ("support", "query"))
    kept = [labels != absent for labels in support.labels]
    support = support._replace(
        boxes=[b[k] for b, k in zip(support.boxes, kept, strict=True)],
        labels=[n[k] for n, k in zip(support.labels, kept, strict=True)],
    )
    preds = module.predict(module.adapt(support), query)
    labels = torch.cat([detections.labels for detections in preds])
    assert len(labels) > 0
    if cls is not PlainDetector:  # a softmax still gives every class some probability
        assert absent not in labels.tolist()


@pytest.mark.parametrize("cls", [RepMetDetector, PlainMetricDetector, ExternalMetricDetector])
@pytest.mark.parametrize("factor", ["foreground", "objectness"])
def test_scores_are_weighed_by_the_probability_of_an_object(scenes, cls, factor):
    """Every roi and class survives, so that all scores can be compared."""
    plain, weighed = (_weighing(cls, factor, exponent) for exponent in (0.0, 2.0))
    episode = scenes.episode("test", 0)
    found, expected = [m.predict(m.adapt(episode.support), episode.query)[0] for m in (weighed, plain)]
    network = plain.network
    maps = network.maps(episode.query.images[:1])
    proposals = network.propose(maps)
    features = network.features(maps, proposals.boxes)
    if factor == "foreground":
        weight = 1 - plain.classify(features).softmax(1)[:, 0]
    else:
        weight = _objectness(network, maps, proposals.boxes[0])
    assert weight.std() > 0
    scores = plain.adapt(episode.support).scores(plain.head_features(network.pooled(maps, proposals.boxes)))
    torch.testing.assert_close(expected.scores, scores.flatten().sort(descending=True).values)
    torch.testing.assert_close(found.scores, (scores * weight[:, None] ** 2).flatten().sort(descending=True).values)


def _weighing(cls, factor, exponent):
    objectness = exponent if factor == "objectness" else 0.0
    limits = DetectionFilter(nms="nms", nms_iou=1.0, score_threshold=0.0, max_detections=10_000, objectness=objectness)
    foreground = exponent if factor == "foreground" else 0.0
    if cls is RepMetDetector:
        return detector(cls, detections=limits, auxiliary=AuxiliaryClassifier(foreground=foreground)).eval()
    return detector(cls, detections=limits, foreground=foreground).eval()


def _objectness(network, maps, boxes):
    """Find the anchor that each proposal of the first image comes from, and what the network says of it."""
    levels = list(maps.pyramid.values())
    logits, deltas = network.rpn.head(levels)
    anchors = network.rpn.anchor_generator(maps.images, levels)[0]
    decoded = network.rpn.box_coder.decode_single(torch.cat([_rows(d, 4) for d in deltas]), anchors)
    anchor = box_iou(boxes, clip_boxes_to_image(decoded, (96, 96))).argmax(1)
    return torch.cat([_rows(o, 1)[:, 0] for o in logits]).sigmoid()[anchor]


def _rows(maps, width):
    """Bring the first image's predictions, (B, A * width, H, W), into the order of the anchors."""
    return maps[0].unflatten(0, (-1, width)).permute(2, 3, 0, 1).reshape(-1, width)


def test_pretraining_trains_the_linear_classifier_in_place_of_distances(scenes):
    """Half of the run: the classification loss is the plain detector's, and eq. (4) counts nothing."""
    all_rois = RoiHead(**{**ROI_HEAD, "per_image": 10_000}, ohem=False)
    module = detector(auxiliary=AuxiliaryClassifier(pretrain=0.5), roi_head=all_rois)
    batch, terms = scenes.episode("train", 0), {}
    for step in (49, 50):
        module._trainer = SimpleNamespace(global_step=step, estimated_stepping_batches=100)
        module.on_train_batch_start(batch, 0)
        module.zero_grad()
        torch.manual_seed(1)
        terms[step] = module.loss(batch)
        sum(terms[step].values()).backward()
        moved = module.representatives.weight.grad.abs().sum()
        assert (moved > 0) == (step == 50)
    assert "auxiliary" not in terms[49]
    assert terms[49]["embedding"] == 0
    assert terms[50]["embedding"] > 0
    torch.testing.assert_close(terms[49]["classification"], terms[50]["auxiliary"])
    assert terms[50]["classification"] != terms[50]["auxiliary"]


def test_the_loss_needs_no_trainer(scenes):
    module = detector(auxiliary=AuxiliaryClassifier(pretrain=0.5))
    assert module.loss(scenes.episode("train", 0))["embedding"] > 0


def test_permuting_the_labels_permutes_the_scores(scenes):
    module = detector().eval()
    episode = scenes.episode("test", 2)
    order = torch.tensor([2, 0, 1])
    renamed = episode.support._replace(labels=[order[label] for label in episode.support.labels])
    features = torch.randn(10, 32)
    plain = module.adapt(episode.support).scores(features)
    permuted = module.adapt(renamed).scores(features)
    torch.testing.assert_close(permuted[:, order], plain)


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


def test_images_of_different_sizes_give_the_same_boxes_as_alone(scenes):
    module = detector(pyramid=Pyramid(**PYRAMID, short_side=96)).eval()
    episode = scenes.episode("test", 0)
    state = module.adapt(episode.support)
    images = [episode.query.images[0], episode.query.images[1][:, :, :72]]
    together = module.predict(state, episode.query._replace(images=images))
    alone = module.predict(state, episode.query._replace(images=images[:1]))
    assert len(together) == 2
    assert together[1].boxes[:, 2].max() <= 72
    # a wider batch pads the first image, which may move boxes at its border but not those inside
    assert together[0].scores[0].item() == pytest.approx(alone[0].scores[0].item(), abs=0.05)


def test_one_batch_can_be_overfitted(scenes):
    module = detector()
    batch = scenes.episode("train", 0)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    for _ in range(200):
        optimizer.zero_grad()
        terms = module.loss(batch)
        sum(terms.values()).backward()
        optimizer.step()
        schedule.step()
    preds = module.eval().predict(module.trained_head(), batch.query)
    metric = module.build_metrics()
    metric.update(preds, batch)
    assert metric.compute()["map_50"].value > 0.9


def test_external_embedding_trains_alone(scenes):
    module = detector(ExternalMetricDetector).train()
    terms = module.loss(scenes.episode("train", 0))
    assert set(terms) == {"triplet"}
    terms["triplet"].backward()
    trained = {n.partition(".")[0] for n, p in module.named_parameters() if p.grad is not None}
    assert trained == {"embedding"}
    assert {n.partition(".")[0] for n, p in module.named_parameters() if p.requires_grad} == {"embedding"}
    assert module.embedding.training
    assert not module.network.backbone.training


def test_external_embedding_takes_a_plain_detector_and_nothing_else(tmp_path):
    module, plain = detector(ExternalMetricDetector), detector(PlainDetector)
    module._trainer = SimpleNamespace(is_global_zero=False)  # it prints nothing
    torch.nn.init.normal_(plain.classify.weight)
    for name, source in (("plain", plain), ("repmet", detector())):
        torch.save({"state_dict": source.state_dict()}, tmp_path / f"{name}.ckpt")
    module.load_initial(str(tmp_path / "plain.ckpt"))
    assert torch.equal(module.classify.weight, plain.classify.weight)
    with pytest.raises(ValueError, match=r"repmet\.ckpt but must be a checkpoint of a PlainDetector"):
        module.load_initial(str(tmp_path / "repmet.ckpt"))
    with pytest.raises(ValueError, match="init_from is not set"):
        module.on_fit_start()


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
