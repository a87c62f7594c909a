"""The shape that the project keeps: small constructors, files and functions, and documents that name what exists."""

import ast
import importlib
import inspect
import re
import statistics
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from lightning_fewshot.data import EpisodicDataModule
from lightning_fewshot.module import FewShotModule

ROOT = Path(__file__).parents[1]
SOURCES = [p for folder in ("lightning_fewshot", "datamodules") for p in sorted((ROOT / folder).rglob("*.py"))]
READMES = sorted((ROOT / "lightning_fewshot/models").glob("*/README.md"))
MOST_ARGUMENTS, MOST_LINES, MOST_BODY, MOST_MEDIAN = 12, 300, 40, 7


def _public_classes():
    for path in SOURCES:
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for name, cls in vars(module).items():
            own = inspect.isclass(cls) and cls.__module__ == module.__name__ and not name.startswith("_")
            if own and issubclass(cls, (FewShotModule, EpisodicDataModule)):
                yield cls


def _functions():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                yield path, node.name, body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("cls", list(_public_classes()), ids=lambda cls: cls.__name__)
def test_constructors_take_few_arguments_and_explain_each(cls):
    """Counted with those that ``**options`` passes on, as the command line sees them."""
    parser = ArgumentParser()
    parser.add_class_arguments(cls, "it", fail_untyped=False)
    actions = {a.dest.split(".")[1]: a for a in parser._actions if a.dest.startswith("it.")}
    assert len(actions) <= MOST_ARGUMENTS
    for name, action in actions.items():
        assert action.help is None or "CLASS" in str(action.help) or len(str(action.help)) > 5, (
            f"{name} is not explained"
        )


def test_files_and_functions_are_short():
    assert {p.name: n for p in SOURCES if (n := p.read_text().count("\n")) > MOST_LINES} == {}
    lengths = list(_functions())
    assert [(str(p.relative_to(ROOT)), name, n) for p, name, n in lengths if n > MOST_BODY] == []
    assert statistics.median(n for *_, n in lengths) <= MOST_MEDIAN


def _named_code(readme):
    """Return (files, names) of every row of a README's table of equations: `file.py`, `name`; ..."""
    for line in readme.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        words = re.findall(r"`([^`]+)`", cells[-1])
        files = [w for w in words if w.endswith(".py")]
        if line.startswith("|") and files:
            yield (
                line,
                files,
                [w for w in words if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", w) and not w.endswith(".py")],
            )


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_the_code_that_a_paper_names_exists(readme):
    roots = (readme.parent, ROOT / "lightning_fewshot", ROOT)
    for line, files, names in _named_code(readme):
        paths = [next((r / f for r in roots if (r / f).is_file()), None) for f in files]
        assert None not in paths, f"no such file: {line}"
        texts = "".join(path.read_text() for path in paths)
        lacking = [n for n in names if not re.search(rf"\b{re.escape(n.rpartition('.')[2])}\b", texts)]
        assert not lacking, f"{lacking} stand in none of {files}: {line}"
