"""Running a cell's command: here, or by submitit on a cluster; and asking whether a run still lives."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HEARTBEAT_S = 30.0  # how often a living run touches its heartbeat file
SILENCE_S = 600.0  # a run on another machine that was silent for so long is dead
LOG = "sweep.log"
HEARTBEAT = ".heartbeat"
CHILDREN: set[subprocess.Popen] = set()


def run_command(words: list[str], folder: str, threads: int | None = None) -> int:
    """Run a command to its end, its output in ``sweep.log`` of the folder; return its exit code.

    Args:
        words: The command.
        folder: The run's folder; made if missing.
        threads: Threads of its numeric libraries, where the caller's environment does not say.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    _note_command(words, path)
    environment = dict(os.environ) | {"WANDB_RUN_GROUP": path.parent.name}
    if threads:
        environment.setdefault("OMP_NUM_THREADS", str(threads))
    with open(path / LOG, "a") as log:
        print("$", *words, file=log, flush=True)
        try:
            child = subprocess.Popen(
                words, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
                preexec_fn=end_with_parent(),
            )  # fmt: skip
        except OSError as error:
            print(error, file=log)
            return 127  # what a shell reports for a command that cannot be found
        return _wait(child, path / HEARTBEAT)


def end_with_parent() -> Callable[[], None] | None:
    """Return what a child calls first, so that it ends with the process that started it, also when that is killed.

    Else the sweep that is started again would resume a run that is still being written. None: this system cannot.
    """
    kill_with_parent = 1  # PR_SET_PDEATHSIG of Linux
    parent = os.getpid()
    try:
        control = ctypes.CDLL(None).prctl
    except (AttributeError, OSError, TypeError):
        return None

    def prepare() -> None:
        control(kill_with_parent, signal.SIGKILL)
        if os.getppid() != parent:  # it has ended since
            os._exit(1)

    return prepare


def _note_command(words: list[str], folder: Path) -> None:
    """Keep the command as a reader would type it, for `table` and `report`; that of a resumed run is the first one."""
    if not any(word.startswith(f"--ckpt_path={folder}") for word in words):
        typed = ["python" if word == sys.executable else word for word in words if word != "/usr/bin/env"]
        (folder / "command.txt").write_text(shlex.join(typed))


def _wait(child: subprocess.Popen, heartbeat: Path) -> int:
    CHILDREN.add(child)
    try:
        while True:
            heartbeat.touch()
            try:
                return child.wait(timeout=HEARTBEAT_S)
            except subprocess.TimeoutExpired:
                continue
    finally:
        CHILDREN.discard(child)
        heartbeat.unlink(missing_ok=True)


def stop_children(grace_s: float = 20.0) -> None:
    """End the commands that this process runs: ask, wait, then kill."""
    children = list(CHILDREN)
    for child in children:
        child.terminate()
    end = time.monotonic() + grace_s
    for child in children:
        try:
            child.wait(timeout=max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()


def local_pool(jobs: int) -> ThreadPoolExecutor:
    """Return what runs commands on this machine, so many at a time."""
    return ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="cell")


def submitit_pool(cluster: str, folder: Path, settings: dict[str, Any]) -> Any:
    """Return submitit's executor.

    Args:
        cluster: ``slurm``, or ``local`` to try a sweep without one.
        folder: Where submitit keeps its scripts and logs.
        settings: What ``update_parameters`` takes: ``timeout_min``, ``slurm_partition``, ``gpus_per_node``, ...
    """
    try:
        import submitit
    except ImportError as error:
        raise ValueError("--submit needs submitit: pip install 'lightning_fewshot[slurm]'") from error
    executor = submitit.AutoExecutor(folder=str(folder), cluster=cluster)
    executor.update_parameters(**({"timeout_min": 24 * 60} | settings))
    return executor


def job_record(future: Any, cluster: str | None) -> dict[str, Any]:
    """Return who runs a cell, so that another process can ask whether it lives."""
    if cluster == "slurm":
        return {"job": str(future.job_id)}
    return process_record(os.getpid() if cluster is None else int(future.job_id))  # local jobs are numbered by process


def process_record(pid: int) -> dict[str, Any]:
    """Return what tells a process of this machine from every other."""
    return {"host": socket.gethostname(), "pid": pid, "began": _began(pid)}


def is_alive(record: dict[str, Any], folder: Path) -> bool:
    """Whether the one that runs a cell still does."""
    if record.get("job"):
        return _in_queue(record["job"])
    if record.get("host") == socket.gethostname():
        began = _began(record["pid"])
        return began is not None and began == record["began"]
    try:
        return time.time() - (folder / HEARTBEAT).stat().st_mtime < SILENCE_S
    except FileNotFoundError:
        return False


def _began(pid: int) -> str | None:
    """Return when a process began, in ticks since the machine's start: numbers are given to other processes later."""
    if not Path("/proc/self/stat").exists():
        return _answers(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _answers(pid: int) -> str | None:
    """Return "alive" where a process takes signals: for systems without ``/proc``."""
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return "alive"


def _in_queue(job: str) -> bool:
    """Whether Slurm still has a job; True where it cannot be asked: two runs in one folder are worse."""
    try:
        answer = subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return True
    if answer.returncode:
        return "Invalid job id" not in answer.stderr
    return bool(answer.stdout.strip())
