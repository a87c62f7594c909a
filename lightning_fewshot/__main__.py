"""``python -m lightning_fewshot fit --config experiments/<name>.yaml``."""

import os

# Threads of an operation that wait for work sleep instead of spinning. Spinning threads take the cores from the worker
# that draws the next episode: on two busy cores a training step of experiments/repmet.yaml took 5.0 s instead of 0.7 s.
# OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from lightning_fewshot.cli import main

if __name__ == "__main__":
    main()
