"""What the benchmarks share, and ``--write docs/speed.md``."""

from pathlib import Path

import pytest
import torch
from speed_table import write_table
from timing import MEASURED

from lightning_fewshot.__main__ import keep_freed_memory

keep_freed_memory()  # as the command line does


def pytest_addoption(parser):
    parser.addoption("--write", help="Write what was measured into this file, docs/speed.md.")


@pytest.fixture
def one_thread():
    """One thread and one seed, so that processor times can be compared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


_ROWS, _FAILED = [], []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Keep the lines that a benchmark said in its report, which reaches the main process from those of ``-n``."""
    report = yield
    if call.when == "call":
        report.user_properties += [("measured", text) for text in MEASURED]
        MEASURED.clear()
    return report


def pytest_runtest_logreport(report):
    """Collect what was measured."""
    name = Path(report.fspath).stem.removeprefix("test_").removesuffix("_speed")
    _ROWS.extend((name, text) for kind, text in report.user_properties if kind == "measured" and report.when == "call")
    if report.failed:
        _FAILED.append(report.nodeid.rpartition("::")[2])


def pytest_sessionfinish(session):
    """Write the table, in the main process alone."""
    path = session.config.getoption("--write")
    if path and _ROWS and not hasattr(session.config, "workerinput"):
        write_table(path, sorted(_ROWS, key=lambda row: row[0]), _FAILED)
