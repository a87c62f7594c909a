"""The papers' tables with ours beside them, and the table of claims."""

import csv
import io
import json
import os
from pathlib import Path

import pytest
import yaml

from lightning_fewshot.cli.runs import SCHEMA, find_runs
from lightning_fewshot.cli.table import main
from lightning_fewshot.cli.tabling import paper as paper_module
from lightning_fewshot.cli.tabling.claims import updated_document
from lightning_fewshot.cli.tabling.paper import paper_names, read_paper

ROOT = Path(__file__).parents[2]
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


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Work in an empty folder with one made-up paper; return what writes a run folder there."""
    monkeypatch.chdir(tmp_path)
    Path("papers").mkdir()
    Path("papers/made_up.yaml").write_text(yaml.safe_dump(PAPER))
    monkeypatch.setattr(paper_module.read_paper, "__defaults__", (Path("papers"),))
    monkeypatch.setattr(paper_module.paper_names, "__defaults__", (Path("papers"),))
    Path("runs").mkdir()
    times = iter(range(1, 1000))

    def write_run(name, value=0.2, half=0.01, k_shot=1, seed=0, steps=0, split="test", lr=0.1, **changes):
        folder = Path("runs") / name
        folder.mkdir(parents=True)
        config = {
            "seed_everything": seed,
            "model": {"class_path": "Detector", "init_args": {"steps": steps, "lr": lr}},
            "run_dir": name,
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        metric = {"value": value, "ci95": [value - half, value + half], "n": 50}
        record = {
            "schema": SCHEMA,
            "experiment": "e",
            "model": "Detector",
            "data": "Scenes",
            "protocol": {"split": split, "k_shot": k_shot, "seed": seed},
            "metrics": {"map_50": metric},
        }
        path = folder / "results.json"
        path.write_text(json.dumps(record | changes))
        os.utime(path, (time := next(times), time))
        return folder

    return write_run


def table(capsys, *args: str) -> tuple[str, str]:
    main(["runs", "--paper", "made_up", "--table", "3", *args])
    return capsys.readouterr()


def rows(capsys, *args: str) -> dict[tuple[str, str], dict[str, str]]:
    text, _ = table(capsys, "--format", "csv", *args)
    return {(row["row"], row["column"]): row for row in csv.DictReader(io.StringIO(text))}


def test_ours_stands_below_the_papers_and_cells_never_run_are_blank(write, capsys):
    write("a", 0.201, 0.009)
    text, _ = table(capsys, "--format", "markdown")
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    assert lines[0] == ["method", "source", "1-shot", "5-shot"]
    assert lines[2:7] == [
        ["Theirs [5]", "paper", "10.0", "–"],
        ["Ours", "paper", "56.9", "68.8"],
        ["", "ours, Scenes", "20.1 ± 0.9", ""],
        ["Ours_ft & co", "paper", "59.2", "73.9"],
        ["", "ours", "", ""],
    ]
    run = ["Ours", "Scenes", "1-shot 20.1 ± 0.9", "95 % interval", "50", "1"]
    assert lines[9][:6] == run
    assert lines[9][6] == "`python -m lightning_fewshot fit --config runs/a/config.yaml`"
    assert "made_up, table 3 (page 7, section 5): How good; mAP in %" in text


def test_several_seeds_are_a_mean_with_their_spread(write, capsys):
    for seed, value in enumerate((0.1, 0.2, 0.3)):
        write(f"seed{seed}", value, seed=seed)
    row = rows(capsys)["Ours", "1-shot"]
    assert float(row["ours"]) == pytest.approx(20)
    assert (float(row["low"]), float(row["high"])) == (pytest.approx(10), pytest.approx(30))
    assert (row["seeds"], row["spread"], row["runs"]) == ("3", "sd over seeds", "seed0; seed1; seed2")
    assert "20.0 ± 10.0 (3)" in table(capsys)[0]


def test_data_sets_are_lines_of_their_own(write, capsys):
    write("a", 0.1)
    write("b", 0.3, data="Photos")
    text, _ = table(capsys)
    assert "ours, Photos" in text
    assert "ours, Scenes" in text
    assert "30.0 ± 1.0" in text
    only = table(capsys, "--where", "data=Photos")[0]
    assert "ours, Scenes" not in only


def test_of_one_seed_that_ran_twice_the_newest_counts(write, capsys):
    write("z_old", 0.1)
    write("a_new", 0.3)
    text, _ = table(capsys)
    assert "30.0 ± 1.0" in text
    assert "note: Ours: z_old is left out, a_new is a newer run of the same seed" in text


def test_other_settings_are_not_averaged(write, capsys):
    write("a", 0.1, seed=1)
    write("b", 0.3, seed=2, lr=0.5)
    text, _ = table(capsys)
    assert "30.0 ± 1.0" in text
    assert "a is left out, its settings are not those of the newest run b: model.init_args.lr 0.1 and not 0.5" in text


def test_two_tests_of_different_weights_are_two_seeds(write, capsys):
    for i, value in enumerate((0.1, 0.3)):
        folder = write(f"t{i}", value, protocol={"split": "test", "k_shot": 1, "seed": 0, "weights_sha256": str(i)})
        config = yaml.safe_load((folder / "config.yaml").read_text()) | {"ckpt_path": f"{i}.ckpt"}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert rows(capsys)["Ours", "1-shot"]["seeds"] == "2"
    assert "lightning_fewshot test --config" in table(capsys)[0]


def test_a_run_without_an_interval_or_value(write, capsys):
    write("none", metrics={"map_50": {"value": None, "ci95": [None, None], "n": 0}})
    write("one", k_shot=5, metrics={"map_50": {"value": 0.5, "ci95": [None, None], "n": 1}})
    cells = rows(capsys)
    assert cells["Ours", "1-shot"]["ours"] == ""
    assert (cells["Ours", "5-shot"]["ours"], cells["Ours", "5-shot"]["spread"]) == ("50.0", "none")


def test_bounds_match_and_validation_does_not_count(write, capsys):
    write("tuned", 0.4, steps=100)
    write("killed", 0.9, split="val")
    cells = rows(capsys)
    assert float(cells["Ours_ft & co", "1-shot"]["ours"]) == pytest.approx(40)
    assert cells["Ours", "1-shot"]["ours"] == ""


def test_of_alternatives_one_is_enough():
    from lightning_fewshot.cli.runs import Run
    from lightning_fewshot.cli.tabling.paper import _matches

    run = Run("r", Path(), {"model": "M", "protocol": {"classes": "seen"}, "metrics": {}}, {}, 0.0)
    assert _matches(run, {"model": "M", "any": [{"eval_classes": "seen"}, {"classes": "seen"}]})
    assert not _matches(run, {"model": "N", "any": [{"classes": "seen"}]})
    assert not _matches(run, {"any": [{"classes": "novel"}]})


def test_the_kept_command_is_shown(write, capsys):
    (write("a") / "command.txt").write_text("python -m lightning_fewshot fit --config x.yaml")
    assert "python -m lightning_fewshot fit --config x.yaml" in table(capsys)[0]


def test_another_schema_and_half_written_folders_are_named_and_left_out(write, capsys):
    write("good", 0.2)
    write("future", 0.9, schema="lightning_fewshot/results/9")
    (write("cut") / "results.json").write_text('{"schema": "lightni')
    (write("killed") / "results.json").unlink()
    write("bare", metrics=None)
    (write("foreign") / "results.json").write_text("[1, 2]")
    (write("half_config", k_shot=5) / "config.yaml").write_text("model: [")
    text, notes = table(capsys)
    assert "20.0 ± 1.0" in text
    for note in (
        "runs/future/results.json has the schema 'lightning_fewshot/results/9'",
        "runs/cut/results.json is cut off or not JSON",
        "runs/killed has no results.json: the run was killed, or still runs",
        "runs/bare/results.json lacks the field 'metrics'",
        "runs/foreign/results.json is no results file of this project",
        "runs/half_config/config.yaml is cut off or not YAML",
    ):
        assert note in notes


def test_no_runs_at_all(write, capsys):
    text, notes = table(capsys)
    assert "56.9" in text
    assert "no finished run below runs; all cells of ours are blank" in notes
    with pytest.raises(SystemExit, match="there is no folder nowhere"):
        main(["nowhere", "--all"])


def test_two_runs_of_one_name_are_told_apart(write, tmp_path):
    write("one/same")
    write("two/same")
    names = [run.name for run in find_runs([Path("runs/one"), Path("runs/two"), Path("runs/one/same")]).found]
    assert names == ["runs/two/same", "same"], "each counts once, under a name of its own"
    (tmp_path / "latest").symlink_to("runs/one/same")
    assert len(find_runs([Path("runs"), tmp_path / "latest"]).found) == 2


def test_folders_inside_a_run_are_not_runs(write):
    inner = write("a") / "wandb" / "offline-run-1" / "files"
    inner.mkdir(parents=True)
    (inner / "config.yaml").touch()
    runs = find_runs([Path("runs")])
    assert ([run.name for run in runs.found], runs.problems) == (["a"], [])


def test_latex_is_escaped_and_complete(write, capsys):
    write("a", 0.2)
    text, _ = table(capsys, "--format", "latex")
    assert r"Ours\_ft \& co & paper & 59.2 & 73.9 \\" in text
    assert r" & ours, Scenes & 20.0 $\pm$ 1.0 &  \\" in text
    assert text.count(r"\begin{tabular}{llrr}") == text.count(r"\end{tabular}") == 1
    assert "% Ours: Scenes: 1-shot 20.0 ± 1.0" in text


def test_out_writes_a_file(write, capsys):
    assert table(capsys, "--out", "tables/t.md", "--format", "markdown")[0] == "wrote tables/t.md\n"
    assert "56.9" in Path("tables/t.md").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["runs"], "give --paper"),
        (["runs", "--paper", "other"], "--paper is 'other' but must be one of"),
        (["runs", "--paper", "made_up", "--table", "9"], "--table is '9' but made_up has"),
        (["runs", "--all", "--table", "3"], "there is no --paper"),
        (["runs", "--all", "--where", "data"], "must be key=value"),
    ],
)
def test_bad_options(write, args, message):
    write("a")
    with pytest.raises(SystemExit) as exit_:
        main(args)
    assert message in str(exit_.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [{"labels": ["a"], "values": [1]}]}, "has 1 values but there are 2 columns"),
        ({"rows": [{"labels": [], "values": [1, 2]}]}, "has 0 labels but stub has 1"),
        ({"rows": [{"labels": ["a"], "values": [1, 2], "mtach": {}}]}, "unknown key 'mtach'"),
        ({"colour": 1}, "unknown key 'colour'"),
    ],
)
def test_a_wrong_paper_file_names_the_place(write, change, message):
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


def test_the_cells_of_a_paper_ask_for_models_and_arguments_that_exist():
    """Every model in a paper file is a class of the project, and every ``model.<key>`` one of its arguments."""
    import inspect

    import lightning_fewshot

    planned = {"RepMetClassifier"}
    for table in (table for name in paper_names() for table in read_paper(name)):
        for cell in (cell for row in table.rows for cell in row if cell.match and cell.match.get("model")):
            model = cell.match["model"]
            if model in planned:
                continue
            for key in (key for key in cell.match if key.startswith("model.")):
                place = getattr(lightning_fewshot, model)
                for part in key.split(".")[1:]:
                    parameters = inspect.signature(place.__init__).parameters
                    assert part in parameters, f"{table.heading}, {cell.labels}: {model} has no {key}"
                    place = type(parameters[part].default)


def test_the_schema_is_the_one_that_is_written():
    from lightning_fewshot.callbacks import results

    assert results.SCHEMA == SCHEMA


def test_the_table_of_claims_in_the_documents_is_not_stale():
    document, text = updated_document(ROOT / "docs" / "claims.yaml")
    stale = f"{document} is stale: python -m lightning_fewshot table --claims docs/claims.yaml"
    assert document.read_text() == text, stale


@pytest.fixture
def claims(tmp_path):
    """Write a file of claims with one claim, and its document; return what changes the claim."""
    (tmp_path / "d.md").write_text((ROOT / "docs" / "results.md").read_text())
    result = {"metrics": {"map_50": {"value": 0.2, "ci95": [0.19, 0.21]}}}
    (tmp_path / "r.json").write_text(json.dumps(result))
    claim = {
        "paper": "P",
        "claim": "a|b",
        "reported": 1.5,
        "ours": "{x} and {y}",
        "data": "drawn",
        "smallest_difference": {"between": ["x", "y"]},
        "holds": "yes",
        "values": {
            "x": {"result": "r.json", "metric": "map_50", "scale": 100},
            "y": {"value": 3, "half": 4.0, "sign": True},
        },
    }

    def write(**changes):
        path = tmp_path / "claims.yaml"
        path.write_text(yaml.safe_dump({"document": "d.md", "claims": [claim | changes]}))
        return path

    return write


def test_claims_are_filled_from_values_and_kept_results(claims, tmp_path, capsys):
    main(["--claims", str(claims())])
    row = next(line for line in (tmp_path / "d.md").read_text().splitlines() if line.startswith("| P |"))
    assert row == r"| P | a\|b | 1.5 | 20.0 ± 1.0 and +3.0 ± 4.0 | drawn | 4.1 | yes |"
    before = (tmp_path / "d.md").read_text()
    main(["--claims", str(claims())])
    assert (tmp_path / "d.md").read_text() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ours": "{z}"}, "names the value 'z'"),
        ({"claimed": 1}, "unknown key 'claimed'"),
        ({"values": {"x": {"valeu": 1}}}, "unknown key 'valeu'"),
        ({"values": {"x": {"result": "no.json", "metric": "m"}}}, "no.json has no metric 'm'"),
        ({"values": {"x": {"value": 1}, "y": {"value": 1}}}, "must name values that have an interval"),
    ],
)
def test_a_wrong_claim_is_an_error_that_names_it(claims, changes, message):
    with pytest.raises(SystemExit, match="of P") as exit_:
        main(["--claims", str(claims(**changes))])
    assert message in str(exit_.value)


def test_a_document_without_markers(claims, tmp_path):
    (tmp_path / "d.md").write_text("# Results\n")
    with pytest.raises(SystemExit, match="lacks the lines"):
        main(["--claims", str(claims())])
