"""The documentation builds without a broken link, and every command in it is one that the parser takes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_fewshot.cli import main
from lightning_fewshot.cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = ("index", "own-data", "sixth-paper", "scale", "sweeps", "faq", "api")
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN = ("fit", "validate", "test", "predict")


def commands():
    """Return the arguments of every command of the pages, with the page."""
    found = []
    for page in PAGES:
        for block in BLOCK.findall((ROOT / f"docs/{page}.md").read_text()):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(page, _words(line)) for line in lines if "-m lightning_fewshot" in line]
    return found


def _words(line):
    """Return what follows the program, whatever starts it: python, torchrun, srun."""
    words = shlex.split(line)
    return words[words.index("lightning_fewshot") + 1 :]


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: " ".join(value)[:60])
def test_every_command_is_taken(page, words, in_tmp, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert words[0] in COMMANDS, page
    if words[0] not in RUN:
        with pytest.raises(SystemExit):
            main([words[0], "--help"])
        known = capsys.readouterr().out
        assert all(word in known for word in words if word.startswith("--")), words
        return
    kept = [w for i, w in enumerate(words) if "--ckpt_path" not in (w, words[i - 1])]
    with pytest.raises(SystemExit) as end:
        main([*kept, "--print_config"])
    assert end.value.code == 0, capsys.readouterr().err


def test_the_site_builds(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site/sixth-paper/index.html").exists()
