"""The files of sweeps: what is wrong with them, the values they give, and those of the project."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from lightning_fewshot.cli.sweep import main
from lightning_fewshot.cli.sweeping.command import agent_command, cell_command
from lightning_fewshot.cli.sweeping.file import read_sweep

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "experiments/sweeps").glob("*.yaml"))
BAD = [
    ({"metod": "grid"}, "unknown key 'metod'"),
    ({"method": "gird"}, "method is 'gird'"),
    ({"early_terminate": {"type": "hyperband"}}, "'early_terminate' is carried out by W&B's server only"),
    ({"parameters": {"x": {"vals": [1]}}}, "parameters.x has the unknown key 'vals'"),
    ({"parameters": {"x": {"values": [1, 2, 1]}}}, "parameters.x.values holds 1 twice"),
    ({"parameters": {"x": {"values": []}}}, "parameters.x.values is empty"),
    ({"parameters": {"x": 3}}, "parameters.x is 3 but must be a mapping"),
    ({"parameters": {"x": {"min": 0.0, "max": 1.0}}}, "parameters.x has no list of values"),
    ({"parameters": {"x": {"distribution": "cauchy"}}}, "distribution is 'cauchy'"),
    ({"parameters": {"x": {"min": 3, "max": 1}}}, "parameters.x.min is 3 but must be at most max, 1"),
    ({"metric": {"nam": "a"}}, "metric has the unknown key 'nam'"),
    ({"method": "bayes", "metric": None}, "method is bayes but metric.name is missing"),
    ({"method": "random"}, "give --limit N"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_file_is_an_error_that_names_key_and_file(write_sweep, changes, message):
    with pytest.raises(SystemExit) as exit_:
        main([write_sweep(**changes)])
    assert message in str(exit_.value)
    assert "s.yaml" in str(exit_.value)
    assert not Path("runs").exists()


def test_a_missing_file_and_broken_yaml(write_sweep):
    with pytest.raises(SystemExit, match="there is no sweep file none"):
        main(["none.yaml"])
    Path("s.yaml").write_text("method: [")
    with pytest.raises(SystemExit, match=r"s\.yaml is truncated or no yaml"):
        main(["s.yaml"])


def test_distributions_stay_within_their_limits(write_sweep):
    import optuna

    drawn = {
        "i": {"min": 1, "max": 3},
        "log": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1},
        "exponent": {"distribution": "log_uniform", "min": -2, "max": 0},
        "step": {"distribution": "q_uniform", "min": 0, "max": 10, "q": 5},
        "normal": {"distribution": "normal", "mu": 3, "sigma": 0.1},
        "weighted": {"values": ["a", "b"], "probabilities": [1.0, 0.0]},
    }
    sweep = read_sweep(write_sweep(method="random", parameters=drawn))
    trial = optuna.create_study().ask()
    values = {parameter.name: parameter.draw(trial) for parameter in sweep.parameters}
    assert values["i"] in (1, 2, 3)
    assert 0.001 <= values["log"] <= 0.1
    assert 0.135 <= values["exponent"] <= 1
    assert values["step"] in (0, 5, 10)
    assert 2.5 < values["normal"] < 3.5
    assert values["weighted"] == "a"


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_no_sweep_of_the_project_holds_a_cell_twice(path):
    sweep = read_sweep(path)
    if sweep.method != "grid":
        return
    cells = list(sweep.cells())
    commands = [json.dumps(agent_command(sweep, values)) for values in cells]
    assert len(set(commands)) == len(commands) > 0
    assert len({sweep.cell_name(values) for values in cells}) == len(cells), "two cells share a folder"


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_macros_of_every_sweep_are_filled_in(path, tmp_path):
    sweep = read_sweep(path)
    values = {parameter.name: (parameter.grid() or [0.5])[0] for parameter in sweep.parameters}
    words = cell_command(sweep, values, tmp_path / "cell")
    assert not [word for word in words if "${" in word]
    assert words[-1] == f"--run_dir={tmp_path / 'cell'}"
    assert sys.executable in words


def test_the_documents_say_which_sweep_is_which_table():
    page = (ROOT / "docs/sweeps.md").read_text().partition("## Which file is which table")[2]
    assert set(re.findall(r"`(\w+\.yaml)`", page)) == {path.name for path in SWEEPS}
    for paper in sorted((ROOT / "lightning_fewshot/papers").glob("*.yaml")):
        rows = [line for line in page.splitlines() if f"`{paper.stem}_" in line]
        printed = " ".join(line.split("|")[2] for line in rows)
        for number in (str(table["number"]) for table in yaml.safe_load(paper.read_text())["tables"]):
            if number[-1].isdigit():  # the others are numbers of the text
                assert re.search(rf"\b{number.removeprefix('figure ')}\b", printed), f"{paper.stem}: {number}"
