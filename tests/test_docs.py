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
RECORDER += 'torchrun() { python "$@"; }; srun() { python "$@"; }\n'


def recorded(text):
    """Return the arguments of every call of ``python`` in the bash blocks of a page, with variables and loops done."""
    script = RECORDER + "\n".join(BLOCK.findall(text))
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd="/", timeout=30)
    return [line.split("\0")[:-1] for line in run.stdout.split("\n") if line]


def commands():
    """Return the arguments of the commands of all pages; those of one command, configs and classes together."""
    found = {}
    for page in PAGES:
        for words in recorded(page.read_text()):
            if "lightning_fewshot" in words:  # after python, or torchrun with its options
                words = words[words.index("lightning_fewshot") + 1 :]
                kind = _kind(words)
                found[kind] = [*found[kind], *_without_configs(words[1:])] if kind in found else words
    return list(found.values())


def _without_configs(words):
    return [word for i, word in enumerate(words) if "--config" not in (word, words[i - 1])]


def _kind(words):
    """Return what commands must share so that their options can be given together."""
    alike = [w for w in words if w.endswith(".yaml") or "datamodules." in w or "lightning_fewshot." in w]
    helps = [word for word in words if word.endswith(".help")]
    return (words[0], *alike, *helps, "--config" in words or tuple(words))[: None if words[0] in RUN else 1]


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words)[:60])
def test_every_command_is_taken(words, in_tmp, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert words[0] in COMMANDS
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
