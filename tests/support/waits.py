"""The table of docs/scale.md: how often a step of each experiment waits for the device, at the sizes of the tests.

``WRITE_WAITS=1 pytest tests/test_experiments.py`` writes it anew.
"""

import os
import re

from tiny_experiments import FOLDER, ROOT

PAGE = ROOT / "docs/scale.md"
PHASES = ("train", "val", "test")
ROW = re.compile(r"^\| `([\w./]+\.yaml)` \| (\d+) \| (\d+) \| (\d+) \|\n", re.MULTILINE)


def documented():
    """Return ``{experiment: (train, val, test)}`` of the page."""
    return {name: tuple(map(int, counts)) for name, *counts in ROW.findall(PAGE.read_text())}


def check(path, device):
    """Compare what was counted with what is documented; write it where that is asked for.

    A training step must have exactly its number. How often an evaluation waits depends on what was found, so that only
    more than documented is a mistake.
    """
    counts = tuple(device.count(phase) for phase in PHASES)
    name = path.relative_to(FOLDER).as_posix()
    if os.environ.get("WRITE_WAITS"):
        _write({**documented(), name: counts})
    known = documented()
    assert name in known, f"docs/scale.md has no row of {name}: WRITE_WAITS=1 pytest tests/test_experiments.py"
    places = "\n".join(f"{n:5d} {phase}: {place}" for (phase, place), n in sorted(device.waits.items()))
    problem = f"docs/scale.md has {known[name]} waits of {name}, but it has {counts}:\n{places}"
    assert counts[0] == known[name][0], problem
    assert all(n <= most for n, most in zip(counts, known[name], strict=True)), problem


def _write(rows):
    text = PAGE.read_text()
    table = "".join(f"| `{name}` | {' | '.join(map(str, counts))} |\n" for name, counts in sorted(rows.items()))
    rule = re.search(r"^\| experiment \| training .*\n\|.*\n", text, re.MULTILINE)
    PAGE.write_text(text[: rule.end()] + table + ROW.sub("", text[rule.end() :]))
