"""MATLAB's files: the reader beside scipy's, and files that scipy's does not survive."""

import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from datamodules.images import matlab
from datamodules.images.matlab import read_mat, texts, whole_numbers


@pytest.mark.parametrize("packed", [True, False])
def test_what_scipy_writes_is_read_alike(tmp_path, packed):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 255, (5, 7), dtype=np.uint8)
    cells = np.array(["n01/a.jpg", "täst", ""], dtype=object)[:, None]
    content = {"labels": labels, "ids": np.arange(6.0), "names": cells, "one": {"map": labels, "name": "x"}, "t": "red"}
    savemat(str(tmp_path / "a.mat"), content, do_compression=packed)
    ours, scipys = read_mat(tmp_path / "a.mat", ["names"]), loadmat(str(tmp_path / "a.mat"), simplify_cells=True)
    assert np.array_equal(ours["labels"], scipys["labels"])
    assert np.array_equal(ours["one"]["map"], scipys["one"]["map"])
    assert whole_numbers(ours["ids"][1:], "ids") == scipys["ids"][1:].tolist()
    assert texts(ours["names"], "names")[:2] == scipys["names"].tolist()[:2]
    assert (ours["t"], ours["one"]["name"]) == ("red", "x")


def test_what_cannot_be_used_is_named(tmp_path):
    path = tmp_path / "a.mat"
    savemat(str(path), {"a": np.arange(3)})
    with pytest.raises(ValueError, match=r"a\.mat has no 'labels' but must have labels"):
        read_mat(path, ["labels"])
    with pytest.raises(ValueError, match="labels must hold whole numbers"):
        whole_numbers(np.array([1.5]), "labels")
    with pytest.raises(ValueError, match="names must hold texts"):
        texts([np.arange(3)], "names")
    path.write_bytes(path.read_bytes()[:140])
    with pytest.raises(ValueError, match=r"a\.mat is truncated or no file of MATLAB: it ends \d+ bytes too early"):
        read_mat(path)
    path.write_bytes(b"\x89HDF" + bytes(200))
    with pytest.raises(ValueError, match=r"a\.mat is no file of MATLAB's version 5"):
        read_mat(path)


def test_a_bomb_is_refused_with_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(matlab, "MOST_BYTES", 5000)
    bomb = zlib.compress(bytes(10**6))
    path = tmp_path / "a.mat"
    path.write_bytes(bytes(124) + b"\0\1IM" + struct.pack("<II", 15, len(bomb)) + bomb)
    with pytest.raises(ValueError, match="more than 5000 bytes when it is unpacked"):
        read_mat(path)
