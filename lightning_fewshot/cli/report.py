"""``python -m lightning_fewshot report RUNS --out report.html``: one page about many runs, readable without a network.

Tables with intervals that sort and filter, learning curves, success plots, the best and the worst episodes, and two
runs compared over the same episodes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(args: list[str]) -> None:
    """Run the command; an error ends in one line."""
    options = _parser().parse_args(args)
    try:
        _write(options)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_fewshot report", description=__doc__.partition("\n\n")[2], allow_abbrev=False
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders that hold run folders, at any depth")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page (report.html)")
    parser.add_argument("--title", default="Few-shot runs", help="heading of the page")
    return parser


def _write(options: argparse.Namespace) -> None:
    from lightning_fewshot.cli.reporting.page import page
    from lightning_fewshot.cli.runs import find_runs
    from lightning_fewshot.files import write_atomically

    runs = find_runs(options.runs)
    for problem in runs.problems:
        print(f"note: {problem}", file=sys.stderr)
    if not runs.found:
        folders = ", ".join(str(folder) for folder in options.runs)
        raise ValueError(f"there is no finished run below {folders}; a run is finished when it has a results.json")
    text = page(runs, options.title)
    write_atomically(options.out, text)
    print(f"wrote {options.out}: {len(runs.found)} runs, {len(text.encode()) / 1e6:.1f} MB")
