"""Sweeps of a made-up command: what it is, and how often a cell was tried."""

from pathlib import Path

FAKE = """
import argparse, json, os, pathlib, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float)
parser.add_argument("--note")
parser.add_argument("--run_dir", type=pathlib.Path)
parser.add_argument("--ckpt_path")
o, _ = parser.parse_known_args()
o.run_dir.mkdir(parents=True, exist_ok=True)
with open(o.run_dir / "attempts.txt", "a") as file:
    print(o.note, o.ckpt_path, file=file)
while pathlib.Path("hold").exists():
    time.sleep(0.05)
if pathlib.Path("broken").exists() and o.x == 1:
    sys.exit("x is 1")
record = {"protocol": {"split": "test"}, "metrics": {"score": {"value": -((o.x - 2) ** 2)}}}
(o.run_dir / "results.json").write_text(json.dumps(record))
"""


def attempts(cell: str) -> list[str]:
    return Path(f"runs/s/{cell}/attempts.txt").read_text().splitlines()
