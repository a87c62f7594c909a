"""Readers of boxes and test sets on damaged files: a result, or one error with the file in it; never anything else."""

import shutil

import numpy as np
import pytest
import torch

from lightning_fewshot.tracking.benchmarks import read_benchmark
from lightning_fewshot.tracking.files import TrackFiles
from lightning_fewshot.tracking.frames import ArrayFrames
from lightning_fewshot.tracking.identity import IdentityTracker
from lightning_fewshot.tracking.loop import track
from lightning_fewshot.tracking.supervised import read_run, track_supervised, write_run
from lightning_fewshot.tracking.trajectories import read_trajectory

SEEDS = 200
WORDS = (
    b"",
    b"\n\n",
    b"NaN",
    b"1e999",
    b"9" * 400,
    b"-",
    b"m",
    b"null",
    b"\xff\xfe",
    b"\0",
    b";",
    b"{",
    b"[]",
    b"../..",
)


def mutate(data, rng):
    """Cut, repeat, overwrite or insert at a random place."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(data) + 1))
        end = min(len(data), at + int(rng.integers(1, 20)))
        how = rng.integers(4)
        if how == 0:
            data = data[:at]
        elif how == 1:
            data[at:end] = data[at:end] * 3
        else:
            data[at : end if how == 2 else at] = WORDS[rng.integers(len(WORDS))]
    return bytes(data)


FILES = {
    "otb": "OTB/Deer/groundtruth_rect.txt",
    "templecolor": "Temple-color-128/Kite_ce/Kite_ce_frames.txt",
    "uav123": "UAV123/anno/UAV123/bike2.txt",
    "vot": "VOT/bag/groundtruth.txt",
    "got10k": "GOT-10k/train/GOT-10k_Train_000001/absence.label",
    "lasot": "LaSOT/cat/cat-1/full_occlusion.txt",
    "trackingnet": "TrackingNet/TRAIN_0/anno/abc_0.txt",
    "nfs": "NfS/ball/30/ball.txt",
}


def _faults(read, path, original):
    """Return the seeds of damaged files that end in another error than one that names the file, with what was said."""
    faults = []
    for seed in range(SEEDS):
        path.write_bytes(mutate(original, np.random.default_rng(seed)))
        message = _said(read)
        if message is not None and path.name not in message and "there is no" not in message:
            faults.append((seed, message))
    return faults


def _said(read):
    try:
        read()
    except (ValueError, FileNotFoundError) as error:
        return f"{type(error).__name__} {error}" if type(error) in (ValueError, FileNotFoundError) else "another error"
    return None


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_of_test_sets(maker, tmp_path, name):
    getattr(maker, f"make_{name}")(tmp_path)
    for image in tmp_path.rglob("*.jpg"):  # few, so that listing them is quick
        if int(image.stem) > 3:
            image.unlink()
    path = tmp_path / FILES[name]
    assert _faults(lambda: read_benchmark(name, tmp_path), path, path.read_bytes()) == []


@pytest.mark.parametrize("name", ["OTB2015.json", "OTB2015_attributes.json", "VOT2018.json"])
def test_damaged_lists_in_json(tmp_path, name):
    entry = '{"name": "Deer", "gt_rect": [[1, 2, 3, 4], [2, 3, 4, 5]], "image_files": ["0001.jpg"]}'
    folder = tmp_path / ("VOT" if name.startswith("VOT") else "OTB")
    folder.mkdir()
    (folder / "OTB2015.json").write_text(f'{{"Deer": {entry}}}')
    text = '{"Deer": ["IV"]}' if "attributes" in name else f'{{"Deer": {entry}}}'
    benchmark = folder.name.lower()
    assert _faults(lambda: read_benchmark(benchmark, tmp_path), folder / name, text.encode()) == []
    shutil.rmtree(folder)


@pytest.mark.parametrize("text", ["1\n10,15,20,20\n2\n0\n", "1,2,3,4\n" * 5, "m1,2,3,2,1,2,3\n" * 2])
def test_damaged_result_files(tmp_path, text):
    path = tmp_path / "ant_001.txt"
    assert _faults(lambda: read_trajectory(path), path, text.encode()) == []


@pytest.mark.parametrize("name", ["a.txt", "times/a_time.txt", "times/a_more.txt", "times/a_made_by.txt"])
@pytest.mark.parametrize("protocol", ["one-pass", "supervised"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_tracks_are_taken_up_or_tracked_again(tmp_path, name, protocol):
    """An evaluation that is resumed takes a track, or none; it never ends for want of it."""
    frames, files = ArrayFrames(np.zeros((9, 20, 30, 3), np.uint8), "a"), TrackFiles(tmp_path, "me")
    box = torch.tensor([2.0, 3.0, 12.0, 13.0])
    if protocol == "one-pass":
        files.write(frames, track(IdentityTracker(), frames, box))
    else:
        corners = box[[0, 1, 2, 1, 2, 3, 0, 3]]
        write_run(files, frames, track_supervised(IdentityTracker(), frames, corners.expand(9, 8)))
    read = files.read if protocol == "one-pass" else lambda frames: read_run(files, frames)
    assert read(frames) is not None
    path, again = tmp_path / name, 0
    original = path.read_bytes()
    for seed in range(SEEDS):
        path.write_bytes(mutate(original, np.random.default_rng(seed)))
        found = read(frames)
        again += found is None
        assert found is None or len(found.boxes) == len(found.seconds) == 9
    assert again > SEEDS / 4
