"""Every row of table 1, on tiny drawn scenes: adapts, predicts, permutes with its classes, takes images of any size."""

import numpy as np
import pytest
import torch

from lightning_fewshot.episodes import Examples
from lightning_fewshot.models.oslsm.classifiers import PixelClassifiers
from lightning_fewshot.models.oslsm.nearest import Neighbours
from lightning_fewshot.models.oslsm.settings import ImageSides, SegmentationBranchSettings
from lightning_fewshot.settings import BackboneSettings

BY_NEIGHBOURS = ["NearestNeighbourSegmenter", "SiameseSegmenter"]
METHODS = ["OSLSMSegmenter", "LogisticSegmenter", "FineTuningSegmenter", "PrototypeSegmenter", *BY_NEIGHBOURS]


@pytest.mark.parametrize("method", METHODS)
def test_every_row_of_table_1_adapts_and_predicts(scenes, segmenter, method):
    module, episode = segmenter(method).eval(), scenes.episode("test", 0)
    state = module.adapt(episode.support)
    assert isinstance(state, Neighbours if method in BY_NEIGHBOURS else PixelClassifiers)
    (pred,) = module(episode)
    assert pred.masks.shape == (1, 64, 64)
    assert pred.masks.dtype == torch.bool
    assert torch.equal(pred.label_map == 1, pred.masks[0])
    assert pred.seconds > 0
    assert torch.equal(pred.masks, pred.probs > 0.5)
    assert 0 <= module.quality(episode, [pred]) <= 1


@pytest.mark.parametrize("method", METHODS)
def test_adapting_twice_gives_the_same_state_and_changes_nothing(scenes, segmenter, method):
    module, episode = segmenter(method).eval(), scenes.episode("test", 1)
    before = {n: v.clone() for n, v in module.state_dict().items()}
    with torch.no_grad():
        first, second = (module.logits(module.adapt(episode.support), episode.query.images) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(v, before[n]) for n, v in module.state_dict().items())


@pytest.mark.parametrize("method", METHODS)
def test_permuting_the_classes_permutes_the_masks(make_scenes, segmenter, method):
    module, episode = segmenter(method).eval(), make_scenes(3, 1, 1).episode("test", 2)
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


def test_query_features_are_computed_once_for_any_number_of_classes_and_shots(make_scenes, segmenter, monkeypatch):
    module, episode = segmenter().eval(), make_scenes(3, 2, 4).episode("test", 0)
    state, seen = module.adapt(episode.support), []
    forward = module.segmentation.forward
    monkeypatch.setattr(module.segmentation, "forward", lambda x: seen.append(len(x)) or forward(x))
    preds = module.predict(state, episode.query)
    assert sum(seen) == len(episode.query.images) == 6
    assert all(p.masks.shape[0] == 3 for p in preds)


def test_masks_follow_their_object_where_locations_lie_on_corner_pixels(scenes, segmenter):
    module, episode = segmenter(sides=ImageSides(align_corners=True)).eval(), scenes.episode("test", 0)
    with torch.no_grad():
        (logits,) = module.logits(module.adapt(episode.support), episode.query.images)
    assert logits.shape == (2, 5, 5)  # 64 pixels are scaled to 65
    (pred,) = module.predict(module.adapt(episode.support), episode.query)
    grid = torch.linspace(0, 4, 64).numpy()
    rows = np.stack([[np.interp(grid, range(5), row) for row in shot] for shot in logits.numpy()])  # S, 5, 64
    expected = np.stack([[np.interp(grid, range(5), column) for column in shot.T] for shot in rows]).max(0).T
    sure = np.abs(expected) > 1e-4
    assert np.array_equal(pred.masks[0].numpy()[sure], (expected > 0)[sure])


@pytest.mark.parametrize(
    "method", ["OSLSMSegmenter", "LogisticSegmenter", "NearestNeighbourSegmenter", "PrototypeSegmenter"]
)
def test_images_of_any_size_are_segmented_in_their_own(scenes, segmenter, method):
    module, episode = segmenter(method, sides=ImageSides(max_side=128)).eval(), scenes.episode("test", 0)
    sizes = [(1, 1), (64, 64), (4100, 60), (33, 500)]
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    preds = module.predict(module.adapt(episode.support), Examples(images))
    assert [tuple(p.masks.shape[1:]) for p in preds] == sizes
    alone = module.predict(module.adapt(episode.support), Examples(images[1][None]))
    assert (alone[0].masks == preds[1].masks).float().mean() > 0.999


def test_finetuning_the_backbones_own_head_is_exported_as_it_predicts(scenes, segmenter):
    module, episode = (
        segmenter(
            "FineTuningSegmenter",
            backbone=BackboneSettings("efficientnet_lite0"),
            branch=SegmentationBranchSettings(16),
        ).eval(),
        scenes.episode("test", 0),
    )
    state = module.adapt(episode.support)
    with torch.no_grad():
        exported = module.export_fcn(state)(episode.query.images)[0, 0] > 0
    (pred,) = module.predict(state, episode.query)
    assert (exported == pred.masks[0]).float().mean() > 0.999


@pytest.mark.parametrize(("align", "side"), [(False, 64), (True, 65)])
def test_export_through_the_module(make_scenes, segmenter, align, side):
    data = make_scenes(image_size=side)
    module, episode = segmenter(sides=ImageSides(align_corners=align)).eval(), data.episode("test", 0)
    state = module.adapt(episode.support)
    fcn = module.export_fcn(state)
    masks = fcn(episode.query.images) > 0
    assert torch.equal(masks[0], module.predict(state, episode.query)[0].masks)


def test_a_training_batch_of_several_sizes_is_refused(scenes, segmenter):
    episode = scenes.episode("train", 0)
    images = [episode.query.images[0], episode.query.images[1][:, :50], episode.query.images[2]]
    with pytest.raises(ValueError, match=r"images of \(50, 64\) and \(64, 64\) pixels .*set data.images.size"):
        segmenter().loss(episode._replace(query=episode.query._replace(images=images)))


def test_the_three_over_a_base_classifier_share_their_parameters(segmenter):
    methods = ("NearestNeighbourSegmenter", "LogisticSegmenter", "FineTuningSegmenter")
    first, *others = (segmenter(method).state_dict() for method in methods)
    assert all(list(first) == list(other) for other in others)
    assert first["classify.weight"].shape == (10, 16, 1, 1)
