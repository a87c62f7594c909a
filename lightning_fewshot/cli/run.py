"""``python -m lightning_fewshot {fit,validate,test,predict} --config experiments/<name>.yaml``.

LightningCLI over the two base classes. What is added: a run folder ``runs/<experiment>/<time>`` that holds the
config, the logs, the checkpoints, the pictures and ``results.json``; W&B beside CSV; a test after every fit; a
checkpoint that says which model and data it is of.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Literal

import torch
import yaml
from jsonargparse import Namespace
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from lightning_fewshot.callbacks.checkpoints import CheckpointFiles, Checkpoints
from lightning_fewshot.callbacks.loggers import finish_loggers, run_loggers
from lightning_fewshot.callbacks.other_processes import ProcessWatch
from lightning_fewshot.callbacks.pictures import EpisodePictures
from lightning_fewshot.callbacks.predictions import PredictionFiles
from lightning_fewshot.callbacks.progress import Progress
from lightning_fewshot.callbacks.results import ResultsFile
from lightning_fewshot.cli.commands import PROG
from lightning_fewshot.cli.config_files import GROUPS, limit_yaml
from lightning_fewshot.cli.errors import TRACEBACK_VARIABLE, one_line_errors
from lightning_fewshot.cli.from_checkpoint import Resumed, differences, flat, read_resumed
from lightning_fewshot.cli.parser import Misspelt, Parser, explain
from lightning_fewshot.cli.request import Request, config_files, read_request
from lightning_fewshot.cli.run_folder import experiment_name, make_run_dir, shared_run_dir
from lightning_fewshot.data import EpisodicDataModule
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.precision import native_bfloat16
from lightning_fewshot.tracking.module import TrackingModule

ESTIMATE = "--estimate"  # of fit
ENGINE = "What runs a tracker's network; onnxruntime needs pip install -e '.[onnxruntime]'."
TRAINER_DEFAULTS = {
    "max_epochs": 10,
    "use_distributed_sampler": False,  # episodes are sharded by their number: EpisodeOrder
    "inference_mode": False,  # adapt may take gradient steps
    "enable_progress_bar": True,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


def run(command: str, args: list[str]) -> FewShotCLI:
    """Run one command; return its FewShotCLI. Expected errors end in one line."""
    threads = torch.get_num_threads()
    limit_yaml()
    try:
        with shared_run_dir(), one_line_errors():
            request = read_request(command, [arg for arg in args if arg != ESTIMATE])
            return _cli(args)(request, read_resumed(request))
    finally:
        finish_loggers(failed=sys.exc_info()[0] is not None)
        torch.set_num_threads(threads)


class FewShotCLI(LightningCLI):
    """The command line: the parser's own keys, the run folder, and the test after a fit.

    Args:
        request: What is asked for.
        resumed: What is known of its checkpoint.
    """

    def __init__(self, request: Request, resumed: Resumed | None) -> None:
        self.request = request
        self.resumed = resumed
        super().__init__(
            FewShotModule,
            EpisodicDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            trainer_class=Trainer,
            trainer_defaults=dict(TRAINER_DEFAULTS),
            parser_kwargs={
                "prog": PROG,
                "allow_abbrev": False,  # a key that is nearly right is a mistake
                **{name: {"default_config_files": []} for name in self.subcommands()},
            },
            auto_configure_optimizers=False,
            args=[request.command, *(resumed.args if resumed else []), *request.args],
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is configurable beside model, data and trainer."""
        parser.add_argument("--run_dir", type=str | None, default=None, help="Folder of this run; made if missing.")
        parser.add_argument("--test_after_fit", type=bool, default=True, help="Test the best checkpoint after fit.")
        parser.add_argument("--engine", type=Literal["torch", "onnxruntime"], default="torch", help=ENGINE)
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.add_lightning_class_args(EpisodePictures, "pictures")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; a mistake ends the command with what is wrong and where to read on."""
        try:
            self.config = parser.parse_args(args)
        except Misspelt as error:
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            print(f"error: {explain(str(error), self.request)}", file=sys.stderr)
            sys.exit(2)
        for group in GROUPS:
            if not isinstance(self.config[self.config.subcommand].get(group), Namespace):
                raise ValueError(f"{group} is {self.config[self.config.subcommand].get(group)!r}: give a group of keys")

    def _parse_ckpt_path(self) -> None:
        """Take no settings of Lightning's: what a checkpoint says is read, and checked, in ``from_checkpoint``."""

    def before_instantiate_classes(self) -> None:
        """Choose the run folder and make sure that it can be written, before anything costs time."""
        config = self.config[self.subcommand]
        config.weights_only = config.weights_only is not False  # a checkpoint is data; it must not run code
        if "verbose" in config:
            config.verbose = False  # ResultsFile prints the table, with intervals
        _use_native_precision(config.trainer)
        files = config_files(self.request)
        self.experiment = experiment_name(files) if files or not self.resumed else self.resumed.experiment or "unnamed"
        self.run_dir = make_run_dir(config.run_dir, self.experiment, newest=self.subcommand == "fit")
        self._say_what_differs()

    def _say_what_differs(self) -> None:
        """Say what a resumed training changes: its episodes are no longer those of an unbroken one."""
        if self.subcommand != "fit" or self.resumed is None or not self.resumed.settings or not _is_first():
            return
        now = self._plain_config()
        changed = differences(
            self.resumed.settings, flat({key: now[key] for key in ("seed_everything", "data", "model")})
        )
        if changed:
            print(f"resumed with other settings than the checkpoint's: {'; '.join(changed)}")

    def _plain_config(self) -> dict[str, Any]:
        config = self.config[self.subcommand]
        return yaml.safe_load(self._parser(self.subcommand).dump(config, skip_none=False, skip_validation=True))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add the loggers, the callbacks and the way of writing checkpoints that every run has."""
        config = self.config_init[self.subcommand]
        if config.trainer.logger in (None, True) and not config.trainer.fast_dev_run:
            steps = self.resumed.step if self.resumed else 0
            until = steps if self.subcommand == "fit" else None
            kwargs["logger"] = run_loggers(self.run_dir, self.experiment, until, wandb=self.subcommand != "predict")
        kwargs.setdefault("default_root_dir", str(self.run_dir))
        plain = self._plain_config()
        run_settings = {"experiment": self.experiment, "seed": plain["seed_everything"], "data": plain["data"]}
        plugins = config.trainer.plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        kwargs["plugins"] = [*plugins, CheckpointFiles(run_settings)]
        added = [ResultsFile(self.run_dir, self.experiment), PredictionFiles(self.run_dir), ProcessWatch()]
        self.trainer_defaults["callbacks"] = added + ([Progress()] if config.trainer.enable_progress_bar else [])
        return super().instantiate_trainer(**kwargs)

    def instantiate_classes(self) -> None:
        """Leave a core to every process that prepares data: threads that wait for one another wait for the slowest."""
        super().instantiate_classes()
        self._choose_engine(self.config_init[self.subcommand].engine)
        free = (os.cpu_count() or 1) - self.datamodule.num_workers
        torch.set_num_threads(max(1, min(free, torch.get_num_threads())))

    def _choose_engine(self, name: str) -> None:
        if name == "torch":
            return
        if self.subcommand == "fit" or not isinstance(self.model, TrackingModule):
            raise ValueError(f"engine is {name!r} but counts for validate, test and predict of a tracker alone")
        self.model.use_engine(name)

    def after_fit(self) -> None:
        """Test the best checkpoint, so that one command ends with numbers on unseen classes."""
        if not self.config.fit.test_after_fit or self.trainer.interrupted:
            return
        best = getattr(self.trainer.checkpoint_callback, "best_model_path", "") or None
        self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best, verbose=False, weights_only=True)


class SaveConfig(SaveConfigCallback):
    """Save the resolved config into the run folder and give it to every logger, so that W&B can group by it."""

    def save_config(self, trainer: Trainer, pl_module: FewShotModule, stage: str) -> None:
        """Log the config as nested keys."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        for logger in trainer.loggers:
            logger.log_hyperparams(config)


def _cli(args: list[str]) -> type[FewShotCLI]:
    """Return what runs a command: with --estimate what only measures a step."""
    if ESTIMATE not in args:
        return FewShotCLI
    from lightning_fewshot.cli.estimate import EstimateCLI

    return EstimateCLI


def _use_native_precision(trainer: Namespace) -> None:
    """Compute in float32 where bfloat16 is asked for and would be emulated."""
    if not str(trainer.precision).startswith("bf16"):
        return
    on_gpu = torch.cuda.is_available() and trainer.accelerator in ("auto", "gpu", "cuda")
    if not native_bfloat16("cuda" if on_gpu else "cpu" if trainer.accelerator in ("auto", "cpu") else "mps"):
        if _is_first():
            print(f"precision: float32 in place of {trainer.precision}, which this machine only emulates, slower")
        trainer.precision = "32-true"


def _is_first() -> bool:
    return int(os.environ.get("LOCAL_RANK", 0)) == 0
