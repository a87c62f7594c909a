"""Small tracking episodes for tests: a bright textured square that moves over noise."""

import torch

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.tracking.frames import ArrayFrames


def video(frames=6, size=96, side=24, seed=0, step=3.0):
    """Return ``(T, 3, H, W)`` uint8 frames and ``(T, 4)`` boxes."""
    g = torch.Generator().manual_seed(seed)
    ground = torch.randint(0, 90, (3, size, size), generator=g, dtype=torch.uint8)
    texture = torch.randint(120, 255, (3, side, side), generator=g, dtype=torch.uint8)
    start = 20 + 10 * torch.rand(2, generator=g)
    images, boxes = [], []
    for t in range(frames):
        x, y = (start + step * t).round().long().tolist()
        image = ground.clone()
        image[:, y : y + side, x : x + side] = texture
        images.append(image)
        boxes.append([x, y, x + side, y + side])
    return torch.stack(images), torch.tensor(boxes, dtype=torch.float32)


def clip_episode(clips=2, frames=6, **options):
    """Return a training episode as ``TrackingData(train="frames")`` makes them."""
    first, others = ([], []), ([], [])
    for seed in range(clips):
        images, boxes = video(frames, seed=seed, **options)
        for t in range(frames):
            part = first if t == 0 else others
            part[0].append(images[t])
            part[1].append(boxes[t : t + 1])
    parts = [Examples(images, boxes=boxes) for images, boxes in (first, others)]
    return Episode(*parts, ("object",), 0, class_ids=tuple(range(clips)), protocol="frames")


def as_frames(images):
    return ArrayFrames(images.permute(0, 2, 3, 1).numpy(), "square")
