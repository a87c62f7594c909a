"""What the benchmarks share, and ``--write docs/speed.md``."""

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
    """Take the lines that a benchmark said."""
    report = yield
    if call.when == "call":
        _ROWS.extend((item.path.stem.removeprefix("test_").removesuffix("_speed"), text) for text in MEASURED)
        MEASURED.clear()
        if report.failed:
            _FAILED.append(item.name)
    return report


def pytest_sessionfinish(session):
    path = session.config.getoption("--write")
    if path and _ROWS:
        write_table(path, _ROWS, _FAILED)
