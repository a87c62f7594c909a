"""``fit --config X --estimate``: the memory of one training step of a config, before it runs and without its data."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import torch
from jsonargparse import Namespace

from lightning_fewshot.cli.run import FewShotCLI
from lightning_fewshot.data import EpisodicDataModule
from lightning_fewshot.episodes import Episode, Examples
from lightning_fewshot.memory import StepMemory, step_memory

SHARED = ("training", "batch_size", "images", "splits", "n_way", "k_shot", "n_query")  # settings that decide sizes
STAND_INS: dict[str, tuple[str, dict[str, Any]]] = {  # of each task; their pictures have the area of common data
    "characters": ("DrawnAlphabets", {}),
    "classification": ("DrawnObjects", {}),
    "detection": ("Scenes", {"scene": ("image_size", 384)}),
    "segmentation": ("SceneMasks", {"scene": ("image_size", 384)}),
    "tracking": ("DrawnVideos", {"videos": ("image_size", 480)}),  # as many pixels as 640 x 360
}
WIDENED = ("detection", "segmentation")  # tasks whose square stand-ins are made 4:3, as photos are


class EstimateCLI(FewShotCLI):
    """The command line of ``fit`` that builds model and data, measures a step, and runs nothing."""

    def before_instantiate_classes(self) -> None:
        """Ask for no weights that would have to be downloaded, and make no run folder."""
        _without_weights(self.config[self.subcommand].model)

    def instantiate_trainer(self, **kwargs: Any) -> None:
        """Make none."""

    def _run_subcommand(self, subcommand: str) -> None:
        data, said = self._data()
        if self.model.one_output_a_class:
            self.model.set_classes(data.class_names())
        precision = str(self.config[subcommand].trainer.precision or "32-true")
        wide = data is not self.datamodule and not known_side(self.datamodule)
        self.memory = estimate(self.model, data, precision, wide)
        print(f"memory of one training step of {type(self.model).__name__}, precision {precision}, on {said}:")
        print(self.memory)
        print("without the kernels' workspace and what the allocator holds in reserve")

    def _data(self) -> tuple[EpisodicDataModule, str]:
        """Return the data, or drawn ones of the same task where they are not here; and what to say of them."""
        name = type(self.datamodule).__name__
        try:
            self.datamodule.setup("fit")
            self.datamodule.episode("train", 0)
            return self.datamodule, name
        except FileNotFoundError:
            drawn = stand_in(self.datamodule)
            drawn.setup("fit")
            return drawn, f"{type(drawn).__name__} (drawn: {name} is not here)"


def estimate(module: Any, data: EpisodicDataModule, precision: str = "32-true", wide: bool = False) -> StepMemory:
    """Return the memory of one training step on an episode of the data.

    Args:
        module: Of a config.
        data: Set up.
        precision: Of the trainer.
        wide: Whether pictures are drawn ones in place of photos.
    """
    batch_size = getattr(data, "batch_size", 1)

    def episode_of(count: int) -> Episode:
        if hasattr(data, "batch_size"):
            data.batch_size = count
        episode = data.episode("train", 0)
        return _widened(episode) if wide and task_of(data) in WIDENED else episode

    mixed = precision.endswith("mixed")
    return step_memory(module, episode_of, batch_size, torch.autocast("cpu", torch.bfloat16) if mixed else None)


def stand_in(data: EpisodicDataModule) -> EpisodicDataModule:
    """Return drawn data of the same task, with the settings that decide the size of an episode."""
    name, more = STAND_INS[task_of(data)]
    drawn = getattr(importlib.import_module("datamodules"), name)
    accepted = inspect.signature(drawn.__mro__[0]).parameters | inspect.signature(drawn.__mro__[1]).parameters
    given = {key: getattr(data, key) for key in SHARED if key in accepted and hasattr(data, key)}
    for group, (setting, value) in more.items():
        given[group] = type(getattr(drawn(), group))(**{setting: known_side(data) or value})
    return drawn(**given)


def known_side(data: EpisodicDataModule) -> int | None:
    """Return the side of the squares that data compose by themselves, ``picture_side``; None for photos as they are."""
    return getattr(data, "picture_side", None)


def task_of(data: EpisodicDataModule) -> str:
    """Return the task of data by the package of its class.

    Raises:
        ValueError: It is no data of this project's tasks.
    """
    packages = [part for cls in type(data).__mro__ for part in cls.__module__.split(".")[1:2]]
    known = [part for part in packages if part in STAND_INS]
    if not known:
        raise ValueError(f"{type(data).__name__} has no drawn stand-in: --estimate needs its data")
    return known[0]


def _widened(episode: Episode) -> Episode:
    """Return an episode whose square pictures are 4:3: their left part is repeated on the right."""

    def wide(examples: Examples | None) -> Examples | None:
        if examples is None or not isinstance(examples.images, torch.Tensor):
            return examples
        masks = examples.class_masks
        wider_masks = _repeated(masks) if isinstance(masks, torch.Tensor) else masks
        return examples._replace(images=_repeated(examples.images), class_masks=wider_masks, instance_masks=None)

    return episode._replace(support=wide(episode.support), query=wide(episode.query))


def _repeated(pictures: torch.Tensor) -> torch.Tensor:
    return torch.cat((pictures, pictures[..., : pictures.shape[-1] // 3]), dim=-1)


def _without_weights(settings: Namespace) -> None:
    """Set all weights of a model's settings to "none", in place: their values are no matter, and none are here."""
    for key, value in vars(settings).items():
        if isinstance(value, Namespace):
            _without_weights(value)
        elif key == "weights" and isinstance(value, str):
            settings[key] = "none"
        elif key == "init_from":
            settings[key] = None
