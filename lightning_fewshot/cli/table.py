"""``python -m lightning_fewshot table RUNS --paper repmet --table 3``: the paper's table with ours beside it.

Below each row of the paper stands ours, one line for each data set: value ± half of the 95 % interval of one run, or
mean ± standard deviation over seeds with their number in brackets. A cell that was never run is blank.
``table --claims docs/claims.yaml`` writes the table of claims into the documents that the file names.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_fewshot.cli.runs import Run
    from lightning_fewshot.cli.tabling.paper import PaperTable

FORMATS = ("terminal", "markdown", "csv", "latex")


def main(args: list[str]) -> None:
    """Run the command; an error ends in one line."""
    parser = _parser()
    options = parser.parse_args(args)
    if not options.claims and not options.runs:
        parser.error("give the folders of the runs, or --claims")
    try:
        if options.claims:
            _claims(options.claims)
        else:
            _tables(options)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lightning_fewshot table", description=__doc__.partition("\n\n")[2], allow_abbrev=False
    )
    parser.add_argument("runs", nargs="*", type=Path, help="folders that hold run folders, at any depth")
    parser.add_argument("--paper", help="learnet, metartt, mlt, oslsm or repmet")
    parser.add_argument("--table", help='one table of the paper: 3, or "figure 4"; all of them where it is not given')
    parser.add_argument("--all", action="store_true", help="every table of every paper")
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="only these runs, k_shot=5; can be repeated"
    )
    parser.add_argument("--format", choices=FORMATS, default="terminal")
    parser.add_argument("--out", type=Path, help="write into this file")
    parser.add_argument("--claims", type=Path, metavar="FILE", help="write the table of claims; needs no runs")
    return parser


def _claims(path: Path) -> None:
    from lightning_fewshot.cli.tabling.claims import write_claims

    print(f"wrote {', '.join(map(str, write_claims(path)))}")


def _tables(options: argparse.Namespace) -> None:
    from lightning_fewshot.cli.runs import find_runs
    from lightning_fewshot.cli.tabling.formats import FORMATS as WRITERS
    from lightning_fewshot.cli.tabling.grid import fill

    tables = _chosen(options)
    runs = find_runs(options.runs)
    for problem in runs.problems:
        print(f"note: {problem}", file=sys.stderr)
    kept = [run for run in runs.found if _fits(run, options.where)]
    if not kept:
        folders = ", ".join(str(folder) for folder in options.runs)
        print(f"note: no finished run below {folders}; all cells of ours are blank", file=sys.stderr)
    text = WRITERS[options.format]([fill(table, kept) for table in tables])
    if options.out:
        from lightning_fewshot.files import write_atomically

        write_atomically(options.out, text)
        print(f"wrote {options.out}")
    else:
        print(text, end="")


def _chosen(options: argparse.Namespace) -> list[PaperTable]:
    from lightning_fewshot.cli.tabling.paper import paper_names, read_paper

    if options.table and not options.paper:
        raise ValueError(f"--table is {options.table!r} but there is no --paper; choose one of {paper_names()}")
    if not options.paper and not options.all:
        raise ValueError(f"give --paper (one of {paper_names()}), or --all")
    papers = [options.paper] if options.paper else paper_names()
    tables = [table for name in papers for table in read_paper(name)]
    if options.table is None:
        return tables
    wanted = options.table.strip().lower().removeprefix("table").strip()
    chosen = [table for table in tables if table.number.replace(" ", "") == wanted.replace(" ", "")]
    if not chosen:
        raise ValueError(f"--table is {options.table!r} but {papers[0]} has {[table.number for table in tables]}")
    return chosen


def _fits(run: Run, wishes: list[str]) -> bool:
    import yaml

    from lightning_fewshot.cli.tabling.paper import agrees

    for wish in wishes:
        key, equals, value = wish.partition("=")
        if not equals:
            raise ValueError(f"--where holds {wish!r} but must be key=value")
        if not agrees(run.look_up(key), yaml.safe_load(value)):
            return False
    return True
