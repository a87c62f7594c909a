"""Tiny videos in the real layouts: a red square that moves by one pixel a frame over dark noise."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT, SIDE = 64, 48, 12
RED = (255, 0, 0)


def boxes(n: int, start: tuple[int, int] = (10, 12)) -> np.ndarray:
    """Return the true boxes ``(n, 4)`` x, y, w, h, counted from 0."""
    t = np.arange(n)
    return np.stack([start[0] + t % 30, start[1] + t % 15, np.full(n, SIDE), np.full(n, SIDE)], axis=1)


def images(n: int, start: tuple[int, int] = (10, 12), seed: int = 0) -> np.ndarray:
    """Draw ``(n, H, W, 3)`` uint8 RGB."""
    frames = np.random.default_rng(seed).integers(0, 60, (n, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for frame, (x, y, w, h) in zip(frames, boxes(n, start), strict=True):
        frame[y : y + h, x : x + w] = RED
    return frames


def write_images(folder: Path, frames: np.ndarray, digits: int = 4, first: int = 1, suffix: str = ".jpg") -> None:
    """Write numbered files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames, first):
        cv2.imwrite(str(folder / f"{i:0{digits}d}{suffix}"), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])


def write_rows(path: Path, rows: np.ndarray, separator: str = ",") -> None:
    """Write one row a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(f"{v:g}" for v in row) + "\n" for row in rows))


def one_based(rows: np.ndarray) -> np.ndarray:
    """Count pixels from 1."""
    return rows + np.array([1, 1, 0, 0])


def make_otb(root: Path) -> Path:
    """Write six sequences with OTB's quirks into ``root/OTB``."""
    base = root / "OTB"
    plain = {"Deer": (10, 10, ","), "Couple": (8, 8, "\t"), "Football1": (12, 9, " ")}  # images, boxes, separator
    for seed, (name, (n_images, n_boxes, separator)) in enumerate(plain.items()):
        write_images(base / name / "img", images(n_images, seed=seed))
        write_rows(base / name / "groundtruth_rect.txt", one_based(boxes(n_boxes)), separator)
    for name in ("Jogging", "Human4"):
        write_images(base / name / "img", images(7))
        write_rows(base / name / "groundtruth_rect.1.txt", one_based(boxes(7)))
        write_rows(base / name / "groundtruth_rect.2.txt", one_based(boxes(7)) + np.array([5, 5, 0, 0]))
    write_images(base / "David" / "img", images(310))
    write_rows(base / "David" / "groundtruth_rect.txt", one_based(boxes(310)[299:]))
    attributes = {"att_name_short": ["IV", "SV"], "Deer": ["IV"], "Couple": ["SV", "IV"], "Jogging_1": ["SV"]}
    (base / "OTB2015_attributes.json").write_text(json.dumps(attributes))
    return root


def make_vot(root: Path) -> Path:
    """Write two sequences with polygons into ``root/VOT``."""
    for seed, name in enumerate(("bag", "book")):
        write_images(root / "VOT" / name / "color", images(20, seed=seed), 8)
        x, y, w, h = boxes(20).T
        write_rows(root / "VOT" / name / "groundtruth.txt", np.stack([x, y, x + w, y, x + w, y + h, x, y + h], axis=1))
    (root / "VOT/list.txt").write_text("bag\nbook\n")
    return root


def make_templecolor(root: Path) -> Path:
    """Write two sequences into ``root/Temple-color-128``; the second starts at image 3."""
    base = root / "Temple-color-128"
    for name, first in (("Ball_ce1", 1), ("Kite_ce", 3)):
        write_images(base / name / "img", images(9))
        write_rows(base / name / f"{name}_gt.txt", one_based(boxes(9)[first - 1 :]))
        (base / name / f"{name}_frames.txt").write_text(f"{first},9")
    return root


def make_uav123(root: Path) -> Path:
    """Write one whole video and two parts of another into ``root/UAV123``; a part has a frame without the object."""
    base = root / "UAV123"
    write_images(base / "data_seq/UAV123/bike2", images(6), 6)
    write_rows(base / "anno/UAV123/bike2.txt", one_based(boxes(6)))
    write_images(base / "data_seq/UAV123/truck4", images(580), 6)
    write_rows(base / "anno/UAV123/truck4_1.txt", one_based(boxes(5)))
    later = one_based(boxes(580)[576:]).astype(float)
    later[2] = np.nan
    write_rows(base / "anno/UAV123/truck4_2.txt", later)
    return root


def make_lasot(root: Path) -> Path:
    """Write two sequences into ``root/LaSOT``; of the first, frame 2 is occluded and frame 4 out of view."""
    for seed, name in enumerate(("cat-1", "dog-3")):
        base = root / "LaSOT" / name.split("-")[0] / name
        write_images(base / "img", images(8, seed=seed), 8)
        write_rows(base / "groundtruth.txt", one_based(boxes(8)))
        for file, frame in (("full_occlusion.txt", 2), ("out_of_view.txt", 4)):
            (base / file).write_text(",".join(str(int(t == frame and seed == 0)) for t in range(8)))
    return root


def make_trackingnet(root: Path) -> Path:
    """Write a training video with its truth and a test video with its first box into ``root/TrackingNet``."""
    for part, name, count in (("TRAIN_0", "abc_0", 8), ("TEST", "xyz_1", 1)):
        write_images(root / "TrackingNet" / part / "frames" / name, images(8), 1, 0)
        write_rows(root / "TrackingNet" / part / "anno" / f"{name}.txt", boxes(count))
    return root


def make_nfs(root: Path) -> Path:
    """Write a sequence of 8 images into ``root/NfS``, with a truth at eight times their rate."""
    base = root / "NfS/ball/30"
    write_images(base / "ball", images(8), 5)
    rows = [
        f'0 {x} {y} {x + w} {y + h} {t * 8 + k} 0 0 0 "ball"'
        for t, (x, y, w, h) in enumerate(boxes(8))
        for k in range(8)
    ]
    (base / "ball.txt").write_text("\n".join(rows) + "\n")
    return root


def make_got10k(root: Path, n_videos: int = 6, folder: str = "GOT-10k", n_frames: int = 14) -> Path:
    """Write training videos into ``root/<folder>/train``; in frame 3 of each the object is absent."""
    names = [f"GOT-10k_Train_{i:06d}" for i in range(1, n_videos + 1)]
    for i, name in enumerate(names):
        base, start = root / folder / "train" / name, (10 + i % 8, 12)
        write_images(base, images(n_frames, start, seed=i), 8)
        write_rows(base / "groundtruth.txt", boxes(n_frames, start))
        (base / "absence.label").write_text("".join(f"{int(t == 3)}\n" for t in range(n_frames)))
    (root / folder / "train/list.txt").write_text("\n".join(names) + "\n")
    return root


def make_vid(root: Path, n_videos: int = 5, n_frames: int = 12, part: str = "train") -> Path:
    """Write videos of two objects into ``root/ILSVRC2015``; the second object is not in the first frame."""
    for i in range(n_videos):
        inner = "ILSVRC2015_VID_train_0000/" if part == "train" else ""
        name = f"VID/{part}/{inner}ILSVRC2015_{part}_{i:08d}"
        write_images(root / "ILSVRC2015/Data" / name, images(n_frames, seed=i), 6, 0, ".JPEG")
        notes = root / "ILSVRC2015/Annotations" / name
        notes.mkdir(parents=True)
        for t, (x, y, w, h) in enumerate(boxes(n_frames)):
            found = [(0, x, y, x + w - 1, y + h - 1)] + ([(1, 40, 30, 55, 41)] if t else [])
            text = "".join(
                f"<object><trackid>{k}</trackid><name>n02</name><bndbox><xmax>{c}</xmax><xmin>{a}</xmin>"
                f"<ymax>{d}</ymax><ymin>{b}</ymin></bndbox></object>"
                for k, a, b, c, d in found
            )
            (notes / f"{t:06d}.xml").write_text(f"<annotation>{text}</annotation>")
    return root


def make_clip(path: Path, n_frames: int = 12) -> Path:
    """Write a video file."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (WIDTH, HEIGHT))
    for frame in images(n_frames):
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def make_all(root: Path) -> None:
    """Make every layout that an experiment reads."""
    for make in (
        make_otb,
        make_vot,
        make_templecolor,
        make_uav123,
        make_got10k,
        make_vid,
        make_lasot,
        make_trackingnet,
        make_nfs,
    ):
        make(root)
    make_got10k(root, folder="videos")
    make_clip(root / "clip.mp4")
