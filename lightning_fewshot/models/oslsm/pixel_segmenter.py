"""PixelSegmenter: what all methods of the paper's table 1 share.

Each turns a support into classifiers of dense conv-fc7 features and lets them score every feature-map location of a
query image. Sizes, the grid between pixels and locations, masks, timing, pictures and export are written here.

Shapes: S classifiers, B images, D features, (H, W) pixels, (h, w) locations of a feature map.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from lightning_fewshot.episodes import Episode, Examples, Segmentation
from lightning_fewshot.exporting import Exportable
from lightning_fewshot.metrics.estimate import Estimate
from lightning_fewshot.metrics.segmentation import SegmentationMetrics
from lightning_fewshot.metrics.threshold_sweep import ThresholdSweep
from lightning_fewshot.models.oslsm.classifiers import PixelClassifiers, pixel_logits, segment
from lightning_fewshot.models.oslsm.export import StaticFCN, StaticSegmenter
from lightning_fewshot.models.oslsm.grid import location_labels, network_size, resized
from lightning_fewshot.models.oslsm.network import CHUNK
from lightning_fewshot.models.oslsm.segmentation_branch import SegmentationBranch
from lightning_fewshot.models.oslsm.settings import ImageSides, SegmentationBranchSettings
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.settings import BackboneSettings, Optimization, decay_groups

VGG16 = BackboneSettings("vgg16")
RUN = Optimization(warmup=0.02)


class PixelSegmenter(FewShotModule):
    """Segment a class from a few masked examples by classifying the features of a query image, location by location.

    An episode has class masks. Image i of the support is a shot of class ``labels[i]``; a query image is asked for the
    class ``labels[i]``, or for all classes where there are no labels. In training, shot i belongs to query image
    ``query_index[i]``.

    Args:
        backbone: Any timm model with feature maps. The paper has vgg16.
        branch: What the segmentation branch has on top of it.
        sides: How large images enter it.
        threshold: A pixel is the object's above this probability, in (0, 1); None: that of highest mean IoU on the
            validation episodes of ``fit``, which every checkpoint keeps, and one half before.
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start training from, as far as names and shapes agree.

    Raises:
        ValueError: A threshold or side that cannot be.
    """

    monitor = "val/miou"
    support_needs = "class_masks"

    stays_on_cpu = ("query_index",)  # sorts shots

    def __init__(
        self,
        backbone: BackboneSettings = VGG16,
        branch: SegmentationBranchSettings = SegmentationBranchSettings(),
        sides: ImageSides = ImageSides(),
        threshold: float | None = None,
        optimization: Optimization = RUN,
        init_from: str | None = None,
    ) -> None:
        super().__init__(optimization, init_from)
        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(f"threshold is {threshold} but must lie between 0 and 1")
        sides.check_stride(branch.output_stride)
        self.sides = sides
        self.stride = branch.output_stride
        self.fixed_threshold = threshold
        self.register_buffer("threshold", torch.tensor(0.5))
        self.segmentation = SegmentationBranch(backbone, branch)

    @abstractmethod
    def adapt(self, support: Examples) -> Any:
        """Turn shots into what ``location_logits`` scores with, such as pixel classifiers.

        Args:
            support: Images with class masks; image i is a shot of class ``labels[i]``.

        Raises:
            ValueError: A mask lacks its class, or has another size than its image.
        """

    def location_logits(self, state: Any, features: Tensor) -> Tensor:
        """Score every location of one image with every classifier of a state; above 0 is the object.

        Args:
            state: What ``adapt`` returned; it has ``classes``, ``(S,)``.
            features: ``(D, h, w)``.

        Returns:
            ``(S, h, w)``.
        """
        return pixel_logits(state.weight, state.bias, features)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Keep weight decay off biases and normalisation."""
        return decay_groups(self.parameters())

    def build_metrics(self) -> SegmentationMetrics:
        """Return mean IoU, FB-IoU and seconds a query image; void pixels that the data leaves in do not count."""
        return SegmentationMetrics()

    # threshold --------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Let the validation of ``fit`` choose the threshold, where none is given."""
        super().setup(stage)
        if stage == "fit" and self.fixed_threshold is None:
            self.metrics["val"] = ThresholdSweep()

    def compute_estimates(self, split: str) -> dict[str, Estimate]:
        """Return the estimates, and keep the threshold that validation chose."""
        estimates = super().compute_estimates(split)
        if "threshold" in estimates:
            self.threshold.fill_(estimates["threshold"].value)
        return estimates

    # features ---------------------------------------------------------------------------------------------------

    def batch_features(self, images: Sequence[Tensor] | Tensor) -> Tensor:
        """Return conv-fc7 of images of one size, ``(B, D, h, w)``, as the branch gives it; training runs through it."""
        return self.segmentation(resized(images, self.sides, self.stride))

    def features(self, images: Sequence[Tensor] | Tensor, maps_only: bool = False) -> list[Tensor]:
        """Return conv-fc7 of every image, each ``(D, h, w)`` float32; images of one size pass together.

        Args:
            images: ``(B, 3, H, W)`` in [0, 255], or a list of ``(3, H, W)``.
            maps_only: Return what fc6 sees instead.
        """
        sizes = {network_size(image.shape[-2:], self.sides, self.stride) for image in images}
        together = CHUNK if len(sizes) == 1 else 1
        run = self.segmentation.maps if maps_only else self.segmentation
        batches = [images[i : i + together] for i in range(0, len(images), together)]
        return [f for batch in batches for f in run(resized(batch, self.sides, self.stride)).float()]

    def location_labels(self, objects: Tensor, mask: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return which locations of ``(D, h, w)`` features are the object's, and which are known (not mostly void)."""
        return location_labels(objects, mask, features.shape[-2:], self.sides.align_corners)

    # predicting -------------------------------------------------------------------------------------------------

    def forward(self, episode: Episode) -> list[Segmentation]:
        """Adapt to the support, predict the query, and say how long a query image took."""
        began = self._clock()
        preds = super().forward(episode)
        seconds = (self._clock() - began) / max(1, len(preds))
        return [pred._replace(seconds=seconds) for pred in preds]

    @torch.no_grad()
    def predict(self, state: Any, query: Examples) -> list[Segmentation]:
        """Return the masks of every query image, in its own size; its features are computed once for all classes.

        Args:
            state: What ``adapt`` returned.
            query: B images. With ``labels``, image i is asked for class ``labels[i]``; without, for all classes.
        """
        known, preds = state.classes.unique().tolist(), []
        for first in range(0, len(query.images), CHUNK):
            images = query.images[first : first + CHUNK]
            for i, logits in enumerate(self.logits(state, images), first):
                asked = known if query.labels is None else [int(query.labels[i])]
                preds.append(self._segment(logits, state.classes, asked, query.images[i]))
        return preds

    def logits(self, state: Any, images: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """Return the scores of every classifier at every location, ``(S, h, w)`` for each image."""
        features = self._state_features(state, images)
        with self.full_precision():
            return [self.location_logits(state, f) for f in features]

    def _state_features(self, state: Any, images: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """Return conv-fc7 of every image, with the state's own fc6 and fc7 where it has them."""
        top = getattr(state, "top", None)
        if top is None:
            return self.features(images)
        with self.full_precision():
            maps = self.features(images, maps_only=True)
            return [functional_call(self.segmentation.top, dict(top), m[None])[0].float() for m in maps]

    def _segment(self, logits: Tensor, classes: Tensor, asked: Sequence[int], image: Tensor) -> Segmentation:
        chosen = float(self.threshold) if self.fixed_threshold is None else self.fixed_threshold
        options = {"threshold": chosen, "align_corners": self.sides.align_corners}
        return segment(logits, classes, asked, size=image.shape[-2:], **options)

    # using ------------------------------------------------------------------------------------------------------

    def export_fcn(self, state: PixelClassifiers) -> StaticFCN:
        """Return the adapted network as an ordinary FCN ending in a 1x1 convolution, for torch.export and ONNX.

        It maps uint8 images ``(B, 3, H, W)`` to logits ``(B, N, H, W)`` of the state's classes, equal to ``predict``
        before its threshold for images that ``predict`` does not scale: the sides are not in it.
        """
        return StaticFCN(self.segmentation, state, self.sides.align_corners)

    def exportable(self, state: PixelClassifiers, images: Tensor) -> Exportable:
        """Return the adapted network with the scaling of images: the probabilities that ``predict`` has."""
        network = StaticSegmenter(self.export_fcn(state), self.sides, self.stride)
        return Exportable(network, images, ("probs",), f"(B, N, H, W); of the class above {self.threshold}")

    @torch.no_grad()
    def draw(self, episode: Episode, preds: Sequence[Segmentation]) -> Tensor:
        """Return one ``(3, H, W)`` uint8 picture as in figure 4: support with truth, query with prediction."""
        from lightning_fewshot.models.oslsm.visualization import draw_tiles

        return draw_tiles(episode, preds)

    def _clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
