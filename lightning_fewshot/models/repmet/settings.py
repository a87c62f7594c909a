"""Settings of RepMet and of its baselines: frozen, checked when they are made, plain data inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

LogitKind = Literal["log", "scaled"]
MarginUnit = Literal["distance", "squared"]
Ranking = Literal["posterior", "softmax"]


@dataclass(frozen=True)
class EmbeddingSpace:
    """Where the representatives of the training classes are learned.

    Args:
        dim: Width of the embedding (section 4.2: 256).
        representatives_lr: Learning rate of the representatives, as a multiple: each gets a gradient only from the
            few batches that hold its class.

    Raises:
        ValueError: A number out of range.
    """

    dim: int = 256
    representatives_lr: float = 5.0

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim is {self.dim} but must be at least 1")
        if self.representatives_lr <= 0:
            raise ValueError(f"representatives_lr is {self.representatives_lr} but must be above 0")


@dataclass(frozen=True)
class Mixture:
    """The distribution of a class in the embedding space, and what its losses take (section 3).

    Args:
        n_modes: K, representatives of a class (section 4.2: 5).
        sigma: Standard deviation of a mode (section 4.2: 0.5).
        margin: alpha of eq. (4), in the unit below.
        margin_unit: What eq. (4) compares: "distance", as it is printed, or "squared" distances, to which the authors'
            0.5 belongs (about 0.3 of "distance").
        background_margin: Eq. (4) for background rois too: each must be farther from every mode, by the margin, than
            the batch's objects are from their own.
        logits: What the cross-entropy takes: "log", logarithms of the posteriors, or "scaled", the posteriors
            themselves as in the authors' code; see :func:`lightning_fewshot.models.repmet.head.posterior_logits`.
        logit_scale: Factor of either (the authors' code has 15 with "scaled").
        ranking: What a detection's score is: the "posterior" of eq. (2), or the "softmax" over background and classes
            of the logits, as in the authors' code.
        negatives: Representatives of the background that are learned in training and kept for every episode; 0, the
            paper: the background is what is far from all classes, eq. (3). With some of them, the posterior of
            every class is multiplied by what theirs, by eq. (2), leaves, before eq. (3).

    Raises:
        ValueError: A number out of range.
    """

    n_modes: int = 5
    sigma: float = 0.5
    margin: float = 0.5
    margin_unit: MarginUnit = "distance"
    background_margin: bool = False
    logits: LogitKind = "log"
    logit_scale: float = 3.0
    ranking: Ranking = "posterior"
    negatives: int = 0

    def __post_init__(self) -> None:
        if self.n_modes < 1:
            raise ValueError(f"n_modes is {self.n_modes} but must be at least 1")
        if self.negatives < 0:
            raise ValueError(f"negatives is {self.negatives} but must be at least 0")
        for name in ("sigma", "logit_scale"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)} but must be above 0")
        if self.margin < 0:
            raise ValueError(f"margin is {self.margin} but must be at least 0")
        choices = {
            "logits": get_args(LogitKind),
            "margin_unit": get_args(MarginUnit),
            "ranking": get_args(Ranking),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r} but must be {allowed[0]!r} or {allowed[1]!r}")

    def refuse_negatives(self, method: str) -> None:
        """Refuse representatives of the background for a method that learns none."""
        if self.negatives:
            raise ValueError(f"mixture.negatives is {self.negatives} but {method} learns no representatives: set 0")


@dataclass(frozen=True)
class AuxiliaryClassifier:
    """A linear classifier on the features that are embedded (in the authors' code, not in the paper's text).

    Args:
        weight: Of its loss in training, at least 0; 0 leaves the classifier out.
        foreground: Exponent of its foreground probability, by which the scores of eq. (2) are multiplied; 0 is the
            paper's text. Eq. (3) knows the background only as what is far from the classes at hand, which rejects
            little after a short training.
        pretrain: First part of the run, in [0, 1), that trains a plain detector by this classifier, in place of the
            paper's pretraining on COCO.

    Raises:
        ValueError: A number out of range, or a use of a classifier that is left out.
    """

    weight: float = 1.0
    foreground: float = 0.0
    pretrain: float = 0.0

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight is {self.weight} but must be at least 0")
        if self.foreground < 0:
            raise ValueError(f"foreground is {self.foreground} but must be at least 0")
        if not 0 <= self.pretrain < 1:
            raise ValueError(f"pretrain is {self.pretrain} but must be at least 0 and below 1")
        for name in ("foreground", "pretrain"):
            if getattr(self, name) and not self.weight:
                raise ValueError(f"{name} is {getattr(self, name)} but weight is 0: no linear classifier is trained")


@dataclass(frozen=True)
class FineTuning:
    """Fine-tuning of the last layer on the support of every episode (table 3, right half).

    Args:
        steps: Gradient steps of Adam, at least 1.
        lr: Their learning rate.
        unlabelled: A proposal that touches no labelled object but has this objectness or more may be an object that
            nobody labelled, and is not taken as background; 1 takes all as background.

    Raises:
        ValueError: A number out of range.
    """

    steps: int = 100
    lr: float = 5e-4
    unlabelled: float = 0.5

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps} but must be at least 1")
        if self.lr <= 0:
            raise ValueError(f"lr is {self.lr} but must be above 0")
        if not 0 <= self.unlabelled <= 1:
            raise ValueError(f"unlabelled is {self.unlabelled} but must lie between 0 and 1")


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated.

    Args:
        trained_classes: Detect the training classes as they were learned, without support (table 4, and the last rows
            of table 3); False adapts to every episode's support.
        iou_thresholds: IoU thresholds of the mean average precision.

    Raises:
        ValueError: A threshold out of range.
    """

    trained_classes: bool = False
    iou_thresholds: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        if not self.iou_thresholds or not all(0 < t <= 1 for t in self.iou_thresholds):
            raise ValueError(f"iou_thresholds is {self.iou_thresholds} but must hold values above 0, at most 1")
