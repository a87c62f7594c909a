"""The table of docs/speed.md: one section for each class of machines, each written by a run on such a machine."""

import os
import platform
import re
from pathlib import Path

import torch

GOALS = "Goals stand in brackets. A ratio moves by a few hundredths from run to run."


def machine_class():
    """Return "GPU", or what PyTorch uses of this processor: "AVX-512", "AVX2", ..."""
    if torch.cuda.is_available():
        return "GPU"
    return {"AVX512": "AVX-512"}.get(name := torch.backends.cpu.get_cpu_capability(), name)


def write_table(path, rows, failed):
    """Replace the section of this machine's class, and leave all others alone.

    Args:
        path: docs/speed.md.
        rows: ``(file, text)`` of every measurement.
        failed: Names of benchmarks that missed what they assert.
    """
    title = f"## {machine_class()}"
    native = platform.machine() and not os.environ.get("ATEN_CPU_CAPABILITY")
    lines = [title, "", f"{_processor()}, {os.cpu_count()} cores, PyTorch {torch.__version__.partition('+')[0]}."]
    if not native:
        lines[-1] += f" Restricted to {machine_class()} by ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA."
    picture = Path(path).parent / f"speed-growth-{machine_class().lower()}.svg"
    if picture.exists():
        lines[-1] += f" Growth with work: ![processor time by work]({picture.name})"
    lines += [f"Missed what they assert: {', '.join(failed)}." if failed else "All assertions held.", ""]
    lines += ["| benchmark | measured |", "|---|---|"]
    lines += [f"| {name} | {text.replace('|', '/')} |" for name, text in rows]
    path = Path(path)
    before = path.read_text()
    section = re.compile(rf"^{re.escape(title)}$.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    text = "\n".join(lines) + "\n"
    after = section.sub(lambda _: text + "\n", before) if section.search(before) else f"{before.rstrip()}\n\n{text}"
    path.write_text(after.rstrip() + "\n")


def _processor():
    try:
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
