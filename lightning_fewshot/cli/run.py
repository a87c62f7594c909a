"""``python -m lightning_fewshot {fit,validate,test,predict} --config experiments/<name>.yaml``, and ``score``.

LightningCLI over the two base classes. What is added: a run folder ``runs/<experiment>/<time>`` that holds the
config, the logs, the checkpoints, the pictures and ``results.json``; W&B beside CSV; a test after every fit.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException

from lightning_fewshot.callbacks.checkpoints import Checkpoints
from lightning_fewshot.callbacks.loggers import finish_loggers, run_loggers
from lightning_fewshot.callbacks.pictures import EpisodePictures
from lightning_fewshot.callbacks.predictions import PredictionFiles
from lightning_fewshot.callbacks.progress import Progress
from lightning_fewshot.callbacks.results import ResultsFile
from lightning_fewshot.data import EpisodicDataModule
from lightning_fewshot.module import FewShotModule
from lightning_fewshot.tracking.score import main as score

PROG = "python -m lightning_fewshot"
RUN_DIR_VARIABLE = "LIGHTNING_FEWSHOT_RUN_DIR"  # the ranks of one run share its folder
TRACEBACK_VARIABLE = "LIGHTNING_FEWSHOT_TRACEBACK"  # set it to see where an expected error came from
NOISE = (
    ".*Experiment logs directory .* exists and is not empty",  # the run folder is new, only its CSV file is meant
    ".*isinstance.treespec, LeafSpec.",
    ".*does not have many workers",  # the machine's cores are the user's affair
    ".*is smaller than the logging interval",
    ".*in eval mode at the start of training",  # frozen on purpose
    ".*callbacks used to create the checkpoint need to be provided",  # `test` needs no monitor
    ".*You defined a `validation_step` but have no `val_dataloader`",
)
SIGTERM_CODE = 143  # 128 + SIGTERM, what a shell reports
EXPECTED_ERRORS = (
    ValueError,
    FileNotFoundError,
    PermissionError,
    NotADirectoryError,
    FloatingPointError,
    MisconfigurationException,
    pickle.UnpicklingError,
)


class Parser(LightningArgumentParser):
    """A parser whose errors are not buried under sixty lines of usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong and where to read on; exit with code 2."""
        if os.environ.get(TRACEBACK_VARIABLE) and ex is not None:
            raise ex
        self.exit(2, f"error: {message}\nAll keys: {PROG} fit --help\n")


class FewShotCLI(LightningCLI):
    """The command line: the parser's own keys, the run folder, and the test after a fit."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what is configurable beside model, data and trainer."""
        parser.add_argument("--run_dir", type=str | None, default=None, help="Folder of this run; made if missing.")
        parser.add_argument("--test_after_fit", type=bool, default=True, help="Test the best checkpoint after fit.")
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.add_lightning_class_args(EpisodePictures, "pictures")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and refuse a damaged checkpoint before anybody opens it."""
        super().parse_arguments(parser, args)
        path = self.config[self.config.subcommand].get("ckpt_path") or ""
        if Path(path).is_file() and not zipfile.is_zipfile(path):
            raise ValueError(f"{path} is truncated or not a checkpoint")

    def before_instantiate_classes(self) -> None:
        """Choose the run folder and make sure that it can be written, before anything costs time."""
        config = self.config[self.subcommand]
        config.weights_only = config.weights_only is not False  # a checkpoint is data; it must not run code
        if "verbose" in config:
            config.verbose = False  # ResultsFile prints the table, with intervals
        self.experiment = _experiment_name(config)
        self.run_dir = _make_run_dir(config.run_dir, self.experiment)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add the loggers and the callbacks that every run has."""
        config = self.config_init[self.subcommand]
        if config.trainer.logger in (None, True) and not config.trainer.fast_dev_run:
            kwargs["logger"] = run_loggers(self.run_dir, self.experiment)
        kwargs.setdefault("default_root_dir", str(self.run_dir))
        own = [ResultsFile(self.run_dir, self.experiment), PredictionFiles(self.run_dir)]
        self.trainer_defaults["callbacks"] = own + ([Progress()] if config.trainer.enable_progress_bar else [])
        return super().instantiate_trainer(**kwargs)

    def instantiate_classes(self) -> None:
        """Leave a core to every process that prepares data: threads that wait for one another wait for the slowest."""
        super().instantiate_classes()
        free = (os.cpu_count() or 1) - self.datamodule.num_workers
        torch.set_num_threads(max(1, min(free, torch.get_num_threads())))

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
        import yaml

        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        for logger in trainer.loggers:
            logger.log_hyperparams(config)


def main(args: list[str] | None = None) -> FewShotCLI | Path:
    """Run one command; return its FewShotCLI, or the run folder of ``score``.

    Expected errors end in one line; LIGHTNING_FEWSHOT_TRACEBACK=1 shows where they came from.
    """
    keep, threads = os.environ.get(RUN_DIR_VARIABLE), torch.get_num_threads()
    _hush()
    words = sys.argv[1:] if args is None else args
    try:
        if words[:1] == ["score"]:
            return score(words[1:], lambda wanted: _make_run_dir(wanted, "score"))
        return FewShotCLI(
            FewShotModule,
            EpisodicDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            trainer_class=Trainer,
            trainer_defaults={
                "max_epochs": 10,
                "use_distributed_sampler": False,  # episodes are sharded by their number: EpisodeOrder
                "inference_mode": False,  # adapt may take gradient steps
                "enable_progress_bar": True,
                "enable_model_summary": False,
                "num_sanity_val_steps": 0,
            },
            parser_kwargs={
                "prog": PROG,
                "allow_abbrev": False,  # a key that is nearly right is a mistake
                "description": "Few-shot vision: look at a few labelled examples, then predict. Raw result files of "
                "trackers are scored by `score DIR --benchmark otb --root R`; see `score --help`.",
                **{name: {"default_config_files": []} for name in ("fit", "validate", "test", "predict")},
            },
            auto_configure_optimizers=False,
            args=args,
        )
    except EXPECTED_ERRORS as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        sys.exit(f"error: {_last_line(error)}")
    except SIGTERMException:
        sys.exit(SIGTERM_CODE)
    finally:
        finish_loggers(failed=sys.exc_info()[0] is not None)
        torch.set_num_threads(threads)
        if keep is None:
            os.environ.pop(RUN_DIR_VARIABLE, None)


def _hush() -> None:
    """Silence what tells a user nothing: advertisements, and warnings about what is meant."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric.utilities.seed").setLevel(logging.WARNING)
    for message in NOISE:
        warnings.filterwarnings("ignore", message)


def _experiment_name(config: Any) -> str:
    """Name the run after its first config file, and after the ones merged over it."""
    files = [Path(str(path)).stem for path in config.get("config") or []]
    return "-".join(files) or "unnamed"


def _make_run_dir(wanted: str | None, experiment: str) -> Path:
    if RUN_DIR_VARIABLE in os.environ:
        return Path(os.environ[RUN_DIR_VARIABLE])
    path = Path(wanted) if wanted else _unused(Path("runs") / experiment / time.strftime("%Y-%m-%d_%H-%M-%S"))
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / ".writable").touch()
        (path / ".writable").unlink()
    except OSError as error:
        raise PermissionError(f"cannot write into the run folder {path}: {error.strerror}; choose --run_dir") from error
    os.environ[RUN_DIR_VARIABLE] = str(path)
    return path


def _unused(path: Path) -> Path:
    number = 2
    candidate = path
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}_{number}"), number + 1
    return candidate


def _last_line(error: BaseException) -> str:
    """Return the message; of an error that a worker process passed on, its last line."""
    text = str(error).strip()
    return text.splitlines()[-1].partition(": ")[2] if "DataLoader worker" in text else text
