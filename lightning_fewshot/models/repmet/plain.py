"""PlainDetector: the standard detector that RepMet is compared with, adapted by fine-tuning (baseline-FT).

RepMet (Karlinsky et al., CVPR 2019), section 5.2, tables 3 and 4: "we fine-tuned the linear decision layer of the
classifier head of the FPN-DCN detector". The same trained detector is adapted by distances in baseline_dml.py.

Shapes: F roi features, N classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.repmet.adaptation import LinearHead, finetune, imprinted
from lightning_fewshot.models.repmet.detector import EpisodeDetector
from lightning_fewshot.models.repmet.settings import Evaluation, FineTuning
from lightning_fewshot.nn.detections import DetectionFilter
from lightning_fewshot.nn.embedding import embedding_layers
from lightning_fewshot.nn.two_stage import Proposals, Pyramid, RoiHead, TwoStageDetector
from lightning_fewshot.settings import BackboneSettings, Optimization


class SoftmaxDetector(EpisodeDetector):
    """A detector that is trained with a linear softmax classifier; how it adapts is left open."""

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Make the classifier of the training classes."""
        super().set_classes(classes)
        self.classify = self.make_classifier(len(classes))

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the RPN's losses, classification and box regression of a batch of training images."""
        query = episode.query
        rois = self.network.training_rois(query.images, query.boxes, query.labels)
        with self.full_precision():
            logits = self.classify(rois.features)
        return self.network.losses(rois, logits)[0]


class PlainDetector(SoftmaxDetector):
    """A standard detector; on an episode a linear layer of the new classes is trained (baseline-FT).

    Args:
        backbone: A timm model with feature maps.
        pyramid: Size of the images, maps and anchors.
        proposals: How many regions are proposed.
        roi_head: What is computed from a region, and which regions are trained on.
        detections: Which scored boxes are reported.
        finetuning: How the linear layer of the new classes is trained.
        imprint: Start that layer from the means of the classes on the support; False starts from zero.
        evaluation: What is evaluated.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start from; parameters that it lacks keep their initial values. Or
            ``COCO_V1``: backbone, pyramid and proposals of torchvision's Faster R-CNN; or a ``.pth`` file of it.
    """

    def __init__(
        self,
        backbone: BackboneSettings = BackboneSettings("resnet101"),
        pyramid: Pyramid = Pyramid(),
        proposals: Proposals = Proposals(),
        roi_head: RoiHead = RoiHead(),
        detections: DetectionFilter = DetectionFilter(),
        finetuning: FineTuning = FineTuning(),
        imprint: bool = True,
        evaluation: Evaluation = Evaluation(),
        optimization: Optimization = Optimization(warmup=0.02),
        init_from: str | None = None,
    ) -> None:
        network = TwoStageDetector(
            backbone, pyramid=pyramid, proposals=proposals, roi_head=roi_head, make_head=embedding_layers
        )
        super().__init__(
            network,
            detections=detections,
            iou_thresholds=evaluation.iou_thresholds,
            optimization=optimization,
            init_from=init_from,
        )
        self.finetuning = finetuning
        self.imprint = imprint
        self.evaluation = evaluation

    def state_of(self, episode: Episode) -> LinearHead:
        """Return the head of the training classes where these are evaluated, else adapt to the support."""
        if self.evaluation.trained_classes:
            return self.trained_head(torch.tensor(episode.class_ids, device=self.device))
        return self.adapt(episode.support)

    def trained_head(self, class_ids: Tensor) -> LinearHead:
        """Return the rows of background and of some training classes."""
        rows = torch.cat([class_ids.new_zeros(1), class_ids + 1])
        return LinearHead(self.classify.weight[rows], self.classify.bias[rows])

    @torch.no_grad()
    def adapt(self, support: Examples) -> LinearHead:
        """Return a linear layer of the support's classes, trained on the support.

        Args:
            support: Images with boxes and labels in [0, n_way); each class at least once.
        """
        regions = self.support_regions(support)
        features, labels = self.certain_features(regions, self.finetuning)
        with self.full_precision():
            start = imprinted(features, labels, regions.n_way)
            if not self.imprint:
                start = LinearHead(torch.zeros_like(start.weight), torch.zeros_like(start.bias))
            return finetune(start, features, labels, self.finetuning)
