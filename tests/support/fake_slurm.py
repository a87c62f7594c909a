#!/usr/bin/env python3
"""A Slurm of one machine: what `sbatch`, `srun`, `squeue`, `sacct` and `scancel` do, as far as submitit uses them.

Each command is a link to this file; the jobs are files in the folder of the links.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scancel")
OPTION = re.compile(r"^#SBATCH --([\w-]+)(?:=(.*))?$", re.MULTILINE)


def install(folder):
    """Put the commands into a folder; return it, for the PATH."""
    folder.mkdir()
    for name in COMMANDS:
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -S {__file__} {name} {folder} "$@"\n')
        script.chmod(0o755)
    return folder


def options_of(script):
    """Return what the #SBATCH lines of a script ask for."""
    return {name: value.strip("'") for name, value in OPTION.findall(Path(script).read_text())}


def sbatch(cluster, script):
    """Start a script in the background, as a job with Slurm's variables; a time limit is asked for on every cluster."""
    options = options_of(script)
    if "time" not in options:
        sys.exit("sbatch: error: Requested time limit is invalid (missing or exceeds some limit)")
    job = time.time_ns() // 1000  # another one in every cluster: submitit remembers jobs by number
    slurm = {"JOB_ID": job, "NTASKS": 1, "JOB_NUM_NODES": 1, "NODEID": 0, "JOB_NODELIST": "node0"}
    slurm["JOB_NAME"] = options["job-name"]
    output = Path(options["output"].replace("%j", str(job)))
    command = f'bash "$1"; echo $? > {cluster}/{job}.code'
    with open(output, "a") as log:
        process = subprocess.Popen(
            ["bash", "-c", command, "job", script],
            env=os.environ | {f"SLURM_{name}": str(value) for name, value in slurm.items()},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    (cluster / f"{job}.pid").write_text(str(process.pid))
    print("Submitted batch job", job)


def srun(cluster, *words):
    """Run a command as the only task of the job."""
    words, paths = list(words), {}
    while words[0].startswith("--"):
        option = words.pop(0)
        if option != "--unbuffered":
            paths[option] = words.pop(0).replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
    os.environ.update(SLURM_PROCID="0", SLURM_LOCALID="0")
    with open(paths["--output"], "a") as out, open(paths["--error"], "a") as error:
        sys.exit(subprocess.call(words, stdout=out, stderr=error))


def squeue(cluster, *words):
    """Name a job that has not ended."""
    job = words[words.index("-j") + 1]
    if not (cluster / f"{job}.pid").exists():
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    if state_of(cluster, job) == "RUNNING":
        print(job)


def sacct(cluster, *words):
    """Print the states of jobs."""
    print("JobID|State|NodeList")
    for job in (words[i + 1] for i, word in enumerate(words) if word == "-j"):
        print(f"{job}|{state_of(cluster, job)}|node0\n{job}.batch|{state_of(cluster, job)}|node0")


def scancel(cluster, job):
    """End a job."""
    (cluster / f"{job}.code").write_text("CANCELLED")
    os.killpg(int((cluster / f"{job}.pid").read_text()), signal.SIGKILL)


def state_of(cluster, job):
    """Return Slurm's word for how a job is."""
    code = cluster / f"{job}.code"
    text = code.read_text().strip() if code.exists() else ""
    return {"": "RUNNING", "0": "COMPLETED", "CANCELLED": "CANCELLED"}.get(text, "FAILED")


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
