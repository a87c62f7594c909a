"""What one-shot segmentation scores before anything is trained: prototypes, 1-NN, logistic regression, trivial rows.

    FEWSHOT_DATA=/data python studies/oslsm_start.py pascal1 pascal2 pascal3 coco0 coco1 coco2 coco3 davis --queries 300

Photos of 321 pixels, an efficientnet_lite0 with ImageNet weights, 1 shot. Nothing is learned by gradients: features are
normalised by the statistics of training photos, and each method's threshold is the best one on validation classes.
DAVIS has no training videos here; it takes statistics and thresholds from the set before it. Intervals are over query
images, of J over sequences.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.images.mismatched_support import MismatchedSupport
from datamodules.segmentation.base import PhotoSegmentation
from datamodules.segmentation.coco_panoptic import CocoPanoptic
from datamodules.segmentation.davis import DAVIS
from datamodules.segmentation.pascal5i import Pascal5i
from datamodules.segmentation.settings import FoldSplits, MaskedImages, MaskRules
from lightning_fewshot.data import EpisodeCounts
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.metrics.estimate import Estimate
from lightning_fewshot.metrics.segmentation import SegmentationMetrics
from lightning_fewshot.metrics.threshold_sweep import ThresholdSweep
from lightning_fewshot.models.oslsm import AllForegroundSegmenter, CopyMaskSegmenter, PrototypeSegmenter
from lightning_fewshot.models.oslsm.classifiers import PixelClassifiers, pixel_logits
from lightning_fewshot.models.oslsm.logistic import logistic_regression
from lightning_fewshot.models.oslsm.masks import support_objects
from lightning_fewshot.models.oslsm.nearest import Neighbours, labelled_locations, neighbour_logits
from lightning_fewshot.models.oslsm.settings import ImageSides, SegmentationBranchSettings
from lightning_fewshot.settings import BackboneSettings

VALIDATION = 40  # pairs that choose the thresholds
REMEMBERED = 64  # feature maps
FRAME_STEP = 8  # of a video every eighth frame is asked


class StudiedPrototypes(PrototypeSegmenter):
    """Prototypes that compute the features of an image once, however many methods and episodes ask for them."""

    def __init__(self) -> None:
        super().__init__(
            backbone=BackboneSettings("efficientnet_lite0", "package", frozen_stages=5, frozen_batchnorm=True),
            branch=SegmentationBranchSettings(output_stride=16, feature_norm=True),
            sides=ImageSides(query_size=321, align_corners=True),
        )
        self.memory: OrderedDict[int, Tensor] = OrderedDict()

    def features(self, images: Sequence[Tensor] | Tensor, maps_only: bool = False) -> list[Tensor]:
        """Return conv-fc7 of every image, from memory where it is there."""
        keys = [zlib.crc32(image.numpy().tobytes()) for image in images]
        for key, image in zip(keys, images, strict=True):
            if key not in self.memory:
                self.memory[key] = super().features(image[None], maps_only)[0]
        found = [self.memory[key] for key in keys]
        while len(self.memory) > REMEMBERED:
            self.memory.popitem(last=False)
        return found


class StudiedNeighbours(StudiedPrototypes):
    """1-NN on the same features."""

    def __init__(self, prototypes: StudiedPrototypes) -> None:
        super().__init__()
        self.segmentation = prototypes.segmentation
        self.memory = prototypes.memory

    @torch.no_grad()
    def adapt(self, support: Examples) -> Neighbours:
        """Keep the labelled locations of the shots."""
        maps = self.features(support.images)
        rows = zip(support_objects(support), support.class_masks, maps, strict=True)
        return labelled_locations(maps, [self.location_labels(*row) for row in rows], support.labels)

    def location_logits(self, state: Neighbours, features: Tensor) -> Tensor:
        """Return how much nearer the object is than the background, ``(N, h, w)``."""
        return neighbour_logits(state, features) * len(features) ** -0.5


class StudiedLogistic(StudiedNeighbours):
    """Logistic regression on the same features."""

    @torch.no_grad()
    def adapt(self, support: Examples) -> PixelClassifiers:
        """Fit one (w, b) to the labelled locations of each class."""
        state = super().adapt(support)
        fits = [logistic_regression(*shots) for shots in zip(state.features, state.objects, strict=True)]
        return PixelClassifiers(*map(torch.stack, zip(*fits, strict=True)), state.classes)

    def location_logits(self, state: PixelClassifiers, features: Tensor) -> Tensor:
        """Return eq. (2), ``(N, h, w)``."""
        return pixel_logits(state.weight, state.bias, features)


@dataclass
class Methods:
    """Those with features, and those without."""

    prototypes: StudiedPrototypes = field(default_factory=StudiedPrototypes)

    def __post_init__(self) -> None:
        self.neighbours = StudiedNeighbours(self.prototypes)
        self.trained = {"prototypes": self.prototypes.eval(), "1-NN": self.neighbours.eval()}
        self.trained["logistic regression"] = StudiedLogistic(self.prototypes).eval()
        self.trivial = {"copy mask": CopyMaskSegmenter(), "all foreground": AllForegroundSegmenter()}


def data_of(name: str, queries: int) -> PhotoSegmentation:
    """Return a data set by its name here: pascal1 to pascal3, coco0 to coco3, davis."""
    kind, fold = name.rstrip("0123"), int(name[-1]) if name[-1].isdigit() else 0
    options: dict[str, Any] = {"images": MaskedImages(size=321), "num_workers": 0}
    if kind == "davis":
        return DAVIS(**options, rules=MaskRules(convention="later"))
    options["episodes"] = EpisodeCounts(1000, VALIDATION, queries)
    if kind == "pascal":
        splits = FoldSplits(fold=fold, val_classes=2 if fold < 3 else 3, small_classes="drop")
        return Pascal5i(str(Path(os.environ["FEWSHOT_DATA"]) / "pascal5i-animals"), splits=splits, **options)
    splits, rules = FoldSplits(fold=fold, val_classes=12, small_classes="drop"), MaskRules(min_pixels=6144)
    return CocoPanoptic(stuff=False, splits=splits, rules=rules, batch_size=8, **options)


@torch.no_grad()
def calibrate(methods: Methods, data: PhotoSegmentation, batches: int = 12) -> None:
    """Take the statistics of the features from training photos, and the thresholds from validation classes."""
    data.setup("fit")
    norm = methods.prototypes.segmentation.norm
    norm.reset_running_stats()
    norm.train()
    for i in range(batches):
        methods.prototypes.batch_features(data.episode("train", i).query.images)
    norm.eval()
    methods.prototypes.memory.clear()
    for module in methods.trained.values():
        sweep = ThresholdSweep()
        for i in range(data.counts["val"]):
            episode = data.episode("val", i)
            sweep.update(module(episode), episode)
        module.threshold.fill_(sweep.compute()["threshold"].value)


def thinned(episode: Episode) -> Episode:
    """Keep every eighth frame of a video, and its last one, which J leaves out."""
    if episode.protocol != "video":
        return episode
    query, kept = episode.query, [*range(0, len(episode.query.images) - 1, FRAME_STEP), len(episode.query.images) - 1]
    images, masks = ([part[i] for i in kept] for part in (query.images, query.class_masks))
    names = None if query.names is None else tuple(query.names[i] for i in kept)
    return episode._replace(query=Examples(images, query.labels[kept], class_masks=masks, names=names))


@torch.no_grad()
def measure(methods: Methods, data: PhotoSegmentation) -> dict[str, dict[str, Estimate]]:
    """Return the metrics of every row."""
    rows = ["prototypes", "prototypes, threshold 0.5", "mismatched support", "1-NN", "logistic regression"]
    metrics = {row: SegmentationMetrics() for row in (*rows, *methods.trivial)}
    control = MismatchedSupport(data)
    for i in range(data.counts["test"]):
        episode = thinned(data.episode("test", i))
        for name, module in (methods.trained | methods.trivial).items():
            preds = module(episode)
            metrics[name].update(preds, episode)
            if name == "prototypes":
                half = [pred._replace(masks=pred.probs > 0.5) for pred in preds]
                metrics["prototypes, threshold 0.5"].update(half, episode)
        if episode.protocol != "video" and len(data.catalog.split_classes["test"]) > 1:
            other = episode._replace(support=control.episode("test", i).support)
            metrics["mismatched support"].update(methods.prototypes(other), other)
    return {row: metric.compute() for row, metric in metrics.items()}


def line(row: str, found: dict[str, Estimate]) -> str:
    """Return one row of a table in Markdown."""
    name = "j" if "j" in found else "miou"
    value, low, high, n = found[name]
    milliseconds = f"{1000 * found['seconds'].value:.0f}" if "seconds" in found else "-"
    interval = f"{100 * value:.1f} ± {50 * (high - low):.1f}"
    return f"| {row} | {name} | {interval} | {n} | {found['pairs'].value:.0f} | {milliseconds} |"


def main() -> None:
    """Print a table for every data set that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--queries", type=int, default=300)
    options, methods = parser.parse_args(), Methods()
    warnings.filterwarnings("ignore")
    for name in options.sets:
        began, data = time.monotonic(), data_of(name, options.queries)
        if not name.startswith("davis"):
            calibrate(methods, data)
        data.setup("test")
        table = measure(methods, data)
        chosen = ", ".join(f"{key} {float(m.threshold):.3f}" for key, m in methods.trained.items())
        print(f"\n{name}: thresholds {chosen}; {time.monotonic() - began:.0f} s")
        print("| method | metric | value | n | pairs | ms |\n|---|---|---:|---:|---:|---:|")
        print("\n".join(line(row, found) for row, found in table.items() if found["pairs"].value), flush=True)


if __name__ == "__main__":
    main()
