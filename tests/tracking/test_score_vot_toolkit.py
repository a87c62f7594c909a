"""``score`` on result files in vot-toolkit's layout gives the toolkit's own numbers."""

import json
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "metrics/vot_toolkit/official.json"
pytestmark = pytest.mark.filterwarnings("ignore:no EAO")


@pytest.fixture(scope="module")
def record():
    return json.loads(FILE.read_text())


@pytest.fixture
def folder(record, in_tmp):
    """Truth and results as they lie in a workspace of the toolkit."""
    for name, lines in record["truth"].items():
        path = in_tmp / "VOT" / name / "groundtruth.txt"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(lines) + "\n")
    (in_tmp / "VOT/list.txt").write_text("\n".join(record["truth"]) + "\n")
    for tracker, sequences in record["runs"].items():
        for name, repetitions in sequences.items():
            for number, lines in enumerate(repetitions, 1):
                path = in_tmp / "results" / tracker / "baseline" / name / f"{name}_{number:03d}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("\n".join(lines) + "\n")
    return in_tmp


@pytest.mark.parametrize("challenge", ["VOT2015", "VOT2018"])
def test_the_command_gives_the_toolkits_numbers(record, folder, cli, challenge):
    cli("score", "results", "--benchmark", "vot", "--root", "VOT", "--eao", challenge, toy=False)
    found = json.loads(Path("run/results.json").read_text())["trackers"]
    assert len(found) == len(record["official"])
    for tracker, official in record["official"].items():
        own = found[f"{tracker}/baseline"]
        metrics = {name: value["value"] for name, value in own["metrics"].items()}
        assert metrics["accuracy"] == pytest.approx(official["accuracy"], abs=1e-6)
        assert metrics["robustness"] == pytest.approx(official["robustness"], abs=1e-6)
        eao = [value for name, value in metrics.items() if name.startswith("eao")]
        expected = official["eao"][challenge]
        assert eao == ([] if expected is None else [pytest.approx(expected, abs=1e-6)])
        for name, row in official["sequences"].items():
            assert own["sequences"][name]["accuracy"] == pytest.approx(row["accuracy"], abs=1e-6)
            assert own["sequences"][name]["failures"] == pytest.approx(row["failures"], abs=1e-6)
    assert found["seeded/baseline"]["sequences"]["cat"]["repetitions"] == 3
