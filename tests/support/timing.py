"""Processor time, for the benchmarks: other work on the machine does not change a ratio."""

import time


def processor_times(work, repeats):
    """Return the processor time of every ``work()`` after a first one that is not counted."""
    work()
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return found


def seconds(work, repeats=3):
    """Return the least processor time of ``work()``, which other work on the machine disturbs least."""
    return min(processor_times(work, repeats))


MEASURED = []  # what was said, for the table of docs/speed.md


def say(text):
    """Print one measurement, and keep it for the table."""
    print(f"\n{text}")
    MEASURED.append(text)
