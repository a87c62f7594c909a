"""docs/speed.md: a run of the benchmarks replaces the section of its own class of machines alone."""

import pytest
from speed_table import machine_class, write_table


@pytest.mark.parametrize("known", [True, False])
def test_only_the_section_of_this_machine_changes(tmp_path, known):
    path, title = tmp_path / "speed.md", f"## {machine_class()}"
    others = ["# Speed\n\nRatios.\n", "## Abacus\n\n| wood | 1.0 |\n", "## Zuse\n\n| relays | 2.0 |\n"]
    path.write_text("\n".join([*others[:2], *([f"{title}\n\nold\n"] if known else []), others[2]]))
    write_table(path, [("fit", "a | b, 0.97")], ["a_benchmark"])
    write_table(path, [("fit", "0.98 of a | b")], [])
    text = path.read_text()
    assert all(other in text for other in others)
    assert text.count(title) == 1
    assert "| fit | 0.98 of a / b |" in text
    assert "old" not in text
    assert "a_benchmark" not in text
