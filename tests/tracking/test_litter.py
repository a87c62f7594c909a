"""What an operating system leaves beside a benchmark's files is no sequence of it."""

import pytest
from makers import load

from lightning_fewshot.tracking.benchmarks import read_benchmark

APPLE = b"\0\5\16\7\0\2\0\0Mac OS X        \xff\xfe" + bytes(80)  # what macOS writes as ._name


@pytest.mark.parametrize("name", ["otb", "vot", "uav123", "templecolor", "lasot", "trackingnet", "nfs"])
def test_names_that_begin_with_a_dot_are_skipped(tmp_path, name):
    getattr(load("videos"), f"make_{name}")(tmp_path)
    before = [sequence.name for sequence in read_benchmark(name, tmp_path)]
    for path in [*tmp_path.rglob("*.txt")]:
        path.with_name(f"._{path.name}").write_bytes(APPLE)
    assert [sequence.name for sequence in read_benchmark(name, tmp_path)] == before
