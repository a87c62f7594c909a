"""The papers' tables with ours beside them."""

from pathlib import Path

import pytest
import yaml
from made_up_paper import rows, table

from lightning_fewshot.cli.runs import find_runs
from lightning_fewshot.cli.table import main


def test_ours_stands_below_the_papers_and_cells_never_run_are_blank(write_run, capsys):
    write_run("a", 0.201, 0.009)
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


def test_several_seeds_are_a_mean_with_their_spread(write_run, capsys):
    for seed, value in enumerate((0.1, 0.2, 0.3)):
        write_run(f"seed{seed}", value, seed=seed)
    row = rows(capsys)["Ours", "1-shot"]
    assert float(row["ours"]) == pytest.approx(20)
    assert (float(row["low"]), float(row["high"])) == (pytest.approx(10), pytest.approx(30))
    assert (row["seeds"], row["spread"], row["runs"]) == ("3", "sd over seeds", "seed0; seed1; seed2")
    assert "20.0 ± 10.0 (3)" in table(capsys)[0]


def test_data_sets_are_lines_of_their_own(write_run, capsys):
    write_run("a", 0.1)
    write_run("b", 0.3, data="Photos")
    text, _ = table(capsys)
    assert "ours, Photos" in text
    assert "ours, Scenes" in text
    assert "30.0 ± 1.0" in text
    only = table(capsys, "--where", "data=Photos")[0]
    assert "ours, Scenes" not in only


def test_the_data_of_a_test_is_its_test_set(write_run, capsys):
    write_run("a", 0.1, data="Videos", protocol={"split": "test", "k_shot": 1, "seed": 0, "test_set": "OTB"})
    text, _ = table(capsys, "--where", "data=OTB")
    assert "ours, OTB" in text
    assert "Videos" not in text


def test_of_one_seed_that_ran_twice_the_newest_counts(write_run, capsys):
    write_run("z_old", 0.1)
    write_run("a_new", 0.3)
    text, _ = table(capsys)
    assert "30.0 ± 1.0" in text
    assert "note: Ours: z_old is left out, a_new is a newer run of the same seed" in text


def test_other_settings_are_not_averaged(write_run, capsys):
    write_run("a", 0.1, seed=1)
    write_run("b", 0.3, seed=2, lr=0.5)
    text, _ = table(capsys)
    assert "30.0 ± 1.0" in text
    assert "a is left out, its settings are not those of the newest run b: model.init_args.lr 0.1 and not 0.5" in text


def test_two_tests_of_different_weights_are_two_seeds(write_run, capsys):
    for i, value in enumerate((0.1, 0.3)):
        folder = write_run(f"t{i}", value, protocol={"split": "test", "k_shot": 1, "seed": 0, "weights_sha256": str(i)})
        config = yaml.safe_load((folder / "config.yaml").read_text()) | {"ckpt_path": f"{i}.ckpt"}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert rows(capsys)["Ours", "1-shot"]["seeds"] == "2"
    assert "lightning_fewshot test --config" in table(capsys)[0]


def test_a_run_without_an_interval_or_value(write_run, capsys):
    write_run("none", metrics={"map_50": {"value": None, "ci95": [None, None], "n": 0}})
    write_run("one", k_shot=5, metrics={"map_50": {"value": 0.5, "ci95": [None, None], "n": 1}})
    cells = rows(capsys)
    assert cells["Ours", "1-shot"]["ours"] == ""
    assert (cells["Ours", "5-shot"]["ours"], cells["Ours", "5-shot"]["spread"]) == ("50.0", "none")


def test_bounds_match_and_validation_does_not_count(write_run, capsys):
    write_run("tuned", 0.4, steps=100)
    write_run("killed", 0.9, split="val")
    cells = rows(capsys)
    assert float(cells["Ours_ft & co", "1-shot"]["ours"]) == pytest.approx(40)
    assert cells["Ours", "1-shot"]["ours"] == ""


def test_the_kept_command_is_shown(write_run, capsys):
    (write_run("a") / "command.txt").write_text("python -m lightning_fewshot fit --config x.yaml")
    assert "python -m lightning_fewshot fit --config x.yaml" in table(capsys)[0]


def test_another_schema_and_half_written_folders_are_named_and_left_out(write_run, capsys):
    write_run("good", 0.2)
    write_run("future", 0.9, schema="lightning_fewshot/results/9")
    (write_run("cut") / "results.json").write_text('{"schema": "lightni')
    (write_run("killed") / "results.json").unlink()
    write_run("bare", metrics=None)
    (write_run("foreign") / "results.json").write_text("[1, 2]")
    (write_run("half_config", k_shot=5) / "config.yaml").write_text("model: [")
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


def test_no_runs_at_all(write_run, capsys):
    text, notes = table(capsys)
    assert "56.9" in text
    assert "no finished run below runs; all cells of ours are blank" in notes
    with pytest.raises(SystemExit, match="there is no folder nowhere"):
        main(["nowhere", "--all"])


def test_two_runs_of_one_name_are_told_apart(write_run, tmp_path):
    write_run("one/same")
    write_run("two/same")
    names = [run.name for run in find_runs([Path("runs/one"), Path("runs/two"), Path("runs/one/same")]).found]
    assert names == ["runs/two/same", "same"], "each counts once, under a name of its own"
    (tmp_path / "latest").symlink_to("runs/one/same")
    assert len(find_runs([Path("runs"), tmp_path / "latest"]).found) == 2


def test_folders_inside_a_run_are_not_runs(write_run):
    inner = write_run("a") / "wandb" / "offline-run-1" / "files"
    inner.mkdir(parents=True)
    (inner / "config.yaml").touch()
    runs = find_runs([Path("runs")])
    assert ([run.name for run in runs.found], runs.problems) == (["a"], [])


def test_latex_is_escaped_and_complete(write_run, capsys):
    write_run("a", 0.2)
    text, _ = table(capsys, "--format", "latex")
    assert r"Ours\_ft \& co & paper & 59.2 & 73.9 \\" in text
    assert r" & ours, Scenes & 20.0 $\pm$ 1.0 &  \\" in text
    assert text.count(r"\begin{tabular}{llrr}") == text.count(r"\end{tabular}") == 1
    assert "% Ours: Scenes: 1-shot 20.0 ± 1.0" in text


def test_out_writes_a_file(write_run, capsys):
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
def test_bad_options(write_run, args, message):
    write_run("a")
    with pytest.raises(SystemExit) as exit_:
        main(args)
    assert message in str(exit_.value)
