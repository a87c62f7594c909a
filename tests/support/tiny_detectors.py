"""RepMet's detectors, tiny."""

import torch

from lightning_fewshot.models.repmet import (
    ExternalMetricDetector,
    PlainDetector,
    PlainMetricDetector,
    RepMetDetector,
)
from lightning_fewshot.models.repmet.settings import (
    EmbeddingSpace,
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


def detector(cls=RepMetDetector, **changes):
    torch.manual_seed(0)
    module = cls(**{**TINY, **OF_CLASS[cls], **changes})
    module.set_classes(CLASSES)
    return module
