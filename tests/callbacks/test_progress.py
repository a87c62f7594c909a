"""A moving bar on a terminal, ten lines in a file."""

import io
import re

import pytest
from rich.console import Console

import lightning_fewshot.cli.run
from lightning_fewshot.callbacks.progress import Progress


def test_a_file_gets_ten_lines_with_the_time_left(cli, capsys):
    cli("fit", "--trainer.max_epochs", 10, "--test_after_fit", "false")
    lines = capsys.readouterr().out.splitlines()
    steps = [line for line in lines if line.startswith("fit ")]
    assert len(steps) == 10
    assert all(re.fullmatch(r"fit \d+/60  \d+ s, \d+ s left  loss \d+\.\d{3}", line) for line in steps), steps
    assert steps[-1].startswith("fit 60/60")
    assert sum(bool(re.fullmatch(r"  step \d+: accuracy [01]\.\d{3}", line)) for line in lines) == 10


def _on_a_terminal(monkeypatch):
    written = io.StringIO()

    def progress():
        bar = Progress()
        bar.console = Console(file=written, force_terminal=True, width=100, height=20, _environ={})
        return bar

    monkeypatch.setattr(lightning_fewshot.cli.run, "Progress", progress)
    return written


def test_a_terminal_gets_a_bar_with_steps_and_time_left(cli, monkeypatch):
    written = _on_a_terminal(monkeypatch)
    cli("fit")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.getvalue())
    assert "12/12" in text
    assert "left" in text
    assert "loss" in text
    assert "test" in text
    assert "step 12: accuracy" in text
    assert written.getvalue().count("\x1b[?25l") == written.getvalue().count("\x1b[?25h"), "the cursor is back"


def test_prints_stand_above_the_bar(cli, monkeypatch, capsys):
    """A line that is printed while the bar runs is neither torn nor overwritten."""
    written = _on_a_terminal(monkeypatch)
    from toy import ToyModel

    def on_train_epoch_end(self):
        print("a line from somewhere")
        self.print("a line from the model")

    monkeypatch.setattr(ToyModel, "on_train_epoch_end", on_train_epoch_end, raising=False)
    cli("fit", "--test_after_fit", "false")
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.getvalue()).replace("\r", "\n").splitlines()
    assert lines.count("a line from somewhere") == 2
    assert lines.count("a line from the model") == 2


def test_an_error_closes_the_bar(cli, monkeypatch):
    written = _on_a_terminal(monkeypatch)
    with pytest.raises(SystemExit, match="nan"):
        cli("fit", "--model.nan_at", 2)
    assert written.getvalue().count("\x1b[?25l") == written.getvalue().count("\x1b[?25h") == 1


def test_no_bar_where_none_is_asked_for(cli, capsys):
    cli("fit", "--trainer.enable_progress_bar", "false")
    assert not [line for line in capsys.readouterr().out.splitlines() if line.startswith("fit ")]
