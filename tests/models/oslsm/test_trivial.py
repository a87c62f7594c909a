"""Segmenters that look at no image."""

import torch

from lightning_fewshot.episodes import Examples
from lightning_fewshot.models.oslsm import AllForegroundSegmenter, CopyMaskSegmenter


def examples(masks, labels):
    images = torch.zeros(len(masks), 3, *masks.shape[1:], dtype=torch.uint8)
    return Examples(images, torch.tensor(labels), class_masks=masks)


def test_the_mask_of_a_shot_is_scaled_to_the_query():
    mask = torch.zeros(1, 4, 4, dtype=torch.uint8)
    mask[0, :2, 2:] = 1
    module = CopyMaskSegmenter()
    (pred,) = module.predict(module.adapt(examples(mask, [0])), Examples(torch.zeros(1, 3, 8, 12), torch.tensor([0])))
    expected = torch.zeros(1, 8, 12, dtype=torch.bool)
    expected[0, :4, 6:] = True
    assert torch.equal(pred.masks, expected)
    assert torch.equal(pred.label_map, expected[0].to(torch.uint8))


def test_of_several_shots_half_must_agree_and_classes_stay_apart():
    masks = torch.zeros(4, 2, 2, dtype=torch.uint8)
    masks[0, 0] = masks[1, :, 0] = masks[2, 0, 0] = 1
    masks[3, 1, 1] = 2
    module = CopyMaskSegmenter()
    (pred,) = module.predict(module.adapt(examples(masks, [0, 0, 0, 1])), Examples(torch.zeros(1, 3, 2, 2)))
    assert pred.masks.tolist() == [[[True, False], [False, False]], [[False, False], [False, True]]]
    assert pred.label_map.tolist() == [[1, 0], [0, 2]]


def test_all_foreground_is_all_foreground(scenes):
    module, episode = AllForegroundSegmenter(), scenes.episode("test", 0)
    metric = module.build_metrics()
    preds = module(episode)
    metric.update(preds, episode)
    truth = episode.query.class_masks[0] == 1 + int(episode.query.labels[0])
    assert all(bool(p.masks.all()) for p in preds)
    assert abs(metric.compute()["miou"].value - truth.float().mean().item()) < 1e-6
