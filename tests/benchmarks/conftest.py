"""What the benchmarks share."""

import pytest
import torch


@pytest.fixture
def one_thread():
    """One thread and one seed, so that processor times can be compared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
