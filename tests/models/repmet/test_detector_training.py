"""What trains in the detectors: losses, groups of parameters, pretraining, the external embedding."""

from types import SimpleNamespace

import pytest
import torch
from tiny_detectors import OF_CLASS, PYRAMID, ROI_HEAD, detector

from lightning_fewshot.models.repmet import (
    ExternalMetricDetector,
    PlainDetector,
    PlainMetricDetector,
    RepMetDetector,
)
from lightning_fewshot.models.repmet.settings import (
    AuxiliaryClassifier,
    EmbeddingSpace,
)
from lightning_fewshot.nn.two_stage import Pyramid, RoiHead


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
