"""A made-up paper, and the table of ours beside its numbers."""

import csv
import io

from lightning_fewshot.cli.table import main

PAPER = {
    "title": "A paper",
    "venue": "CVPR 2099",
    "tables": [
        {
            "number": "3",
            "page": 7,
            "section": "5",
            "caption": "How good",
            "unit": "mAP in %",
            "stub": ["method"],
            "metric": "map_50",
            "scale": 100,
            "columns": [{"name": "1-shot", "match": {"k_shot": 1}}, {"name": "5-shot", "match": {"k_shot": 5}}],
            "rows": [
                {"labels": ["Theirs [5]"], "values": [10.0, None]},
                {"labels": ["Ours"], "values": [56.9, 68.8], "match": {"model": "Detector", "model.steps": 0}},
                {"labels": ["Ours_ft & co"], "values": [59.2, "73.9"], "match": {"model.steps": {"min": 1}}},
            ],
        }
    ],
}


def table(capsys, *args: str) -> tuple[str, str]:
    main(["runs", "--paper", "made_up", "--table", "3", *args])
    return capsys.readouterr()


def rows(capsys, *args: str) -> dict[tuple[str, str], dict[str, str]]:
    text, _ = table(capsys, "--format", "csv", *args)
    return {(row["row"], row["column"]): row for row in csv.DictReader(io.StringIO(text))}
