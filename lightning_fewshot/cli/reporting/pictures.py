"""Pictures of a run as data URIs, no larger than a page shows them."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

LONGEST_SIDE = 1000  # pixels
JPEG_QUALITY = 85
MOST = 4  # pictures of a kind and run
NAME = re.compile(r"(?P<split>val|test)_(?:(?P<kind>best|worst)_(?P<rank>\d+)_)?(?P<episode>\d+)\.png")
KINDS = ("best", "worst", "first")


@dataclass(frozen=True)
class Picture:
    """One picture of an episode.

    Args:
        kind: best, worst or first.
        caption: What a reader sees.
        uri: The picture itself.
    """

    kind: str
    caption: str
    uri: str


def gallery(folder: Path, problems: list[str]) -> list[Picture]:
    """Return the best and the worst episodes of a run; the first ones where the model rates none."""
    named = [(path, match) for path in sorted(folder.glob("*.png")) if (match := NAME.fullmatch(path.name))]
    by_kind: dict[str, list[tuple[Path, re.Match]]] = {}
    for path, match in sorted(named, key=lambda pair: int(pair[1]["rank"] or 0)):
        by_kind.setdefault(match["kind"] or "first", []).append((path, match))
    kinds = KINDS[:2] if "best" in by_kind or "worst" in by_kind else KINDS[2:]
    pictures = []
    for kind in kinds:
        for path, match in by_kind.get(kind, [])[:MOST]:
            uri = data_uri(path)
            if uri is None:
                problems.append(f"{path} is cut off or no picture")
            else:
                pictures.append(Picture(kind, _caption(match), uri))
    return pictures


def data_uri(path: Path) -> str | None:
    """Return a picture as a data URI: as it is, or scaled down as JPEG where that is smaller; None: unreadable."""
    import cv2

    image = cv2.imread(str(path))
    if image is None:
        return None
    scale = LONGEST_SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    original = path.read_bytes()
    if scale >= 1 and len(original) <= len(jpeg):
        return "data:image/png;base64," + base64.b64encode(original).decode()
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def _caption(match: re.Match) -> str:
    episode = f"{match['split']} episode {int(match['episode'])}"
    return f"{match['kind']} {match['rank']}: {episode}" if match["kind"] else episode
