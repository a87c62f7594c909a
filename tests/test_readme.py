"""Every block of Python in the README and in docs/ runs, one file's blocks in their order, on files made here."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_experiments import FOLDER, config_arguments

from lightning_fewshot.cli import main

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
CHECKPOINT = re.compile(r'"((?:runs/([\w.-]+)/[\w.-]+/checkpoints/)?best\.ckpt)"')
IMAGE = re.compile(r'"([\w./-]+\.(?:jpg|jpeg|png))"')
FIXED = ["--trainer.accelerator=cpu", "--trainer.max_steps=1", "--test_after_fit=false", "--pictures.count=0"]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTS = [path for path in DOCUMENTS if BLOCK.search(path.read_text())]
DEFAULT = "repmet"  # whose a checkpoint without a run's name is


@pytest.fixture
def provided(in_tmp):
    """Return a function that makes the files that code names: photos, masks, checkpoints."""

    def make(code):
        for name in set(IMAGE.findall(code)) - {p.as_posix() for p in Path().rglob("*.*")}:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            shape = (90, 120) if "mask" in name else (90, 120, 3)
            values = np.full(shape, 0 if "mask" in name else 120, np.uint8)
            values[10:52, 8:60] = 1 if "mask" in name else (200, 40, 40)
            Image.fromarray(values).save(name)
        for path, run in set(CHECKPOINT.findall(code)):
            if not Path(path).exists():
                source = FOLDER / f"{run or DEFAULT}.yaml"
                main(["fit", *config_arguments([source]), *FIXED, f"--run_dir={in_tmp / 'made' / (run or DEFAULT)}"])
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_bytes((in_tmp / "made" / (run or DEFAULT) / "checkpoints/last.ckpt").read_bytes())

    return make


@pytest.mark.slow
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_block_of_python_runs(path, provided, capsys):
    """What a block prints in a loop over predictions shows that there were some."""
    names = {"__name__": "readme"}
    for block in BLOCK.findall(path.read_text()):
        provided(block)
        capsys.readouterr()
        exec(compile(block, str(path), "exec"), names)
        printed = capsys.readouterr().out
        assert "print(" not in block or printed, f"{path.name} has a block that prints nothing:\n{block}"


def test_the_readme_has_blocks():
    assert ROOT / "README.md" in DOCUMENTS
