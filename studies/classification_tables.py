"""Tables of paired differences, in percent: the first method, and every other one against it.

    python studies/classification_tables.py FOLDER           # of the files that repmet_classification.py left in it
    python studies/classification_tables.py RUN RUN ...      # folders of runs that were tested on the same tasks

Values of a method are a row a seed, over images or episodes that all methods share; seeds are averaged first.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from torch import Tensor

ABOUT = ("lr", "setting", "validation")


def half(values: Tensor) -> float:
    """Return half of the 95 % interval of a mean."""
    return 1.96 * float(values.std()) / math.sqrt(len(values))


def tables(title: str, results: dict[str, dict]) -> str:
    """Return one table for each test: error of a closed set, accuracy of episodes, or AUROC."""
    tests = [test for test in next(iter(results.values())) if test not in ABOUT] if results else []
    return "\n\n".join(table(title, results, test) for test in tests)


def table(title: str, results: dict[str, dict], test: str) -> str:
    """Return one table: value, interval, seeds, difference of the first method, and what was chosen."""
    runs = {method: 100 * torch.tensor(row[test]).double() for method, row in results.items()}
    if test == "closed":
        runs = {method: 100 - values for method, values in runs.items()}
    first = next(iter(runs))
    reference = runs[first].mean(dim=0)
    kind = "error of a closed set" if test == "closed" else test if "AUROC" in test else f"{test}, accuracy"
    lines = [f"### {title}: {kind}, n = {len(reference)}", ""]
    lines += [
        "| method | % | seeds | first row minus it, paired | learning rate, own setting |",
        "|---|---:|---|---:|---|",
    ]
    for method, values in runs.items():
        mean, difference = values.mean(dim=0), reference - values.mean(dim=0)
        paired = "" if method == first else f"{float(difference.mean()):+.1f} ± {half(difference):.1f}"
        seeds = ", ".join(f"{value:.1f}" for value in values.mean(dim=1).tolist())
        chosen = f"{results[method]['lr']:g}, {results[method]['setting']}" if "lr" in results[method] else ""
        lines.append(f"| {method} | {float(mean.mean()):.1f} ± {half(mean):.1f} | {seeds} | {paired} | {chosen} |")
    return "\n".join(lines)


def of_run(folder: Path) -> dict[str, list[list[float]]]:
    """Return the accuracy and AUROC of each task of a tested run, as one seed."""
    record = json.loads((folder / "results.json").read_text())
    test = f"{record['protocol']['n_way']}-way {record['protocol']['k_shot']}-shot"
    values = {test: "accuracy", f"{test}, AUROC": "open_set_auroc"}
    tasks = record["per_episode"]
    return {name: [list(tasks[metric].values())] for name, metric in values.items() if metric in tasks}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    folders = parser.parse_args().folders
    if (folders[0] / "results.json").is_file():
        print(tables("runs", {folder.name: of_run(folder) for folder in folders}))
    else:
        print(tables(folders[0].name, {p.stem: json.loads(p.read_text()) for p in sorted(folders[0].glob("*.json"))}))
