"""ExternalMetricDetector: an embedding that is trained by itself on a frozen detector (baseline-DML-external).

RepMet (Karlinsky et al., CVPR 2019), section 5.2: "we trained the DML sub-net embedding module separately from the
detector [...] on sampled foreground and background ROIs using the triplet loss".
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_fewshot.checkpoint_files import load_weights
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.models.repmet.adaptation import LinearHead, MetricHead
from lightning_fewshot.models.repmet.detector import EpisodeDetector
from lightning_fewshot.models.repmet.loss import triplet_loss
from lightning_fewshot.models.repmet.settings import FineTuning, Mixture
from lightning_fewshot.nn.detections import DetectionFilter
from lightning_fewshot.nn.embedding import EmbeddingModule, embedding_layers
from lightning_fewshot.nn.two_stage import Proposals, Pyramid, RoiHead, TwoStageDetector
from lightning_fewshot.settings import BackboneSettings, Optimization


class ExternalMetricDetector(EpisodeDetector):
    """A frozen PlainDetector finds the boxes; a separate embedding, trained by the triplet loss, names them.

    Args:
        backbone: That of the frozen detector, as the next three.
        pyramid: Size of the images, maps and anchors.
        proposals: How many regions are proposed; training takes the number for evaluation.
        roi_head: What is computed from a region; the embedding has layers of the same widths.
        dim: Width of the embedding.
        mixture: The distribution of a class; its margin is also the triplet loss's.
        foreground: Exponent of the frozen classifier's foreground probability, by which the scores of eq. (2) are
            multiplied, at least 0; 0 is the paper's text.
        detections: Which scored boxes are reported.
        finetuning: Fine-tuning on every episode's support; None leaves it out.
        iou_thresholds: IoU thresholds of the mean average precision.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of a PlainDetector. Training needs it; a trained checkpoint holds it already.

    Raises:
        ValueError: A number out of range.
    """

    def __init__(
        self,
        backbone: BackboneSettings = BackboneSettings("resnet101"),
        pyramid: Pyramid = Pyramid(),
        proposals: Proposals = Proposals(),
        roi_head: RoiHead = RoiHead(),
        dim: int = 256,
        mixture: Mixture = Mixture(),
        foreground: float = 0.0,
        detections: DetectionFilter = DetectionFilter(),
        finetuning: FineTuning | None = None,
        iou_thresholds: tuple[float, ...] = (0.5,),
        optimization: Optimization = Optimization(warmup=0.02),
        init_from: str | None = None,
    ) -> None:
        for name, value, least in (("foreground", foreground, 0), ("dim", dim, 1)):
            if value < least:
                raise ValueError(f"{name} is {value} but must be at least {least}")
        mixture.refuse_negatives("ExternalMetricDetector")
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
        self.embedding = EmbeddingModule(network.n_pooled, roi_head.widths, dim)
        self.mixture = mixture
        self.foreground = foreground
        self.finetuning = finetuning
        self.network.requires_grad_(False)
        self.train()

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Make the frozen detector's classifier."""
        super().set_classes(classes)
        self.classify = self.make_classifier(len(classes)).requires_grad_(False)

    def load_initial(self, path: str) -> None:
        """Take a trained PlainDetector.

        Raises:
            ValueError: The checkpoint lacks a parameter of the detector, or holds it in another size.
        """
        saved = load_weights(path)
        needed = {k: v for k, v in self.state_dict().items() if k.startswith(("network.", "classify."))}
        lacking = [k for k, v in needed.items() if k not in saved or saved[k].shape != v.shape]
        if lacking:
            raise ValueError(
                f"init_from is {path} but must be a checkpoint of a PlainDetector with the same settings and classes: "
                f"{len(lacking)} parameters differ, {lacking[0]} is the first"
            )
        super().load_initial(path)

    def on_fit_start(self) -> None:
        """Refuse to train an embedding on a detector that has learned nothing."""
        if self.init_from is None:
            raise ValueError(
                "init_from is not set but an external embedding is trained on a frozen detector: give it a checkpoint "
                "of a PlainDetector, --model.init_args.init_from runs/.../best.ckpt"
            )
        self.train()

    def train(self, mode: bool = True) -> ExternalMetricDetector:
        """Keep the frozen detector in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def head_features(self, pooled: Tensor) -> Tensor:
        """Return what the embedding's last layer sees, ``(R, F)`` float32, of pooled rois."""
        return self.embedding(pooled).float()

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the triplet loss of foreground and background rois of a batch of training images."""
        regions = self.support_regions(episode.query)
        rois, labels = regions.labelled()
        features = self.head_features(self.network.pooled(regions.maps, rois))
        with self.full_precision():
            return {"triplet": triplet_loss(self.embedding.embed(features), labels, self.mixture.margin)}

    @torch.no_grad()
    def adapt(self, support: Examples) -> MetricHead:
        """Return the head of an episode: representatives from the support's rois, fine-tuned where asked.

        Args:
            support: Images with boxes and labels in [0, n_way); each class at least once.
        """
        regions = self.support_regions(support)
        last = self.embedding.last
        head = self.representatives_of(regions, (last.weight.detach(), last.bias.detach()), self.mixture)
        return head if self.finetuning is None else self.finetuned(head, regions, self.finetuning)

    def score_rois(self, state: MetricHead | LinearHead, pooled: Tensor, features: Tensor) -> Tensor:
        """Return eq. (2) on the external embedding, times the foreground probability where asked, ``(R, N)``."""
        embedded = self.head_features(pooled)
        with self.full_precision():
            return self.weigh_by_foreground(state.scores(embedded), features, self.foreground)
