"""What RepMet's detector and its baselines share: a two-stage detector, classified by the head of an episode.

RepMet (Karlinsky et al., CVPR 2019), sections 4.2 and 5.2. A method says how its rois are classified in training
(``loss``), and what head it makes of a support (``adapt``).

Shapes: R rois of all images together, F roi features, N classes, P pooled features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Linear
from torch.nn.init import normal_
from torchvision.ops import box_iou

from lightning_fewshot.episodes import Detections, Examples
from lightning_fewshot.exporting import Exportable
from lightning_fewshot.metrics.detection import DetectionMetrics
from lightning_fewshot.models.repmet.adaptation import (
    Head,
    LinearHead,
    MetricHead,
    finetune,
    gather_representatives,
    support_rois,
)
from lightning_fewshot.models.repmet.settings import FineTuning, Mixture
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.nn.coco_start import is_torchvision, load_detector, read_torchvision
from lightning_fewshot.nn.detections import DetectionFilter
from lightning_fewshot.nn.embedding import embed
from lightning_fewshot.nn.export import StaticDetector
from lightning_fewshot.nn.rois import label_rois
from lightning_fewshot.nn.two_stage import Maps, TwoStageDetector
from lightning_fewshot.settings import Optimization

QUERY_CHUNK = 25  # query images that are predicted together
TOUCHING = 0.1  # IoU
CLASSIFIER_STD = 0.01  # of a linear classifier's initial weights


class SupportRegions(NamedTuple):
    """Proposals on the images of a support.

    Args:
        maps: Of the images.
        proposals: ``(P, 4)`` of every image, in pixels of the scaled images.
        objectness: ``(P,)`` of every image.
        boxes: True boxes of every image, in the same pixels.
        labels: Their classes.
    """

    maps: Maps
    proposals: list[Tensor]
    objectness: list[Tensor]
    boxes: list[Tensor]
    labels: Sequence[Tensor]

    @property
    def n_way(self) -> int:
        """Return the number of classes."""
        return int(torch.cat(list(self.labels)).max()) + 1

    @property
    def k_shot(self) -> int:
        """Return the largest number of boxes of a class."""
        return int(torch.bincount(torch.cat(list(self.labels))).max())

    def labelled(self) -> tuple[list[Tensor], Tensor]:
        """Return all proposals and true boxes of every image, and of all together the labels (0 background)."""
        rois = [torch.cat([p, b]) for p, b in zip(self.proposals, self.boxes, strict=True)]
        labels = [label_rois(r, b, n)[0] for r, b, n in zip(rois, self.boxes, self.labels, strict=True)]
        return rois, torch.cat(labels)

    def certain(self, unlabelled: float) -> tuple[list[Tensor], Tensor]:
        """Return what ``labelled`` does, without proposals that may be objects that nobody labelled.

        Args:
            unlabelled: Objectness from which on a proposal that touches no labelled box is one of these.
        """
        rois, labels = self.labelled()
        kept = [
            torch.cat([(o < unlabelled) | touches(p, b), torch.ones_like(b[:, 0], dtype=torch.bool)])
            for p, o, b in zip(self.proposals, self.objectness, self.boxes, strict=True)
        ]
        return [r[k] for r, k in zip(rois, kept, strict=True)], labels[torch.cat(kept)]


def touches(rois: Tensor, boxes: Tensor) -> Tensor:
    """Return which rois have an IoU of 0.1 or more with some box, ``(R,)`` bool."""
    if len(boxes) == 0:
        return torch.zeros_like(rois[:, 0], dtype=torch.bool)
    return box_iou(rois, boxes).amax(1) >= TOUCHING


class EpisodeDetector(FewShotModule):
    """A two-stage detector whose rois are scored by the head of an episode.

    Args:
        network: All of the detector but the classification.
        detections: What is reported.
        iou_thresholds: IoU thresholds of the mean average precision.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start from; ``COCO_V1``, or a ``.pth`` file: torchvision's Faster R-CNN.
    """

    monitor = "val/map_50"
    support_needs = "boxes"
    one_output_a_class = True
    classify: Linear

    def __init__(
        self,
        network: TwoStageDetector,
        *,
        detections: DetectionFilter,
        iou_thresholds: Sequence[float],
        optimization: Optimization,
        init_from: str | None,
    ) -> None:
        super().__init__(optimization, init_from)
        self.network = network
        self.detections = detections
        self.iou_thresholds = tuple(iou_thresholds)

    def build_metrics(self) -> DetectionMetrics:
        """Return mAP, the paper's pooled AP, Recall@10 and Recall@100."""
        return DetectionMetrics(iou_thresholds=self.iou_thresholds)

    def make_classifier(self, n_classes: int) -> Linear:
        """Return a linear softmax classifier of the roi features, ``F -> 1 + N``, background first."""
        layer = Linear(self.network.n_features, 1 + n_classes)
        normal_(layer.weight, std=CLASSIFIER_STD)
        return layer

    def load_initial(self, path: str) -> None:
        """Start from another run's weights, or backbone, pyramid and proposals from torchvision's Faster R-CNN."""
        if not is_torchvision(path):
            super().load_initial(path)
            return
        count = load_detector(self.network, read_torchvision(path), path)
        self.print(f"init_from {path}: {count} parameters of backbone, pyramid and region proposals taken")

    # adapting ---------------------------------------------------------------------------------------------------

    def head_features(self, pooled: Tensor) -> Tensor:
        """Return what the last layer of a head sees, ``(R, F)`` float32, of pooled rois."""
        return self.network.head(pooled).float()

    def support_regions(self, support: Examples) -> SupportRegions:
        """Propose regions on the images of a support."""
        maps = self.network.maps(support.images)
        regions = self.network.propose(maps)
        return SupportRegions(maps, regions.boxes, regions.objectness, maps.scaled(support.boxes), support.labels)

    def representatives_of(self, regions: SupportRegions, layer: tuple[Tensor, Tensor], mixture: Mixture) -> MetricHead:
        """Return the head whose representatives are the embeddings of the support's rois (section 5.2).

        Args:
            regions: Of a support.
            layer: Weight ``(e, F)`` and bias ``(e,)`` of the last embedding layer.
            mixture: Of the head.
        """
        shots = regions.k_shot
        slots = max(mixture.n_modes, 2 * shots)
        per_box = -(-slots // shots)
        chosen = [support_rois(p, b, per_box) for p, b in zip(regions.proposals, regions.boxes, strict=True)]
        classes = torch.cat([n[box] for n, (_, box) in zip(regions.labels, chosen, strict=True)])
        features = self.head_features(self.network.pooled(regions.maps, [roi for roi, _ in chosen]))
        with self.full_precision():
            embedded = embed(features, *layer)
        return MetricHead(*layer, *gather_representatives(embedded, classes, regions.n_way, slots), mixture)

    @torch.no_grad()
    def embed_boxes(self, state: MetricHead, examples: Examples) -> Tensor:
        """Return the embeddings of the true boxes of images, ``(R, e)`` of unit length."""
        maps = self.network.maps(examples.images)
        features = self.head_features(self.network.pooled(maps, maps.scaled(examples.boxes)))
        return embed(features, state.weight, state.bias)

    def certain_features(self, regions: SupportRegions, finetuning: FineTuning) -> tuple[Tensor, Tensor]:
        """Return features ``(R, F)`` and labels of the support's regions, but for those that may be unlabelled."""
        rois, labels = regions.certain(finetuning.unlabelled)
        return self.head_features(self.network.pooled(regions.maps, rois)), labels

    def finetuned(self, head: Head, regions: SupportRegions, finetuning: FineTuning) -> Head:
        """Return a head that is fine-tuned on the proposals of the support's images."""
        features, labels = self.certain_features(regions, finetuning)
        with self.full_precision():
            return finetune(head, features, labels, finetuning)

    # predicting -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, state: MetricHead | LinearHead, query: Examples) -> list[Detections]:
        """Return the detections of every query image, of all classes of the state.

        Args:
            state: Head of an episode.
            query: B images.
        """
        score = partial(self.score_rois, state)
        chunks = [query.images[i : i + QUERY_CHUNK] for i in range(0, len(query.images), QUERY_CHUNK)]
        return [d for images in chunks for d in self.network.detect(images, score, self.detections)]

    def score_rois(self, state: MetricHead | LinearHead, pooled: Tensor, features: Tensor) -> Tensor:
        """Return the score of every class of a head for every roi, ``(R, N)`` in [0, 1].

        Args:
            state: Head of an episode.
            pooled: ``(R, P)``.
            features: ``(R, F)``, the detector's own features of the same rois.
        """
        with self.full_precision():
            return state.scores(features)

    def exportable(self, state: MetricHead | LinearHead, images: Tensor) -> Exportable:
        """Return the detector with the head of a state: boxes and scores before non-maximum suppression."""
        says = "boxes (P, 4) x1, y1, x2, y2 in pixels, of the likeliest regions; scores (P, N); apply NMS to them"
        network = StaticDetector(self.network, partial(self.score_rois, state), tuple(images.shape[-2:]))
        return Exportable(network, images, ("boxes", "scores"), says)

    def weigh_by_foreground(self, scores: Tensor, features: Tensor, exponent: float) -> Tensor:
        """Multiply ``(R, N)`` scores by the linear classifier's foreground probability to a power.

        Eq. (2) is the posterior of a class given an object; this makes it that of an object of the class.
        """
        if not exponent:
            return scores
        background = self.classify(features).softmax(dim=1)[:, :1]  # (R, 1)
        return scores * (1 - background) ** exponent
