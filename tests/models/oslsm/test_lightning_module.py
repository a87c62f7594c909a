"""The segmenter as a whole, on tiny drawn scenes: every method trains, adapts, predicts; predict writes masks."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits

from datamodules.segmentation.scene_masks import SceneMasks
from lightning_fewshot import OSLSMSegmenter
from lightning_fewshot.cli import main
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.oslsm.baselines import Neighbours
from lightning_fewshot.models.oslsm.masks import resized, support_objects, upsampled
from lightning_fewshot.models.oslsm.network import PixelClassifiers

ROOT = Path(__file__).parents[3]
TINY = {"backbone": "resnet10t", "features": 16, "fc6_size": 3, "output_stride": 16, "support_size": 64}
OWN_HEAD = {"backbone": "efficientnet_lite0", "fc": "classifier", "features": 1280, "fc6_size": 1}
METHODS = ["oslsm", "nearest", "logistic", "finetune", "siamese"]


@pytest.fixture(scope="module")
def scenes():
    return SceneMasks(batch_size=3, image_size=64, k_shot=2, n_classes=(9, 5, 5), n_clutter_classes=4, num_workers=0)


def segmenter(**changes):
    torch.manual_seed(0)
    module = OSLSMSegmenter(**{**TINY, "finetune_steps": 3, **changes})
    if module.method in ("nearest", "logistic", "finetune"):
        module.network.set_classes(9)
    return module


@pytest.mark.parametrize(
    "changes",
    [
        *({"method": m} for m in METHODS),
        *({"conditioning": how} for how in ("channel", "pooled")),
        *({"hashing": False}, {"reduction": "sum"}, {"dice": 0.5}, {"contrast": 0.5}, {"join_shots": "mean"}),
        {**OWN_HEAD, "prototype_init": True, "code_norm": "batch"},
    ],
    ids=str,
)
def test_losses_are_finite_and_reach_every_trained_parameter(scenes, changes):
    module = segmenter(**changes)
    terms = module.loss(scenes.episode("train", 0))
    sum(terms.values()).backward()
    expected = {"verification"} if module.method == "siamese" else {"pixels"}
    assert set(terms) == expected | {"dice", "contrast"}.intersection(changes)
    assert all(torch.isfinite(term) for term in terms.values())
    assert [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("method", METHODS)
def test_every_row_of_table_1_adapts_and_predicts(scenes, method):
    module, episode = segmenter(method=method).eval(), scenes.episode("test", 0)
    state = module.adapt(episode.support)
    assert isinstance(state, Neighbours if method in ("nearest", "siamese") else PixelClassifiers)
    (pred,) = module(episode)
    assert pred.masks.shape == (1, 64, 64)
    assert pred.masks.dtype == torch.bool
    assert torch.equal(pred.label_map == 1, pred.masks[0])
    assert pred.seconds > 0
    assert 0 <= module.quality(episode, [pred]) <= 1


@pytest.mark.parametrize("method", METHODS)
def test_adapting_twice_gives_the_same_state_and_changes_nothing(scenes, method):
    module, episode = segmenter(method=method).eval(), scenes.episode("test", 1)
    before = {n: v.clone() for n, v in module.state_dict().items()}
    with torch.no_grad():
        first, second = (module.logits(module.adapt(episode.support), episode.query.images) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(v, before[n]) for n, v in module.state_dict().items())


@pytest.mark.parametrize("method", METHODS)
def test_permuting_the_classes_permutes_the_masks(method):
    scenes = SceneMasks(3, 1, 1, image_size=64, n_classes=(9, 5, 5), n_clutter_classes=4, num_workers=0)
    module, episode = segmenter(method=method).eval(), scenes.episode("test", 2)
    order = torch.tensor([2, 0, 1])
    values = torch.tensor([0, 3, 1, 2], dtype=torch.uint8)
    support = episode.support
    renamed = support._replace(labels=order[support.labels], class_masks=values[support.class_masks.long()])
    states = [module.adapt(part) for part in (support, renamed)]
    plain, permuted = (module.predict(state, episode.query) for state in states)
    for a, b in zip(plain, permuted, strict=True):
        assert (a.masks == b.masks[order]).float().mean() > 0.999
    with torch.no_grad():
        scores = [torch.stack(module.logits(state, episode.query.images)) for state in states]
    for label in range(3):
        own = scores[0][:, states[0].classes == label]
        same, other = (scores[1][:, states[1].classes == place] for place in (order[label], label))
        assert (own - same).abs().max() < 1e-4 * max(1, own.abs().max())
        assert (own - other).abs().max() > 5 * (own - same).abs().max()


def test_each_shot_is_a_classifier_of_its_own_and_predict_does_not_adapt(scenes):
    module, episode = segmenter().eval(), scenes.episode("test", 0)
    state = module.adapt(episode.support)
    assert state.weight.shape == (2, 16)
    alone = module.adapt(Examples(*(None if p is None else p[:1] for p in episode.support)))
    torch.testing.assert_close(alone.weight[0], state.weight[0], atol=1e-5, rtol=1e-4)
    module.network.conditioning = None
    module.predict(state, episode.query)


def test_joined_shots_are_one_classifier_with_their_mean_score(scenes):
    episode = scenes.episode("test", 0)
    each, joined = (segmenter(join_shots=how).eval() for how in ("or", "mean"))
    assert len(joined.adapt(episode.support).weight) == 1
    with torch.no_grad():
        scores, mean = (m.logits(m.adapt(episode.support), episode.query.images)[0] for m in (each, joined))
    torch.testing.assert_close(mean[0], scores.mean(0), atol=1e-5, rtol=1e-4)


def test_finetuning_the_backbones_own_head_is_exported_as_it_predicts(scenes):
    module, episode = segmenter(method="finetune", **OWN_HEAD).eval(), scenes.episode("test", 0)
    state = module.adapt(episode.support)
    with torch.no_grad():
        exported = module.export_fcn(state)(episode.query.images)[0, 0] > 0
    (pred,) = module.predict(state, episode.query)
    assert (exported == pred.masks[0]).float().mean() > 0.999


def test_query_features_are_computed_once_for_any_number_of_classes_and_shots(monkeypatch):
    scenes = SceneMasks(3, 2, 4, image_size=64, n_classes=(9, 5, 5), n_clutter_classes=4, num_workers=0)
    module, episode = segmenter().eval(), scenes.episode("test", 0)
    state, seen = module.adapt(episode.support), []
    forward = module.network.segmentation.forward
    monkeypatch.setattr(module.network.segmentation, "forward", lambda x: seen.append(len(x)) or forward(x))
    preds = module.predict(state, episode.query)
    assert sum(seen) == len(episode.query.images) == 6
    assert all(p.masks.shape[0] == 3 for p in preds)


def test_one_batch_can_be_overfitted():
    scenes = SceneMasks(batch_size=2, image_size=96, n_classes=(9, 5, 5), n_clutter_classes=4, num_workers=0)
    batch = pairs_as_classes(scenes.episode("train", 0))
    module = segmenter(features=64, output_stride=8, dropout=0.0, code_norm="layer", conditioning_lr=1.0)
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        sum(module.loss(batch).values()).backward()
        optimizer.step()
    preds = module.predict(module.adapt(batch.support), batch.query)
    assert module.quality(batch, preds) > 0.6


@pytest.mark.parametrize(("join", "align"), [("or", False), ("mean", True)])
def test_contrast_asks_every_query_for_the_classes_of_all_pairs(scenes, join, align):
    batch = scenes.episode("train", 1)
    module = segmenter(contrast=0.25, dice=0.25, join_shots=join, align_corners=align).eval()
    masks, labels = batch.query.class_masks.clone(), batch.query.labels
    masks[0, :5] = 255
    batch = batch._replace(query=batch.query._replace(class_masks=masks))
    terms = module.loss(batch)
    with torch.no_grad():
        weight, bias = module.network.classifiers(batch.support.images, torch.stack(support_objects(batch.support)))
        images = resized(batch.query.images, module.network.sides)
        cells = torch.einsum("pd,qdhw->pqhw", weight, module.network.segmentation(images)) + bias[:, None, None, None]
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


def test_masks_follow_their_object_where_cells_lie_on_corner_pixels(scenes):
    module, episode = segmenter(align_corners=True).eval(), scenes.episode("test", 0)
    assert module.network.sides.stride == 16
    with torch.no_grad():
        (logits,) = module.logits(module.adapt(episode.support), episode.query.images)
    assert logits.shape == (2, 5, 5)  # 64 pixels are scaled to 65
    (pred,) = module.predict(module.adapt(episode.support), episode.query)
    grid = torch.linspace(0, 4, 64).numpy()
    rows = np.stack([[np.interp(grid, range(5), row) for row in shot] for shot in logits.numpy()])  # S, 5, 64
    expected = np.stack([[np.interp(grid, range(5), column) for column in shot.T] for shot in rows]).max(0).T
    sure = np.abs(expected) > 1e-4
    assert np.array_equal(pred.masks[0].numpy()[sure], (expected > 0)[sure])


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


def test_the_conditioning_branch_learns_slower_and_only_matrices_decay():
    module = segmenter(conditioning_lr=0.1)
    groups = module.parameter_groups()
    slow = {id(p) for p in module.network.conditioning.parameters()}
    assert sum(len(g["params"]) for g in groups) == len(list(module.parameters()))
    for group in groups:
        assert {id(p) in slow for p in group["params"]} == {group["lr_factor"] == 0.1}
        assert {p.ndim > 1 for p in group["params"]} == {"weight_decay" not in group}


@pytest.mark.parametrize("method", ["oslsm", "logistic", "nearest"])
def test_images_of_any_size_are_segmented_in_their_own(scenes, method):
    module, episode = segmenter(method=method, max_side=128).eval(), scenes.episode("test", 0)
    sizes = [(1, 1), (64, 64), (4100, 60), (33, 500)]
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    preds = module.predict(module.adapt(episode.support), Examples(images))
    assert [tuple(p.masks.shape[1:]) for p in preds] == sizes
    alone = module.predict(module.adapt(episode.support), Examples(images[1][None]))
    assert (alone[0].masks == preds[1].masks).float().mean() > 0.999


def test_a_training_batch_of_several_sizes_is_refused(scenes):
    episode = scenes.episode("train", 0)
    images = [episode.query.images[0], episode.query.images[1][:, :50], episode.query.images[2]]
    with pytest.raises(ValueError, match=r"images of \(50, 64\) and \(64, 64\) pixels .*set data.image_size"):
        segmenter().loss(episode._replace(query=episode.query._replace(images=images)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "cosegmentation"}, "method is 'cosegmentation' but must be one of oslsm, nearest"),
        ({"conditioning": "none"}, "conditioning is 'none' but must be one of masked, channel, pooled"),
        ({"fc": "old"}, "fc is 'old' but must be one of new, classifier"),
        ({"code_norm": True}, "code_norm is True but must be one of none, layer, batch"),
        ({"join_shots": "and"}, "join_shots is 'and' but must be one of or, mean"),
        ({"dice": 2.0}, "dice and contrast are 2.0 and 0.0 but must be at least 0 and together at most 1"),
        ({"dice": 0.6, "contrast": 0.5}, "dice and contrast are 0.6 and 0.5 but must be"),
        ({"conditioning": "pooled", "background": 2.0}, "background is 2.0 but must be 0 to 1"),
        ({"background": 0.5}, "background is 0.5 but only conditioning 'pooled' sees one, not 'masked'"),
        ({"threshold": 1.0}, "threshold is 1.0 but must lie between 0 and 1"),
        ({"support_size": 8}, "support_size is 8 pixels but must be at least 32"),
        ({"align_corners": True, "query_size": 100}, "query_size is 100 but .* output_stride, 16, plus 1, such as 97"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        segmenter(**changes)


@pytest.mark.parametrize(("align", "side"), [(False, 64), (True, 65)])
def test_export_through_the_module(align, side):
    data = SceneMasks(image_size=side, k_shot=2, n_classes=(9, 5, 5), n_clutter_classes=4, num_workers=0)
    module, episode = segmenter(align_corners=align).eval(), data.episode("test", 0)
    state = module.adapt(episode.support)
    fcn = module.export_fcn(state)
    masks = fcn(episode.query.images) > 0
    assert torch.equal(masks[0], module.predict(state, episode.query)[0].masks)


# through the command line ---------------------------------------------------------------------------------------


ARGUMENTS = [
    *("--model.backbone=resnet10t", "--model.features=8", "--model.support_size=32", "--model.output_stride=16"),
    *("--trainer.accelerator=cpu", "--trainer.max_epochs=1"),
]


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(ROOT)
    return tmp_path


def test_fit_draws_the_best_and_the_worst_cases_and_the_baselines_share_a_checkpoint(offline):
    sizes = ["--data.image_size=64", "--data.batch_size=2", "--data.n_classes=[6,4,4]", "--data.num_workers=0"]
    counts = ["--data.train_episodes=2", "--data.val_episodes=2", "--data.test_episodes=5"]
    configs = ["--config", "experiments/oslsm.yaml", "--config", "experiments/oslsm/baselines/logistic.yaml"]
    common = [*configs, *ARGUMENTS, *sizes, *counts, "--pictures.count=2"]
    main(["fit", *common, "--run_dir", str(offline / "run")])
    names = {p.name[: len("test_worst_1")] for p in (offline / "run/pictures").glob("test_*")}
    assert names >= {"test_best_1_", "test_best_2_", "test_worst_1", "test_worst_2"}
    record = json.loads((offline / "run/results.json").read_text())
    assert record["metrics"]["miou"]["n"] == 5
    assert set(record["metrics"]) == {"miou", "fb_iou", "seconds"}
    best = next((offline / "run/checkpoints").glob("best*.ckpt"))
    cli = main(["test", *common, "--model.method=nearest", "--ckpt_path", str(best), "--run_dir", str(offline / "two")])
    assert cli.model.network.n_classes == 6


def test_predict_writes_masks_and_overlays_of_ones_own_folder(offline):
    spec = importlib.util.spec_from_file_location("make_masks", ROOT / "tests/data/masks/make.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    root = maker.make_folder_masks(offline / "mine")
    data = ["--config", "experiments/data/folder_masks.yaml", "--data.root", str(root), "--data.image_size=64"]
    main(["predict", "--config", "experiments/oslsm.yaml", *data, *ARGUMENTS, "--run_dir", str(offline / "run")])
    names = {"images_unmasked", "query_q0", "query_q1", "query_q2"}
    assert {p.stem for p in (offline / "run/masks").iterdir()} == names
    assert {p.stem for p in (offline / "run/pictures").iterdir()} == names
    mask = Image.open(offline / "run/masks/query_q0.png")
    assert mask.mode == "P"
    assert mask.size == maker.SIZE
    found = set(np.unique(np.asarray(mask)).tolist()) - {0}
    records = [r for r in json.loads((offline / "run/predictions.json").read_text()) if r["image"] == "query/q0.png"]
    assert found <= {r["value"] for r in records} <= {1, 2, 3}
    assert all(r["mask"] == "masks/query_q0.png" and 0 < r["share"] <= 1 for r in records)
