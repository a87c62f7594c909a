"""What a user sees of an error that is not a mistake of the program: one line."""

from __future__ import annotations

import logging
import os
import pickle
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException

TRACEBACK_VARIABLE = "LIGHTNING_FEWSHOT_TRACEBACK"  # set it to see where an expected error came from
NOISE = (
    ".*Experiment logs directory .* exists and is not empty",  # the run folder is new, only its CSV file is meant
    ".*Checkpoint directory .* exists and is not empty",  # a resumed run goes on in it
    ".*isinstance.treespec, LeafSpec.",
    ".*does not have many workers",  # the machine's cores are the user's affair
    ".*is smaller than the logging interval",
    ".*in eval mode at the start of training",  # frozen on purpose
    ".*callbacks used to create the checkpoint need to be provided",  # `test` needs no monitor
    ".*You defined a `validation_step` but have no `val_dataloader`",
)
NO_UNION = "Does not validate against any of the Union subtypes"
KEY_OF_PARSER = re.compile(r'Parser key "([\w.]+)"')
LOST_PROCESS = re.compile(
    r"closed by peer|reset by peer|Broken pipe|remote process exited|Socket Timeout|gloo/transport"
)
SIGTERM_CODE = 143  # 128 + SIGTERM, what a shell reports
EXPECTED_ERRORS = (ValueError, OSError, FloatingPointError, MisconfigurationException, pickle.UnpicklingError)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line for an expected error; LIGHTNING_FEWSHOT_TRACEBACK=1 shows where it came from."""
    _hush()
    try:
        yield
    except EXPECTED_ERRORS as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        sys.exit(f"error: {one_line(error)}")
    except RuntimeError as error:
        if os.environ.get(TRACEBACK_VARIABLE) or not LOST_PROCESS.search(str(error)):
            raise
        sys.exit("error: another process of this run ended, so this one ends too")
    except SIGTERMException:
        sys.exit(SIGTERM_CODE)


def reason(text: str) -> str:
    """Return what is wrong out of a report on every type that a setting might have had, else the text.

    >>> reason(f"{NO_UNION}\\nErrors:\\n  - lr is -1 but must be above 0\\n  - Expected a <class 'NoneType'>")
    'lr is -1 but must be above 0'
    """
    if NO_UNION not in text:
        return text
    lines = [line.strip() for line in text.splitlines()]
    listed = [
        f"{line[2:]} {after}" if line.endswith(":") else line[2:]
        for line, after in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("- ")
    ]
    reasons = [line for line in dict.fromkeys(listed) if NO_UNION not in line and "<class 'NoneType'>" not in line]
    key = KEY_OF_PARSER.search(text)
    return (f"{key[1]}: " if key else "") + "; ".join(reasons) if reasons else text


def one_line(error: BaseException) -> str:
    """Return the message of an error; of one that a worker process passed on, its last line."""
    text = reason(str(error).strip())
    if "DataLoader worker" in text:
        return text.splitlines()[-1].partition(": ")[2]
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror + (f": {error.filename}" if error.filename else "")
        checkpoint = _last_checkpoint(error)
        text += f"; go on from the last good checkpoint: --ckpt_path {checkpoint}" if checkpoint else ""
    return text


def _last_checkpoint(error: BaseException | None) -> str:
    """Return the checkpoint that an error, or one during whose handling it was raised, says to go on from."""
    while error is not None:
        if checkpoint := getattr(error, "last_checkpoint", ""):
            return checkpoint
        error = error.__context__
    return ""


def _hush() -> None:
    """Silence what tells a user nothing: advertisements, and warnings about what is meant."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric.utilities.seed").setLevel(logging.WARNING)
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
