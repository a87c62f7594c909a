"""PlainMetricDetector: the plain detector, adapted by distances between its own features (baseline-DML).

RepMet (Karlinsky et al., CVPR 2019), section 5.2: "we attach our DML sub-net without the embedding module to the
regular detector, effectively using the FPN-DCN two last FC layers as the embedding module".
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_fewshot.episodes import Examples
from lightning_fewshot.models.repmet.adaptation import LinearHead, MetricHead
from lightning_fewshot.models.repmet.plain import SoftmaxDetector
from lightning_fewshot.models.repmet.settings import FineTuning, Mixture
from lightning_fewshot.nn.detections import DetectionFilter
from lightning_fewshot.nn.embedding import embedding_layers
from lightning_fewshot.nn.two_stage import Proposals, Pyramid, RoiHead, TwoStageDetector
from lightning_fewshot.settings import BackboneSettings, Optimization


class PlainMetricDetector(SoftmaxDetector):
    """A standard detector, trained as PlainDetector; the support's features are the representatives.

    Its checkpoints and PlainDetector's hold the same parameters: one trained detector serves both.

    Args:
        backbone: A timm model with feature maps.
        pyramid: Size of the images, maps and anchors.
        proposals: How many regions are proposed.
        roi_head: What is computed from a region, and which regions are trained on.
        mixture: The distribution of a class, and the losses of fine-tuning.
        foreground: Exponent of the trained classifier's foreground probability, by which the scores of eq. (2) are
            multiplied, at least 0; 0 is the paper's text.
        detections: Which scored boxes are reported.
        finetuning: Fine-tuning of the representatives and of a linear layer that starts as the identity, on every
            episode's support; None leaves it out.
        iou_thresholds: IoU thresholds of the mean average precision.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start from; parameters that it lacks keep their initial values. Or
            ``COCO_V1``: backbone, pyramid and proposals of torchvision's Faster R-CNN; or a ``.pth`` file of it.

    Raises:
        ValueError: A number out of range.
    """

    def __init__(
        self,
        backbone: BackboneSettings = BackboneSettings("resnet101"),
        pyramid: Pyramid = Pyramid(),
        proposals: Proposals = Proposals(),
        roi_head: RoiHead = RoiHead(),
        mixture: Mixture = Mixture(),
        foreground: float = 0.0,
        detections: DetectionFilter = DetectionFilter(),
        finetuning: FineTuning | None = None,
        iou_thresholds: tuple[float, ...] = (0.5,),
        optimization: Optimization = Optimization(warmup=0.02),
        init_from: str | None = None,
    ) -> None:
        if foreground < 0:
            raise ValueError(f"foreground is {foreground} but must be at least 0")
        mixture.refuse_negatives("PlainMetricDetector")
        network = TwoStageDetector(
            backbone, pyramid=pyramid, proposals=proposals, roi_head=roi_head, make_head=embedding_layers
        )
        super().__init__(
            network,
            detections=detections,
            iou_thresholds=iou_thresholds,
            optimization=optimization,
            init_from=init_from,
        )
        self.mixture = mixture
        self.foreground = foreground
        self.finetuning = finetuning

    @torch.no_grad()
    def adapt(self, support: Examples) -> MetricHead:
        """Return the head of an episode: representatives from the support's rois, fine-tuned where asked.

        Args:
            support: Images with boxes and labels in [0, n_way); each class at least once.
        """
        regions = self.support_regions(support)
        size = self.network.n_features
        identity = torch.eye(size, device=self.device), torch.zeros(size, device=self.device)
        head = self.representatives_of(regions, identity, self.mixture)
        return head if self.finetuning is None else self.finetuned(head, regions, self.finetuning)

    def score_rois(self, state: MetricHead | LinearHead, pooled: Tensor, features: Tensor) -> Tensor:
        """Return eq. (2), times the foreground probability where asked, ``(R, N)`` in [0, 1]."""
        with self.full_precision():
            return self.weigh_by_foreground(state.scores(features), features, self.foreground)
