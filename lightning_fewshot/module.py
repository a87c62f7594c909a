"""The contract of every paper: look at a few labelled examples, then predict.

``adapt(support) -> state`` and ``predict(state, query) -> predictions`` are what a paper writes, together with its
``loss``. The training, validation, test and predict steps are written once, here, so that no paper can be evaluated
differently by accident. State is returned, never stored on the module: two episodes cannot mix.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lightning_fewshot.advice import training_command
from lightning_fewshot.checkpoint_entry import KEY, check_finite, check_fits, constructor_arguments, description
from lightning_fewshot.checkpoint_files import load_weights
from lightning_fewshot.drawing import draw_episode
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.exporting import Exportable
from lightning_fewshot.metrics.estimate import Estimate
from lightning_fewshot.metrics.gathering import values_of
from lightning_fewshot.precision import full_precision
from lightning_fewshot.sampling import episode_rng
from lightning_fewshot.settings import Optimization
from lightning_fewshot.shipped import load_shipped
from lightning_fewshot.waiting import FewWaits


class FewShotModule(FewWaits, ABC):
    """A paper as a LightningModule. Subclasses write ``adapt``, ``predict``, ``loss`` and ``build_metrics``.

    Every metric's ``compute`` returns ``{name: Estimate}``: a value, its 95 % interval and the number of episodes.
    After a validation or a test they stand in ``estimates`` until the next one, and curves of a metric that has some
    in ``curves``. Constructor arguments are plain data and settings groups; they are kept in ``init_args`` and written
    into every checkpoint.

    Args:
        optimization: Optimiser and learning rate over the run.
        init_from: Checkpoint of another run to start training from, as far as names and shapes agree.

    Attributes:
        monitor: Logged value by which the best checkpoint is chosen.
        mode: Whether more of it is better ("max") or less ("min").
        support_needs: What the support must have: "labels", "boxes" or "class_masks".
        needs_training: Whether predictions of a model that was never trained mean nothing.
        one_output_a_class: Whether ``set_classes`` makes parameters for the training classes.
        classes: Names of the training classes, where the model depends on them.
    """

    monitor: ClassVar[str] = "val/accuracy"
    mode: ClassVar[str] = "max"
    support_needs: ClassVar[str] = "labels"
    needs_training: bool = True
    one_output_a_class: ClassVar[bool] = False
    init_args: dict[str, Any]
    estimates: dict[str, Estimate]
    classes: tuple[str, ...] | None

    def __init__(self, optimization: Optimization = Optimization(), init_from: str | None = None) -> None:
        super().__init__()
        self.init_args = constructor_arguments(self, inspect.currentframe())
        self.optimization = optimization
        self.init_from = init_from
        self.classes = None
        self.estimates = {}
        self.curves: dict[str, list[float]] = {}
        self.loaded_step: int | None = None
        self.run_seed: int | None = None
        self.trained = False
        self._valued: tuple[Any, dict[str, float]] = (None, {})

    @abstractmethod
    def adapt(self, support: Examples) -> Any:
        """Turn labelled examples into the state that ``predict`` uses; differentiable where the paper trains it."""

    @abstractmethod
    def predict(self, state: Any, query: Examples) -> Any:
        """Predict on new images with an adapted state."""

    @abstractmethod
    def loss(self, episode: Episode) -> dict[str, Tensor]:
        """Return the terms of the training loss by name; their sum is minimised."""

    @abstractmethod
    def build_metrics(self) -> Metric:
        """Return a fresh metric with ``update(preds, episode)`` and ``compute() -> {name: Estimate}``."""

    def state_of(self, episode: Episode) -> Any:
        """Return the state to predict an episode with. A paper that can do without support overrides this."""
        return self.adapt(episode.support)

    def forward(self, episode: Episode) -> Any:
        """Adapt to the support, predict the query."""
        return self.predict(self.state_of(episode), episode.query)

    def training_step(self, episode: Episode, batch_idx: int) -> Tensor:
        """Sum the loss terms, and log them."""
        self.step_of_epoch = batch_idx
        terms = self.loss(episode)
        total = torch.stack(list(terms.values())).sum()
        if self.looks:
            self._check_finite(total, terms, episode)
        self._log_terms(terms | {"loss": total}, len(episode.query.images))
        return total

    def validation_step(self, episode: Episode, batch_idx: int) -> Any:
        """Predict one episode and count it."""
        return self._evaluate(episode, "val")

    def test_step(self, episode: Episode, batch_idx: int) -> Any:
        """Predict one episode and count it."""
        return self._evaluate(episode, "test")

    def predict_step(self, episode: Episode, batch_idx: int) -> Any:
        """Predict one episode."""
        return self(episode)

    # hooks with defaults ----------------------------------------------------------------------------------------

    def set_classes(self, classes: tuple[str, ...]) -> None:
        """Take the names of the training classes; a model with ``one_output_a_class`` makes its parameters here."""
        self.classes = classes

    def adapt_images(self, support: Examples) -> Any:
        """Return the state of a user's labelled images; where ``adapt`` asks for an episode's order."""
        return self.adapt(support)

    def predict_images(self, state: Any, query: Examples) -> list[Any]:
        """Return one prediction an image, for all classes of a state of ``adapt_images``."""
        return list(self.predict(state, query))

    def draw(self, episode: Episode, preds: Any) -> Tensor:
        """Return one ``(3, H, W)`` uint8 picture of an episode: support, query, truth and prediction."""
        return draw_episode(episode, preds)

    def quality(self, episode: Episode, preds: Any) -> float:
        """Rate the predictions of an episode, higher is better, to show the best and the worst; nan: not rated."""
        value = self.values_of(episode, preds).get(self.monitor.partition("/")[2], math.nan)
        return value if self.mode == "max" else -value

    def prediction_records(self, episode: Episode, preds: Any) -> list[dict[str, Any]] | None:
        """Return what ``predictions.json`` says of an episode; None: what its kind of predictions has by default."""
        return None

    def exportable(self, state: Any, images: Tensor) -> Exportable:
        """Return the network adapted to a state of ``adapt_images`` as an ordinary one, for images of one size.

        Raises:
            ValueError: This paper has no such form.
        """
        raise ValueError(f"{type(self).__name__} cannot be exported")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what the optimiser gets; a group may hold ``lr_factor``, a multiple of the learning rate."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def load_initial(self, path: str) -> None:
        """Start from another run's weights, as far as names and shapes agree.

        Raises:
            FileNotFoundError: There is no such checkpoint.
            ValueError: None of its parameters fits.
        """
        saved, here = load_weights(path), self.state_dict()
        fitting = {name: value for name, value in saved.items() if name in here and here[name].shape == value.shape}
        if not fitting:
            raise ValueError(f"init_from {path}: none of its {len(saved)} parameters fits {type(self).__name__}")
        self.load_state_dict(fitting, strict=False)
        self.print(f"init_from {path}: {len(fitting)} of {len(here)} parameters taken")

    def values_of(self, episode: Episode, preds: Any) -> dict[str, float]:
        """Return the metrics of one episode by itself; they are computed once."""
        if self._valued[0] is not preds:
            self._valued = preds, values_of(self.build_metrics().to(self.device), preds, episode)
        return self._valued[1]

    def compute_estimates(self, split: str) -> dict[str, Estimate]:
        """Return the estimates of all episodes of "val" or "test" that were counted, and forget them."""
        metric = self.metrics[split]
        estimates = metric.compute()
        self.curves = getattr(metric, "curves", {})
        metric.reset()
        return estimates

    # run --------------------------------------------------------------------------------------------------------

    def full_precision(self) -> torch.autocast:
        """Return a context without AMP on the module's device."""
        return full_precision(self.device)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuse: Lightning would take defaults for all settings that it is not given, without a word.

        Raises:
            ValueError: Always; names the call that takes class and settings from the checkpoint.
        """
        raise ValueError(
            f"use lightning_fewshot.load({str(checkpoint_path)!r}).module: it has the checkpoint's settings"
        )

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimiser with its schedule, stepped every batch."""
        optimizer = self.optimization.make_optimizer(self.parameter_groups())
        schedule = self.optimization.make_schedule(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def setup(self, stage: str) -> None:
        """Build the metrics, take the training classes and ``init_from``, and remember the seed of the run."""
        if self.run_seed is not None:
            return
        self.run_seed = torch.initial_seed() % 2**32
        self.metrics = nn.ModuleDict({"val": self.build_metrics(), "test": self.build_metrics()})
        untrained = stage == "predict" and not self.needs_training  # the classes are those of the support
        known = untrained or (stage != "fit" and self.trainer.ckpt_path)
        if self.one_output_a_class and self.classes is None and not known:
            self.set_classes(self.trainer.datamodule.class_names())
        if stage == "fit" and self.init_from is not None:
            self.load_initial(self.init_from)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the checkpoint is of; refuse to save weights that are no numbers any more."""
        checkpoint[KEY] = description(self)
        check_finite(checkpoint["state_dict"], self.global_step, self._advice())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the training classes of the checkpoint, unless training has its own; refuse what does not fit."""
        classes = checkpoint.get(KEY, {}).get("classes")
        if classes is not None and (self._trainer is None or not self.trainer.training or self.classes is None):
            self.set_classes(tuple(classes))
        check_fits(self, checkpoint["state_dict"])
        self.loaded_step = checkpoint.get("global_step")
        self.trained = True

    def on_train_start(self) -> None:
        """Remember that these weights are no longer the initial ones."""
        self.trained = True

    def on_predict_start(self) -> None:
        """Take weights that come with the package where no others are given; refuse those that nobody trained.

        Raises:
            ValueError: There is no checkpoint; says where one comes from.
        """
        if not self.needs_training or self.trained or not any(True for _ in self.parameters()):
            return
        shipped = load_shipped(self)
        if shipped is None:
            command, checkpoint = training_command(type(self).__name__)
            raise ValueError(
                f"{type(self).__name__} needs trained weights: make them with `{command}` and give `predict` the file "
                f"that it leaves, --ckpt_path {checkpoint}"
            )
        self.trained = True
        self.print(f"weights that come with the package: {shipped} (see {shipped.with_suffix('.md').name} beside it)")

    def on_train_batch_start(self, batch: Episode, batch_idx: int) -> None:
        """Make the randomness of a step a function of (seed, episode), so that a resumed run repeats it."""
        self._seed_step("train", batch)

    def on_validation_epoch_end(self) -> None:
        """Compute, log and keep the estimates."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Compute, log and keep the estimates."""
        self._finish("test")

    def _evaluate(self, episode: Episode, split: str) -> Any:
        self._seed_step(split, episode)
        preds = self(episode)
        self.metrics[split].update(preds, episode)
        return preds

    def _seed_step(self, split: str, episode: Episode) -> None:
        seed = self.step_seed(split, episode.index)
        if self.device.type == "cpu":  # torch.manual_seed would note a stack for each kind of device that is not there
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def step_seed(self, split: str, index: int) -> int:
        """Return the seed of one step: a function of (seed of the run, split, episode)."""
        return int(episode_rng(self.run_seed or 0, split, index, "step").integers(2**62))

    def _finish(self, split: str) -> None:
        self.estimates = self.compute_estimates(split)
        self.log_dict({f"{split}/{name}": float(e.value) for name, e in self.estimates.items()}, rank_zero_only=False)

    def _log_terms(self, terms: dict[str, Tensor], size: int) -> None:
        """Log in the steps that the trainer writes down: in all others Lightning would drop what took it long."""
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0 or self.trainer.is_last_batch:
            self.log_dict({f"train/{name}": value.detach() for name, value in terms.items()}, batch_size=size)
