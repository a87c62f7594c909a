"""The detector as a whole, on tiny drawn scenes."""

from types import SimpleNamespace

import pytest
import torch
from torchvision.ops import box_iou, clip_boxes_to_image

from datamodules.detection.scenes import Scenes
from lightning_fewshot.models.repmet import RepMetDetector
from lightning_fewshot.models.repmet.adaptation import LinearHead, MetricHead, class_scores

TINY = {
    "backbone": "regnetx_002",
    "strides": (8, 16, 32),
    "anchor_sizes": (24, 40, 64),
    "pyramid_channels": 16,
    "roi_size": 3,
    "widths": (32, 32),
    "embedding": 16,
    "n_modes": 2,
    "proposals": (24, 24),
    "rois_per_image": 16,
}


@pytest.fixture(scope="module")
def scenes():
    return Scenes(
        n_way=3,
        k_shot=2,
        n_query=1,
        batch_size=2,
        image_size=96,
        n_classes=(6, 4, 4),
        n_clutter_classes=4,
        num_workers=0,
    )


def detector(**changes):
    torch.manual_seed(0)
    module = RepMetDetector(**{**TINY, **changes})
    module.network.set_classes(6)
    return module


@pytest.mark.parametrize(
    "changes", [{}, {"auxiliary": 0.0}, {"ohem": False}, {"method": "baseline_ft"}, {"deformable": True}]
)
def test_losses_are_finite_and_reach_every_trained_parameter(scenes, changes):
    module = detector(**changes)
    terms = module.loss(scenes.episode("train", 0))
    sum(terms.values()).backward()
    expected = {"loss_objectness", "loss_rpn_box_reg", "classification", "box"}
    if module.method == "repmet":
        expected |= {"embedding"} | ({"auxiliary"} if module.auxiliary else set())
    assert set(terms) == expected
    assert all(torch.isfinite(t) for t in terms.values())
    without = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize("method", ["repmet", "baseline_ft"])
def test_every_trained_parameter_is_in_one_group(method):
    module = detector(method=method, representatives_lr=7.0)
    groups = module.parameter_groups()
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(
        id(p) for p in module.parameters() if p.requires_grad
    )
    fast = [p for g in groups if g.get("lr_factor") == 7.0 for p in g["params"]]
    assert [id(p) for p in fast] == ([id(module.network.representatives.weight)] if method == "repmet" else [])


@pytest.mark.parametrize("method", ["repmet", "baseline_ft", "baseline_dml", "baseline_dml_external"])
@pytest.mark.parametrize("steps", [0, 3])
def test_every_row_of_table_3_adapts_and_predicts(scenes, method, steps):
    module = detector(method=method, finetune_steps=steps, score_threshold=0.0).eval()
    episode = scenes.episode("test", 0)
    state = module.adapt(episode.support)
    preds = module.predict(state, episode.query)
    assert isinstance(state, LinearHead if method == "baseline_ft" else MetricHead)
    assert len(preds) == len(episode.query.images)
    for found in preds:
        assert len(found.scores) <= module.max_detections
        assert (found.scores.diff() <= 0).all()
        assert ((found.boxes >= 0) & (found.boxes <= 96)).all()
        assert set(found.labels.tolist()) <= {0, 1, 2}
        assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_adapting_twice_gives_the_same_state_and_changes_nothing(scenes):
    module = detector(finetune_steps=2).eval()
    before = {n: v.clone() for n, v in module.state_dict().items()}
    episode = scenes.episode("test", 1)
    first, second = module.adapt(episode.support), module.adapt(episode.support)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(v, before[n]) for n, v in module.state_dict().items())


@pytest.mark.parametrize("method", ["repmet", "baseline_ft", "baseline_dml"])
@pytest.mark.parametrize("absent", [0, 2])
def test_a_class_without_support_is_never_detected(scenes, method, absent):
    """The published ImageNet-LOC lists hold an episode whose support images have no box of one class."""
    module = detector(method=method, finetune_steps=3, score_threshold=0.0).eval()
    support, query = (getattr(scenes.episode("test", 0), part) for part in ("support", "query"))
    kept = [labels != absent for labels in support.labels]
    support = support._replace(
        boxes=[b[k] for b, k in zip(support.boxes, kept, strict=True)],
        labels=[n[k] for n, k in zip(support.labels, kept, strict=True)],
    )
    preds = module.predict(module.adapt(support), query)
    labels = torch.cat([found.labels for found in preds])
    assert len(labels) > 0
    if method != "baseline_ft":  # a softmax still gives every class some probability
        assert absent not in labels.tolist()


@pytest.mark.parametrize("factor", ["foreground", "objectness"])
def test_scores_are_weighed_by_the_probability_of_an_object(scenes, factor):
    """Every roi and class survives, so that all scores can be compared."""
    plain, weighed = (
        detector(**{factor: exponent}, nms="nms", nms_iou=1.0, score_threshold=0.0, max_detections=10_000).eval()
        for exponent in (0.0, 2.0)
    )
    episode = scenes.episode("test", 0)
    found, expected = [m.predict(m.adapt(episode.support), episode.query)[0] for m in (weighed, plain)]
    network = plain.network
    maps = network.maps(episode.query.images[:1])
    proposals = network.propose(maps)
    features = network.trunk(network.pooled(maps, proposals.boxes))
    if factor == "foreground":
        weight = 1 - network.classify(features).softmax(1)[:, 0]
    else:
        weight = _objectness(network, maps, proposals.boxes[0])
    assert weight.std() > 0
    scores = class_scores(plain.adapt(episode.support), features, plain.rule)
    torch.testing.assert_close(expected.scores, scores.flatten().sort(descending=True).values)
    torch.testing.assert_close(found.scores, (scores * weight[:, None] ** 2).flatten().sort(descending=True).values)


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
    module, batch = detector(pretrain=0.5, ohem=False, rois_per_image=10_000), scenes.episode("train", 0)
    terms = {}
    for step in (49, 50):
        module._trainer = SimpleNamespace(global_step=step, estimated_stepping_batches=100)
        module.zero_grad()
        torch.manual_seed(1)
        terms[step] = module.loss(batch)
        sum(terms[step].values()).backward()
        moved = module.network.representatives.weight.grad.abs().sum()
        assert (moved > 0) == (step == 50)
    assert "auxiliary" not in terms[49]
    assert terms[49]["embedding"] == 0
    assert terms[50]["embedding"] > 0
    torch.testing.assert_close(terms[49]["classification"], terms[50]["auxiliary"])
    assert terms[50]["classification"] != terms[50]["auxiliary"]


def test_permuting_the_labels_permutes_the_scores(scenes):
    module = detector().eval()
    episode = scenes.episode("test", 2)
    order = torch.tensor([2, 0, 1])
    renamed = episode.support._replace(labels=[order[label] for label in episode.support.labels])
    features = torch.randn(10, 32)
    from lightning_fewshot.models.repmet.adaptation import class_scores

    plain = class_scores(module.adapt(episode.support), features, module.rule)
    permuted = class_scores(module.adapt(renamed), features, module.rule)
    torch.testing.assert_close(permuted[:, order], plain)


def test_trained_representatives_serve_the_classes_of_the_episode(scenes):
    module = detector(representatives="trained").eval()
    episode = scenes.episode("test", 0)._replace(class_ids=(4, 1), classes=("a", "b"))
    state = module.state_of(episode)
    torch.testing.assert_close(state.representatives, module.network.representatives()[[4, 1]])
    linear = detector(method="baseline_ft", representatives="trained").eval()
    weight = linear.network.classify.weight
    torch.testing.assert_close(linear.state_of(episode).weight, weight[[0, 5, 2]])


def test_images_of_different_sizes_give_the_same_boxes_as_alone(scenes):
    module = detector(short_side=96).eval()
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
    preds = module.eval().predict(module._trained_head(torch.arange(6)), batch.query)
    metric = module.build_metrics()
    metric.update(preds, batch)
    assert metric.compute()["map_50"].value > 0.9


def test_external_embedding_trains_alone(scenes):
    module = detector(method="baseline_dml_external")
    module.network.requires_grad_(False)
    module.network.external_trunk.requires_grad_(True)
    module.network.external_embed.requires_grad_(True)
    module.train()
    terms = module.loss(scenes.episode("train", 0))
    assert set(terms) == {"triplet"}
    terms["triplet"].backward()
    assert module.network.external_embed.weight.grad.abs().sum() > 0
    assert not module.network.backbone.training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strides": (8, 16)}, "strides has 2 entries but anchor_sizes has 3"),
        ({"strides": (8, 16, 64)}, r"strides asks for \[64\]"),
        ({"sigma": 0.0}, "sigma must be above 0"),
        ({"foreground": 1.0, "auxiliary": 0.0}, "foreground is 1.0 but auxiliary is 0"),
        ({"pretrain": 1.0}, "pretrain is 1.0 but must be at least 0 and below 1"),
        ({"pretrain": 0.5, "auxiliary": 0.0}, "pretrain is 0.5 but auxiliary is 0"),
        ({"weights": "package"}, "none is known for 'regnetx_002'"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        detector(**changes)
