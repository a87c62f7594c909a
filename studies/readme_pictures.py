"""The README's pictures: one of each task, from the runs of the commands that stand there.

    python studies/readme_pictures.py --segment RUN --classify RUN --track RUN --detect RUN

A run is the folder that ``predict`` names at its end. Of a film one frame is taken. Runs that are not given keep their
picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

HEIGHT = 256  # pixels
FRAME = 40  # of a film
PICTURE = {
    "segment": "pictures/query/kite_1.png",
    "classify": "pictures/query/turtle_1.png",
    "track": "tracks/clip.mp4",
    "detect": "pictures/query/turtle_1.png",
}


def main() -> None:
    """Write ``docs/images/<task>.png``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for task in PICTURE:
        parser.add_argument(f"--{task}", type=Path, metavar="RUN", help=f"folder of a run of predict: {PICTURE[task]}")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder of the pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for task, name in PICTURE.items():
        run = getattr(options, task)
        if run is not None:
            file = options.out / f"{task}.png"
            cv2.imwrite(str(file), fitted(read(run / name)), [cv2.IMWRITE_PNG_COMPRESSION, 9])
            print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def read(path: Path) -> np.ndarray:
    """Return a picture, or a frame of a film.

    Raises:
        FileNotFoundError: It cannot be read.
    """
    if path.suffix != ".mp4":
        image = cv2.imread(str(path))
    else:
        film = cv2.VideoCapture(str(path))
        film.set(cv2.CAP_PROP_POS_FRAMES, FRAME)
        image = film.read()[1]
    if image is None:
        raise FileNotFoundError(f"{path} is no picture and no film with {FRAME + 1} frames")
    return image


def fitted(image: np.ndarray) -> np.ndarray:
    """Return a picture of the common height.

    >>> fitted(np.zeros((512, 100, 3), np.uint8)).shape
    (256, 50, 3)
    """
    width = max(1, round(image.shape[1] * HEIGHT / image.shape[0]))
    return cv2.resize(image, (width, HEIGHT), interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    main()
