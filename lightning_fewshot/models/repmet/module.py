"""RepMetDetector: few-shot detection by distances to representatives.

RepMet (Karlinsky et al., CVPR 2019), sections 3, 4.2 and 5.2. Its baselines are plain.py, baseline_dml.py and
external.py.

Shapes: R rois of all images together, F roi features, e embedding, N classes, K modes of a class.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.repmet.adaptation import LinearHead, MetricHead
from lightning_fewshot.models.repmet.detector import EpisodeDetector
from lightning_fewshot.models.repmet.head import Representatives
from lightning_fewshot.models.repmet.settings import (
    AuxiliaryClassifier,
    EmbeddingSpace,
    Evaluation,
    FineTuning,
    Mixture,
)
from lightning_fewshot.nn.detections import DetectionFilter
from lightning_fewshot.nn.embedding import EmbeddingModule
from lightning_fewshot.nn.two_stage import Proposals, Pyramid, RoiHead, TwoStageDetector
from lightning_fewshot.settings import BackboneSettings, Optimization


class RepMetDetector(EpisodeDetector):
    """Detect novel classes from a few boxes: class posteriors are distances to representatives of the support.

    Args:
        backbone: A timm model with feature maps.
        pyramid: Size of the images, maps and anchors.
        proposals: How many regions are proposed.
        roi_head: What is computed from a region, and which regions are trained on.
        embedding: Where the representatives are learned.
        mixture: The distribution of a class, and the losses.
        auxiliary: A linear classifier beside the representatives.
        detections: Which scored boxes are reported.
        finetuning: Fine-tuning on every episode's support (table 3, right half); None leaves it out.
        evaluation: What is evaluated.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start from; parameters that it lacks keep their initial values. Or
            ``COCO_V1``: backbone, pyramid and proposals of torchvision's Faster R-CNN; or a ``.pth`` file of it.

    Attributes:
        pretraining: Whether the linear classifier takes the place of distances, in the first part of a run.
    """

    def __init__(
        self,
        backbone: BackboneSettings = BackboneSettings("resnet101"),
        pyramid: Pyramid = Pyramid(),
        proposals: Proposals = Proposals(),
        roi_head: RoiHead = RoiHead(),
        embedding: EmbeddingSpace = EmbeddingSpace(),
        mixture: Mixture = Mixture(),
        auxiliary: AuxiliaryClassifier = AuxiliaryClassifier(),
        detections: DetectionFilter = DetectionFilter(),
        finetuning: FineTuning | None = None,
        evaluation: Evaluation = Evaluation(),
        optimization: Optimization = Optimization(warmup=0.02),
        init_from: str | None = None,
    ) -> None:
        if evaluation.trained_classes and finetuning is not None:
            raise ValueError(f"trained_classes is True but finetuning is {finetuning}: there is no support to tune on")
        make_head = partial(EmbeddingModule, dim=embedding.dim)
        network = TwoStageDetector(
            backbone, pyramid=pyramid, proposals=proposals, roi_head=roi_head, make_head=make_head
        )
        super().__init__(
            network,
            detections=detections,
            iou_thresholds=evaluation.iou_thresholds,
            optimization=optimization,
            init_from=init_from,
        )
        self.embedding = embedding
        self.mixture = mixture
        self.auxiliary = auxiliary
        self.finetuning = finetuning
        self.evaluation = evaluation
        self.pretraining = False

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Make the parameters of the training classes."""
        super().set_classes(classes)
        if self.auxiliary.weight:
            self.classify = self.make_classifier(len(classes))
        self.representatives = Representatives(len(classes), self.mixture.n_modes, self.embedding.dim)
        if self.mixture.negatives:
            self.negatives = Representatives(1, self.mixture.negatives, self.embedding.dim)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return all trained parameters, the representatives with a learning rate of their own."""
        learned = [p for m in self.modules() if isinstance(m, Representatives) for p in m.parameters()]
        rest = [p for p in self.parameters() if p.requires_grad and not any(p is other for other in learned)]
        return [{"params": rest}, {"params": learned, "lr_factor": self.embedding.representatives_lr}]

    def on_train_batch_start(self, batch: Episode, batch_idx: int) -> None:
        """Switch from pretraining to distances, a function of the step, so that a resumed run repeats it."""
        super().on_train_batch_start(batch, batch_idx)
        self.pretraining = self.global_step / self.trainer.estimated_stepping_batches < self.auxiliary.pretrain

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the RPN's losses, classification, box regression and eq. (4) of a batch of training images."""
        query = episode.query
        rois = self.network.training_rois(query.images, query.boxes, query.labels)
        head = self.trained_head()
        with self.full_precision():
            distances = head.distances(rois.features)
            margin = head.margin_loss(distances, rois.labels)
            logits = self.classify(rois.features) if self.pretraining else head.logits(distances)
        terms, kept = self.network.losses(rois, logits)
        # In pretraining times 0: every parameter has a gradient, which DDP asks for.
        terms["embedding"] = margin[kept].mean() * (not self.pretraining)  # eq. (4)
        if self.auxiliary.weight and not self.pretraining:
            scores = self.classify(rois.features[kept])
            terms["auxiliary"] = self.auxiliary.weight * cross_entropy(scores.float(), rois.labels[kept])
        return terms

    def trained_head(self, class_ids: Tensor | None = None) -> MetricHead:
        """Return the head of the training classes, or of the ones that are numbered: training is with this head."""
        learned = self.representatives.weight
        last = self.network.head.last
        modes = learned if class_ids is None else learned[class_ids]
        return MetricHead(last.weight, last.bias, modes, None, self.mixture, self.learned_negatives)

    @property
    def learned_negatives(self) -> Tensor | None:
        """The representatives of the background, ``(M, e)``, where the mixture has some."""
        return self.negatives.weight[0] if self.mixture.negatives else None

    def state_of(self, episode: Episode) -> MetricHead:
        """Return the head of the training classes where these are evaluated, else adapt to the support."""
        if self.evaluation.trained_classes:
            return self.trained_head(torch.tensor(episode.class_ids, device=self.device))
        return self.adapt(episode.support)

    @torch.no_grad()
    def adapt(self, support: Examples) -> MetricHead:
        """Return the head of an episode: representatives from the support's rois, fine-tuned where asked.

        Args:
            support: Images with boxes and labels in [0, n_way); each class at least once.
        """
        regions = self.support_regions(support)
        last = self.network.head.last
        head = self.representatives_of(regions, (last.weight.detach(), last.bias.detach()), self.mixture)
        if self.mixture.negatives:
            head = head._replace(negatives=self.learned_negatives.detach())
        return head if self.finetuning is None else self.finetuned(head, regions, self.finetuning)

    def score_rois(self, state: MetricHead | LinearHead, pooled: Tensor, features: Tensor) -> Tensor:
        """Return eq. (2), times the foreground probability where asked, ``(R, N)`` in [0, 1]."""
        with self.full_precision():
            return self.weigh_by_foreground(state.scores(features), features, self.auxiliary.foreground)
