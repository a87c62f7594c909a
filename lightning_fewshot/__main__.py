"""``python -m lightning_fewshot fit --config experiments/<name>.yaml``."""

import ctypes
import os

# Threads of an operation that wait for work sleep instead of spinning. Spinning threads take the cores from the worker
# that draws the next episode: on two busy cores a training step of experiments/repmet.yaml took 5.0 s instead of 0.7 s.
# OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_freed_memory() -> bool:
    """Let the C library keep the memory of large tensors for the next ones.

    glibc gives every block above some megabytes back to the system when a tensor is freed, and the system clears each
    page anew for the next tensor: on a CPU, half of a backbone's forward pass of 24 images. Other C libraries,
    and settings of one's own (``MALLOC_...`` or ``GLIBC_TUNABLES``), are left alone. Returns whether it was set.
    """
    largest, trim_threshold, mmap_threshold = 2**30, -1, -3  # bytes; the numbers of malloc.h
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(set_option(option, largest) == 1 for option in (mmap_threshold, trim_threshold))


if __name__ == "__main__":
    keep_freed_memory()
    from lightning_fewshot.cli import main

    main()
