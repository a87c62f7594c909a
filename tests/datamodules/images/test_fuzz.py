"""Damaged files: every reader of photos and annotations takes 200 of them with a ValueError that names the file."""

import resource
import time

import numpy as np
import pytest
from damage import mutated_bytes, mutated_json
from photo_readers import make_readers

MUTATIONS = 200
MOST_BYTES = 100e6


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return make_readers(tmp_path_factory.mktemp("fuzz"))


NAMES = ["jpeg", "png", "tiff", "webp", "gif", "bmp", "mask", "masked photo", "classes.txt", "coco", "folder"]
NAMES += ["coco20i", "panoptic", "voc", "yolo labels", "yolo names", "tiny imagenet", "titles", "davis", "pascal5i"]
NAMES += ["episodes", "published episodes", "omniglot run", "camvid", "fss1000"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_named_or_counted(readers, name):
    path, read = readers[name]
    raw, rng = path.read_bytes(), np.random.default_rng(len(name))
    mutated = mutated_json if path.suffix == ".json" else mutated_bytes
    root = path.parents[[p.name.startswith("fuzz") for p in path.parents].index(True)]
    read(path)
    refused, began, memory = 0, time.perf_counter(), most_memory()
    try:
        for i in range(MUTATIONS):
            path.write_bytes(mutated(raw, rng))
            said = what_is_said(read, path, i)
            assert not said or path.name in said or str(root) in said, f"mutation {i} names no file: {said[:300]}"
            refused += bool(said)
    finally:
        path.write_bytes(raw)
    assert refused, "the mutations do no damage"
    assert most_memory() - memory < MOST_BYTES
    assert time.perf_counter() - began < 30


def what_is_said(read, path, number):
    """Return the error of a reader; fail if it is none that a person can use."""
    try:
        read(path)
    except UnicodeError as error:
        pytest.fail(f"mutation {number}: {error}")
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    except Exception as error:
        pytest.fail(f"mutation {number}: {type(error).__name__}: {str(error)[:300]}")
    return ""


def most_memory():
    """Return the most memory that the process ever had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
