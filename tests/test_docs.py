"""The documentation builds without a broken link, and every command in it is one that the parser takes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_fewshot.cli import main
from lightning_fewshot.cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES += [ROOT / "experiments/README.md", *sorted((ROOT / "lightning_fewshot/models").rglob("README.md"))]
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN = ("fit", "validate", "test", "predict")
# A page's blocks run in bash, where python only writes down its arguments and nothing else is found.
RECORDER = 'python() { printf "%s\\0" "$@" ; printf "\\n"; }; export PATH=; FEWSHOT_DATA=/data\n'
RECORDER += 'torchrun() { python "$@"; }; srun() { "$@"; }\n'


def recorded(text):
    """Return the arguments of every call of ``python`` in the bash blocks of a page, with variables and loops done."""
    script = RECORDER + "\n".join(BLOCK.findall(text))
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd="/", timeout=30)
    return [line.split("\0")[:-1] for line in run.stdout.split("\n") if line]


def commands():
    """Return the arguments of every command of the pages, with the page; those that differ in a value once."""
    found = {}
    for page in PAGES:
        for words in recorded(page.read_text()):
            if "lightning_fewshot" in words:  # after python, or torchrun with its options
                name, words = page.relative_to(ROOT).as_posix(), words[words.index("lightning_fewshot") + 1 :]
                found.setdefault((name, *map(_kind, words)), (name, words))
    return list(found.values())


def _kind(word):
    """Return a word without what may be any number or name."""
    return word if word.startswith("-") or word.endswith((".yaml", ".tiny")) or word in COMMANDS else ""


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
    shown = [] if any(word.endswith(".help") for word in words) else ["--print_config"]
    with pytest.raises(SystemExit) as end:
        main([*without_checkpoint(words), *shown])
    assert end.value.code == 0, capsys.readouterr().err


def without_checkpoint(words):
    """Return arguments that need no file of a run: the config of its experiment in place of a checkpoint alone."""
    kept = [w for i, w in enumerate(words) if "--ckpt_path" not in (w, words[i - 1]) and w != "--estimate"]
    run = re.search(r"runs/([\w-]+)/latest", " ".join(words))
    if "--config" in words or run is None or len(kept) == len(words):
        return kept
    return [kept[0], "--config", f"experiments/{run[1].replace('-', '/')}.yaml", *kept[1:]]


def test_the_site_builds(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site/sixth-paper/index.html").exists()
