"""PrototypeSegmenter against numpy: the mean over an object less a share of that over its background."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from lightning_fewshot.episodes import Examples
from lightning_fewshot.models.oslsm.settings import ImageSides, Prototypes, SupportEncoder
from lightning_fewshot.settings import BackboneSettings

NAME = "PrototypeSegmenter"


def normalised(maps, mean=None, variance=None):
    """Normalise (D, h, w) features in numpy, by their own statistics or by given ones."""
    mean = maps.mean((1, 2)) if mean is None else mean
    variance = maps.var((1, 2)) if variance is None else variance
    return (maps - mean[:, None, None]) / np.sqrt(variance + 1e-5)[:, None, None]


def plain_features(module, images):
    """Return fc7 before its normalisation."""
    images = torch.nn.functional.interpolate(images.float(), (65, 65), mode="bilinear", antialias=True)
    with torch.no_grad():
        return [m.double().numpy() for m in module.segmentation.top[:-2](module.segmentation.maps(images))]


@pytest.mark.parametrize("background", [0.0, 0.5])
def test_prototypes_are_masked_means_and_scores_inner_products(scenes, segmenter, background):
    episode = scenes.episode("test", 0)
    module = segmenter(NAME, sides=ImageSides(align_corners=True), prototypes=Prototypes(background)).eval()
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[0, :21, :] = 1  # locations lie at 0, 16, ... 64 of 65: the first row, and half of the second at least
    masks[0, 21:30] = 255
    masks[1, :, :5] = 1  # more than half of the first column's locations
    support = Examples(episode.support.images, torch.zeros(2, dtype=torch.int64), class_masks=masks)
    state = module.adapt(support)
    features = [normalised(m) for m in plain_features(module, support.images)]
    labels = [module.location_labels(m == 1, m, torch.from_numpy(f))[0] for m, f in zip(masks, features, strict=True)]
    assert [int(label.sum()) for label in labels] == [10, 5]
    (query,) = plain_features(module, episode.query.images)
    with torch.no_grad():
        logits = module.logits(state, episode.query.images)[0].numpy()
    for shot in range(2):
        weights = np.array([share_at(masks[shot].numpy() == 1), share_at(masks[shot].numpy() == 0)])
        means = [(features[shot] * w).sum((1, 2)) / w.sum() for w in weights]
        prototype = means[0] - background * means[1]
        np.testing.assert_allclose(state.weight[shot], prototype / 4, atol=2e-3)  # D = 16
        expected = np.einsum("d,dhw->hw", prototype / 4, normalised(query))
        np.testing.assert_allclose(logits[shot], expected, atol=2e-2)


def share_at(part):
    """Return how much of the 17 x 17 pixels around each location a part covers, where that is half at least."""
    grid = np.linspace(0, 63, 65)
    rows = np.array([np.interp(grid, np.arange(64), column) for column in part.T.astype(float)]).T  # 65 x 64
    fine = np.array([np.interp(grid, np.arange(64), row) for row in rows])  # 65 x 65
    around = [slice(max(0, 16 * i - 8), 16 * i + 9) for i in range(5)]
    share = np.array([[fine[a, b].mean() for b in around] for a in around])
    return np.where(share >= 0.5, share, 0.0)


def test_fit_takes_the_mean_and_variance_of_each_channel_from_training_images(make_scenes, segmenter, tmp_path):
    from lightning_fewshot.data import EpisodeCounts

    data = make_scenes(episodes=EpisodeCounts(3, 0, 1))
    module = segmenter(NAME, sides=ImageSides(align_corners=True))
    before = {n: p.clone() for n, p in module.named_parameters()}
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=1, default_root_dir=tmp_path, use_distributed_sampler=False, **options)
    trainer.fit(module, datamodule=data)
    assert all(torch.equal(p, before[n]) for n, p in module.named_parameters())
    module.eval()
    batches = [np.stack(plain_features(module, data.episode("train", i).query.images)) for i in range(3)]
    norm = module.segmentation.norm
    mean = np.mean([b.mean((0, 2, 3)) for b in batches], axis=0)
    variance = np.mean([b.var((0, 2, 3), ddof=1) for b in batches], axis=0)
    np.testing.assert_allclose(norm.running_mean, mean, atol=1e-4)
    np.testing.assert_allclose(norm.running_var, variance, rtol=1e-3)
    episode = data.episode("test", 0)
    with torch.no_grad():
        (found,) = module.features(episode.query.images)
    (plain,) = plain_features(module, episode.query.images)
    np.testing.assert_allclose(found, normalised(plain, mean, variance), atol=1e-3)


def test_an_object_of_one_colour_is_found_without_fit(segmenter, monkeypatch):
    """With colours as features, normalised by each image's own statistics, the mask is that of the colour."""
    images, masks = torch.full((2, 3, 64, 64), 40, dtype=torch.uint8), torch.zeros(2, 64, 64, dtype=torch.uint8)
    for i, corner in enumerate((0, 32)):
        images[i, :, corner : corner + 32, corner : corner + 32] = torch.tensor([250, 60, 30])[:, None, None]
        masks[i, corner : corner + 32, corner : corner + 32] = 1
    module = segmenter(NAME).eval()
    colors = torch.nn.Sequential(torch.nn.AvgPool2d(4), module.segmentation.norm)
    monkeypatch.setattr(module.segmentation, "forward", lambda x: colors(x.float()))
    state = module.adapt(Examples(images[:1], torch.tensor([0]), class_masks=masks[:1]))
    (pred,) = module.predict(state, Examples(images[1:]))
    truth = masks[1] == 1
    assert ((pred.masks[0] & truth).sum() / (pred.masks[0] | truth).sum()) > 0.85


def test_oslsm_starts_from_the_same_prototypes(scenes, segmenter):
    """w before training points the way of the prototype of g's own features, as far as the hash allows."""
    lite = BackboneSettings("efficientnet_lite0")
    encoder = SupportEncoder(size=64, prototype_init=True, pooling=Prototypes(0.5))
    from lightning_fewshot.models.oslsm.settings import SegmentationBranchSettings

    branch = SegmentationBranchSettings(32, feature_norm=False)
    module = segmenter(backbone=lite, branch=branch, encoder=encoder).eval()
    twin = segmenter(NAME, backbone=lite, branch=branch, prototypes=Prototypes(0.5)).eval()
    body = module.conditioning.network.body
    twin.segmentation.body.body.load_state_dict(body.state_dict(), strict=False)
    twin.segmentation.top[0].load_state_dict(body.conv_head.state_dict())
    twin.segmentation.top[1].load_state_dict(body.bn2.state_dict())
    support = scenes.episode("test", 0).support
    with torch.no_grad():
        ours, expected = module.adapt(support).weight, twin.adapt(support).weight
    similarity = torch.nn.functional.cosine_similarity(ours, expected)
    assert (similarity > 0.6).all()
