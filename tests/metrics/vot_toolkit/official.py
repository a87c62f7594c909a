"""Make up supervised runs and ask the official toolkit for accuracy, robustness and EAO: writes ``official.json``.

The toolkit (vot-toolkit 0.9.0, GPL; not needed by this project) lies in an environment of its own::

    pip install vot-toolkit==0.9.0 attributee==0.1.9
    python tests/metrics/vot_toolkit/official.py tests/metrics/vot_toolkit/official.json

Only its public classes are called. The runs follow VOT2015 to VOT2018: a tracker whose overlap is 0 has failed (code
2), four frames are left out (code 0), and the next one is a start (code 1). Boxes are whole pixels inside the image:
the toolkit rounds regions to pixels before it compares them.

- ``steady`` fails rarely: the EAO of every challenge lies inside its curve.
- ``shaky`` fails often: its curve ends between the bounds of the challenges, at its longest part without a failure.
- ``lost`` fails so often that no part reaches the lower bound; the toolkit's EAO is NaN there, null in the file.
- ``seeded`` was run three times on two sequences and once on the others.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (320, 240)  # width, height
LENGTHS = {"ant": 420, "ball": 395, "cat": 260, "dog": 150, "eel": 33, "fly": 9}
RATES = {"steady": 0.0018, "shaky": 0.015, "lost": 0.06, "seeded": 0.01}  # of failures, a frame
REPEATED = {("seeded", "cat"): 3, ("seeded", "dog"): 3}
SHORT = (10, 60)  # other bounds of the EAO
SKIP, START, FAILURE, UNKNOWN = 5, "1", "2", "0"


def truth(length: int, rng: np.random.Generator) -> np.ndarray:
    """Return a box that wanders, ``(length, 4)`` x, y, width, height in whole pixels."""
    walk = rng.integers(-3, 4, (length, 4)).cumsum(0) + np.array([140, 100, 40, 30])
    size = np.clip(walk[:, 2:], 24, 60)
    return np.concatenate([np.clip(walk[:, :2], 20, np.array(SIZE) - size - 20), size], axis=1)


def trajectory(boxes: np.ndarray, rate: float, rng: np.random.Generator) -> list[str]:
    """Return the lines of a result file; a box lies up to 12 pixels beside the truth."""
    lines, start = [UNKNOWN] * len(boxes), 0
    for t, box in enumerate(boxes):
        if t < start:
            continue
        if t == start:
            lines[t] = START
        elif rng.random() < rate:
            lines[t], start = FAILURE, t + SKIP
        else:
            shift = np.concatenate([rng.integers(-12, 13, 2), rng.integers(-4, 5, 2)])
            lines[t] = ",".join(map(str, box + shift))
    return lines


def runs(boxes: dict[str, np.ndarray]) -> dict[str, dict[str, list[list[str]]]]:
    """Return the repetitions of each sequence by tracker."""
    rng = np.random.default_rng(15)
    return {
        tracker: {
            name: [trajectory(truth, rate, rng) for _ in range(REPEATED.get((tracker, name), 1))]
            for name, truth in boxes.items()
        }
        for tracker, rate in RATES.items()
    }


def bounds() -> dict[str, list[int]]:
    """Return the bounds of the EAO in the toolkit's own stacks."""
    import vot
    import yaml

    folder = Path(vot.__file__).parent / "stack"
    files = {"VOT2015": "vot2015/rgb.yaml", "VOT2016": "vot2016/rgb.yaml", "VOT2018": "vot2018/shortterm.yaml"}
    stacks = {name: yaml.safe_load((folder / file).read_text())["experiments"] for name, file in files.items()}
    scores = {
        name: next(a for a in stack["baseline"]["analyses"] if a["type"] == "supervised_eao_score")
        for name, stack in stacks.items()
    }
    return {name: [score["low"], score["high"]] for name, score in scores.items()}


def official(tracker_name: str, boxes: Any, lines: Any, folder: Path, eao: Any) -> dict[str, Any]:
    """Return the toolkit's numbers of one tracker."""
    from vot.analysis.supervised import AccuracyRobustness, AverageAccuracyRobustness, EAOCurve, EAOScore
    from vot.dataset import InMemorySequence
    from vot.experiment.multirun import SupervisedExperiment
    from vot.region import Rectangle
    from vot.tracker import Tracker
    from vot.workspace import LocalStorage

    class SizedSequence(InMemorySequence):
        """The toolkit's own cannot say its size."""

        size = SIZE

    experiment = SupervisedExperiment("baseline", LocalStorage(str(folder)), repetitions=15, skip_initialize=SKIP)
    tracker, image = Tracker(tracker_name, "", None), np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    sequences = []
    for name, rows in boxes.items():
        sequence = SizedSequence(name, ["color"])
        for row in rows.tolist():
            sequence.append({"color": image}, Rectangle(*row))
        for number, text in enumerate(lines[name], 1):
            with experiment.results(tracker, sequence).write(f"{name}_{number:03d}.txt") as file:
                file.write("\n".join(text) + "\n")
        sequences.append(sequence)
    asked = experiment, [tracker], sequences
    means, separate = (list(a().run(*asked)) for a in (AverageAccuracyRobustness, AccuracyRobustness))
    accuracy, failures, (robustness, _), length = means[0]
    scores = {name: next(iter(EAOScore(low=a, high=b).run(*asked)))[0] for name, (a, b) in eao.items()}
    return {
        "accuracy": float(accuracy),
        "weighted_failures": float(failures),
        "robustness": float(robustness),
        "mean_length": float(length),
        "sequences": {
            s.name: {"accuracy": float(row[0]), "failures": float(row[1]), "robustness": float(row[2][0])}
            for s, row in zip(sequences, separate, strict=True)
        },
        "eao": {name: None if math.isnan(score) else score for name, score in scores.items()},
        "eao_curve": [round(float(v), 8) for v in next(iter(EAOCurve().run(*asked)))[0]],
    }


def overlaps() -> list[dict[str, Any]]:
    """Return turned rectangles, boxes beside them in parts of pixels, and the toolkit's overlap of the two."""
    from vot.region import Polygon, Rectangle, calculate_overlap

    rng, pairs = np.random.default_rng(4), []
    for angle in rng.uniform(0, math.pi, 40):
        size, centre = rng.uniform(20, 60, 2), rng.uniform(60, 180, 2)
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size / 2 @ turn + centre
        box = np.array([*(centre - size / 2 + rng.uniform(-12, 12, 2)), *size]).round(2)
        polygon = corners.round(2)
        overlap = calculate_overlap(Polygon(polygon.tolist()), Rectangle(*box.tolist()), SIZE)
        pairs.append({"polygon": polygon.ravel().tolist(), "box": box.tolist(), "overlap": round(overlap, 6)})
    return pairs


def main(path: Path) -> None:
    """Write the runs and the numbers."""
    rng = np.random.default_rng(2016)
    boxes = {name: truth(length, rng) for name, length in LENGTHS.items()}
    trackers, eao = runs(boxes), {**bounds(), "short": list(SHORT)}
    record = {
        "note": "made by official.py beside this file; the numbers under official are the toolkit's",
        "versions": {name: version(name) for name in ("vot-toolkit", "attributee", "numpy")},
        "bounds": eao,
        "truth": {name: [",".join(map(str, row)) for row in rows.tolist()] for name, rows in boxes.items()},
        "runs": trackers,
        "overlaps": overlaps(),
        "official": {},
    }
    for name, lines in trackers.items():
        with tempfile.TemporaryDirectory() as folder:
            record["official"][name] = official(name, boxes, lines, Path(folder), eao)
    texts = {key: json.dumps(value) for key, value in record.items()}
    path.write_text("{\n" + ",\n".join(f'"{key}": {text}' for key, text in texts.items()) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
