"""The files of the papers' tables: whole, right, and of models and arguments that exist."""

from pathlib import Path

import pytest
import yaml
from made_up_paper import PAPER

from lightning_fewshot.cli.records import SCHEMA
from lightning_fewshot.cli.table import main
from lightning_fewshot.cli.tabling.paper import paper_names, read_paper


def test_of_alternatives_one_is_enough():
    from lightning_fewshot.cli.runs import Run
    from lightning_fewshot.cli.tabling.paper import _matches

    run = Run("r", Path(), {"model": "M", "protocol": {"classes": "seen"}, "metrics": {}}, {}, 0.0)
    assert _matches(run, {"model": "M", "any": [{"eval_classes": "seen"}, {"classes": "seen"}]})
    assert not _matches(run, {"model": "N", "any": [{"classes": "seen"}]})
    assert not _matches(run, {"any": [{"classes": "novel"}]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [{"labels": ["a"], "values": [1]}]}, "has 1 values but there are 2 columns"),
        ({"rows": [{"labels": [], "values": [1, 2]}]}, "has 0 labels but stub has 1"),
        ({"rows": [{"labels": ["a"], "values": [1, 2], "mtach": {}}]}, "unknown key 'mtach'"),
        ({"colour": 1}, "unknown key 'colour'"),
    ],
)
def test_a_wrong_paper_file_names_the_place(write_run, change, message):
    content = PAPER | {"tables": [PAPER["tables"][0] | change]}
    Path("papers/made_up.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit, match=r"table 3.*" + message):
        main(["runs", "--all"])


def test_every_paper_file_is_whole(tmp_path, capsys):
    assert paper_names() == ["learnet", "metartt", "mlt", "oslsm", "repmet"]
    numbers = {name: [table.number for table in read_paper(name)] for name in paper_names()}
    assert {"1", "2", "3", "4"} <= set(numbers["repmet"]) & set(numbers["metartt"])
    assert all(table.source and table.caption for name in paper_names() for table in read_paper(name))
    for format_ in ("terminal", "markdown", "csv", "latex"):
        main([str(tmp_path), "--all", "--format", format_])
    assert "56.9" in capsys.readouterr().out


def test_the_printed_means_of_oslsm_are_those_of_its_folds():
    """A mistyped number would show: the paper's last column is the mean of the four before it, to its rounding."""
    tables = [table for table in read_paper("oslsm") if table.number.startswith("1")]
    for row in (row for table in tables for row in table.rows):
        *folds, mean = [cell.reported for cell in row]
        assert sum(folds) / 4 == pytest.approx(mean, abs=0.101), row[0].labels


def cells():
    """Return every cell of the papers' tables that runs can fill, with the heading of its table."""
    tables = [table for name in paper_names() for table in read_paper(name)]
    return [(table.heading, cell) for table in tables for row in table.rows for cell in row if cell.match]


def test_the_cells_of_a_paper_ask_for_models_and_arguments_that_exist():
    """Every model in a paper file is a class of the project, and every ``model.<key>`` one of its arguments."""
    import inspect

    import lightning_fewshot

    for heading, cell in cells():
        for key in (key for key in cell.match if key.startswith("model.") and "model" in cell.match):
            place = getattr(lightning_fewshot, cell.match["model"])
            for part in key.split(".")[1:]:
                parameters = inspect.signature(place.__init__).parameters
                assert part in parameters, f"{heading}, {cell.labels}: {place} has no {key}"
                place = type(parameters[part].default)


def test_the_cells_of_a_paper_ask_for_data_that_exist():
    import datamodules

    wishes = [(heading, cell.match["data"]) for heading, cell in cells() if "data" in cell.match]
    for heading, wish in wishes:
        names = wish["not"] if isinstance(wish, dict) else wish
        for name in [names] if isinstance(names, str) else names:
            assert hasattr(datamodules, name), f"{heading}: there is no data {name}"
    assert len(wishes) > 10


def test_the_schema_is_the_one_that_is_written():
    from lightning_fewshot.callbacks import results

    assert results.SCHEMA == SCHEMA
