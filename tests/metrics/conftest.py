"""Random episodes whose detections are good enough for true positives, duplicates, wrong classes and background."""

import pytest
import torch

from lightning_fewshot.episodes import Detections, Episode, Examples


def _boxes(n, g):
    corner = torch.rand(n, 2, generator=g) * 60
    return torch.cat((corner, corner + 10 + torch.rand(n, 2, generator=g) * 40), dim=1)


def _image(n_way, n_objects, n_detections, g):
    truth, labels = _boxes(n_objects, g), torch.randint(n_way, (n_objects,), generator=g)
    loose = _boxes(n_detections, g)
    if n_objects:
        which = torch.randint(n_objects, (n_detections,), generator=g)
        near = truth[which] + torch.randn(n_detections, 4, generator=g) * 4
        near = torch.cat((near[:, :2], torch.maximum(near[:, 2:], near[:, :2] + 1)), dim=1)
        kind = torch.rand(n_detections, generator=g)
        loose = torch.where(kind[:, None] < 0.7, near, loose)
        chosen = torch.where(kind < 0.5, labels[which], torch.randint(n_way, (n_detections,), generator=g))
    else:
        chosen = torch.randint(n_way, (n_detections,), generator=g)
    scores = torch.rand(n_detections, generator=g)
    return truth, labels, Detections(loose, scores, chosen)


def make_episodes(n, seed=0, n_way=3, n_images=4, n_classes=7, max_objects=4, max_detections=15):
    """List n pairs (predictions, episode); some images have no object, some no detection."""
    g = torch.Generator().manual_seed(seed)
    pairs = []
    for index in range(n):
        ids = torch.randperm(n_classes, generator=g)[:n_way]
        images = [
            _image(
                n_way,
                int(torch.randint(max_objects + 1, (), generator=g)),
                int(torch.randint(max_detections + 1, (), generator=g)),
                g,
            )
            for _ in range(n_images)
        ]
        query = Examples(
            images=[torch.zeros(3, 1, 1, dtype=torch.uint8)] * n_images,
            labels=[labels for _, labels, _ in images],
            boxes=[boxes for boxes, _, _ in images],
        )
        episode = Episode(None, query, tuple(map(str, ids.tolist())), index, tuple(ids.tolist()))
        pairs.append(([p for _, _, p in images], episode))
    return pairs


@pytest.fixture
def episodes():
    """Give ``make_episodes``."""
    return make_episodes
