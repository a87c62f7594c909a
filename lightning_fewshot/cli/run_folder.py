"""The run folder ``runs/<experiment>/<time>``, and ``runs/<experiment>/latest``, which leads to the newest training."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning_fewshot.files import FIRST_PROCESS_VARIABLE, RUN_MARKER

RUN_DIR_VARIABLE = "LIGHTNING_FEWSHOT_RUN_DIR"  # the ranks of one run share its folder
LATEST = "latest"
ROOM_NAMES = ("data", "baselines", "ablations", "strategies")  # folders of experiments that add nothing to a name


@contextmanager
def shared_run_dir() -> Iterator[None]:
    """Let the ranks that this process starts share the run folder and know who starts them; forget it afterwards."""
    given = os.environ.get(RUN_DIR_VARIABLE)
    if given is None:
        os.environ[FIRST_PROCESS_VARIABLE] = str(os.getpid())
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(RUN_DIR_VARIABLE, None)
            os.environ.pop(FIRST_PROCESS_VARIABLE, None)


def experiment_name(configs: list[str]) -> str:
    """Name a run after its config files and, below ``experiments/``, their folders; sizes for tests do not count.

    >>> experiment_name(["experiments/oslsm/photos.yaml"])
    'oslsm-photos'
    >>> experiment_name(["experiments/repmet.yaml", "experiments/repmet/tiny.yaml", "experiments/data/folder.yaml"])
    'repmet-folder'
    >>> experiment_name(["experiments/rt_mdnet/rt_mdnet.yaml"])
    'rt_mdnet'
    """
    words: list[str] = []
    for path in map(Path, configs):
        folders = path.parent.parts
        below = folders[len(folders) - folders[::-1].index("experiments") :] if "experiments" in folders else ()
        stem = path.name.partition(".")[0] if path.name.endswith(".tiny.yaml") else path.stem
        if path.name == "config.yaml" and len(folders) > 1 and folders[:-2][-1:] == ("runs",):
            stem = folders[-2]  # the saved config of a run: runs/<experiment>/<time>/config.yaml
        named = [*(folder for folder in below if folder not in ROOM_NAMES), stem]
        words += named
    return "-".join(word for word in dict.fromkeys(words) if word != "tiny") or "unnamed"


def _launcher() -> str | None:
    """Return the program that started this process together with others."""
    sizes = {"torchrun": os.environ.get("WORLD_SIZE", "1"), "srun": os.environ.get("SLURM_STEP_NUM_TASKS", "1")}
    return next((program for program, size in sizes.items() if int(size) > 1), None)


def make_run_dir(wanted: str | None, experiment: str, newest: bool = False) -> Path:
    """Make the folder of a run, and make sure that it can be written, before anything costs time.

    Args:
        wanted: Where it shall be; None: ``runs/<experiment>/<time>``.
        experiment: Name of the run.
        newest: Whether ``runs/<experiment>/latest`` shall lead to it.

    Raises:
        PermissionError: It cannot be written.
        ValueError: None is wanted, but another program started the processes of the run: each would make its own.
    """
    if RUN_DIR_VARIABLE in os.environ:
        return Path(os.environ[RUN_DIR_VARIABLE])
    if not wanted and (launcher := _launcher()):
        raise ValueError(f"{launcher} started several processes, which must share a run folder: name it with --run_dir")
    path = Path(wanted) if wanted else Path("runs") / experiment / time.strftime("%Y-%m-%d_%H-%M-%S")
    try:
        if wanted:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path = _made_new(path)
        (path / ".writable").touch()
        (path / ".writable").unlink(missing_ok=True)  # another process of the run does the same
        (path / RUN_MARKER).touch()
    except OSError as error:
        raise PermissionError(f"cannot write into the run folder {path}: {error.strerror}; choose --run_dir") from error
    if newest and not wanted:
        point_to(path)
    os.environ[RUN_DIR_VARIABLE] = str(path)
    return path


def _made_new(path: Path) -> Path:
    """Make a folder that nobody has, two processes that start in the same second included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, candidate = 1, path
    while True:
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            number += 1
            candidate = path.with_name(f"{path.name}_{number}")


def point_to(path: Path) -> None:
    """Let ``latest`` beside a run folder lead to it: a link, or where links are impossible a file with its name."""
    latest, part = path.parent / LATEST, path.parent / f".{LATEST}.{os.getpid()}.part"
    with suppress(OSError):  # a convenience: a run does not end for want of it
        try:
            part.symlink_to(path.name, target_is_directory=True)
        except (OSError, NotImplementedError):
            part.write_text(path.name)
        os.replace(part, latest)


def resolve_latest(path: str) -> str:
    """Return a path with ``latest`` replaced by what it leads to now; later runs may move it."""
    parts = Path(path).parts
    for i in (i for i, part in enumerate(parts[:-1]) if part == LATEST):
        latest = Path(*parts[: i + 1])
        with suppress(OSError):
            target = os.readlink(latest) if latest.is_symlink() else latest.read_text().strip()
            if len(Path(target).parts) == 1 and target != "..":
                return str(latest.with_name(target).joinpath(*parts[i + 1 :]))
    return path
