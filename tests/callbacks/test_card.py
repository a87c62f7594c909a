"""The model card that stands beside a checkpoint after fit and test."""

from pathlib import Path

from lightning_fewshot.callbacks.card import card_text, paper_of
from lightning_fewshot.data import EpisodeCounts


def test_fit_and_test_leave_a_card(cli, results):
    cli("fit")
    card = Path("run/checkpoints/card.md").read_text()
    assert (Path("run/checkpoints") / "best.ckpt").exists()
    value = results()["metrics"]["accuracy"]
    assert "# ToyModel" in card
    assert "## Measured: split test" in card, "the test after the fit has the last word"
    assert f"| accuracy | {value['value']:.4f} | {value['ci95'][0]:.4f} to {value['ci95'][1]:.4f} | 5 |" in card
    assert "**Licence of the data:** not known" in card
    cli("test", "--ckpt_path", "run/checkpoints/best.ckpt", run_dir="again")
    again = Path("again/card.md").read_text()
    assert "weights run/checkpoints/best.ckpt" in again


def test_papers_and_licences_are_named():
    import datamodules
    import lightning_fewshot as lf

    assert "RepMet" in paper_of(lf.RepMetDetector)
    record = {
        "model": "RepMetDetector",
        "data": "Scenes",
        "step": 3,
        "command": "fit",
        "commit": None,
        "device": "1 x CPU",
        "versions": {"lightning_fewshot": "0", "torch": "2"},
        "protocol": {"split": "val", "weights": None},
        "metrics": {"map": {"value": None, "ci95": [None, None], "n": 0}},
    }
    card = card_text(record, "A paper", datamodules.Scenes(episodes=EpisodeCounts(1, 1, 1)))
    assert "**Licence of the data:** MIT" in card
    assert "| map | - | - to - | 0 |" in card
