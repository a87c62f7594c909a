"""The table of claims."""

import json
from pathlib import Path

import pytest
import yaml

from lightning_fewshot.cli.table import main
from lightning_fewshot.cli.tabling.claims import updated_documents

ROOT = Path(__file__).parents[2]


def test_the_table_of_claims_in_the_documents_is_not_stale():
    documents = updated_documents(ROOT / "docs" / "claims.yaml")
    assert {document.resolve() for document in documents} == {ROOT / "docs/results.md", ROOT / "README.md"}
    for document, text in documents.items():
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


def test_a_smallest_difference_may_be_several(claims, tmp_path):
    main(["--claims", str(claims(smallest_difference=[{"between": ["x"]}, {"between": ["x", "y"]}]))])
    assert "| 1.0 and 4.1 | yes |" in (tmp_path / "d.md").read_text()


def test_a_summary_has_fewer_columns(claims, tmp_path):
    path = claims()
    path.write_text(path.read_text() + "summary: s.md\n")
    (tmp_path / "s.md").write_text((tmp_path / "d.md").read_text())
    main(["--claims", str(path)])
    assert r"| P | a\|b | drawn | yes |" in (tmp_path / "s.md").read_text().splitlines()
    assert "20.0 ± 1.0" in (tmp_path / "d.md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ours": "{z}"}, "names the value 'z'"),
        ({"claimed": 1}, "unknown key 'claimed'"),
        ({"values": {"x": {"valeu": 1}}}, "unknown key 'valeu'"),
        ({"values": {"x": {"result": "no.json", "metric": "m"}}}, "no.json has no metric 'm'"),
        ({"values": {"x": {"value": 1}, "y": {"value": 1}}}, "must name values that have an interval"),
        ({"smallest_difference": "-"}, "smallest_difference is '-' but must be a number"),
        ({"smallest_difference": "none is known"}, "must be a number"),
        ({"smallest_difference": []}, "must be a number"),
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
