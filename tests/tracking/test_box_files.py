"""Text files of boxes: right, or an error with file and line."""

import numpy as np
import pytest
import torch

from lightning_fewshot.tracking.box_files import MOST_BYTES, mask_to_xywh, read_boxes

ROWS = [[10.0 + t, 15.0, 20.0, 20.5] for t in range(4)]


def encoded(separator=",", end="\n", codec="utf-8", head="", tail="", mark=b""):
    lines = [separator.join(f"{v:g}" for v in row) for row in ROWS]
    return mark + (head + end.join(lines) + end + tail).encode(codec)


@pytest.mark.parametrize(
    "data",
    [
        encoded(),
        encoded(mark=b"\xef\xbb\xbf"),
        encoded(codec="utf-16"),
        encoded(end="\r\n"),
        encoded(end="\r"),
        encoded(end="\r\r\n"),
        encoded("\t"),
        encoded(" "),
        encoded(", "),
        encoded(";"),
        encoded(" \t "),
        encoded(end=" \n"),
        encoded(head="# x, y, w, h\n"),
        encoded(head="% matlab\n// and more\n"),
        encoded(tail="\n\n  \n"),
    ],
)
def test_boxes_are_the_same_however_they_are_written(tmp_path, data):
    (tmp_path / "x.txt").write_bytes(data)
    assert read_boxes(tmp_path / "x.txt").tolist() == ROWS


@pytest.mark.parametrize("blank", ["", "   ", ",,,", "NaN,NaN,NaN,NaN"])
def test_a_line_that_says_nothing_keeps_later_boxes_in_their_frames(tmp_path, blank):
    (tmp_path / "x.txt").write_text(f"1,2,3,4\n{blank}\n{blank}\n5,6,7,8\n")
    boxes = read_boxes(tmp_path / "x.txt")
    assert boxes[[0, 3]].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert boxes[1:3].isnan().all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n1,2,3,4\n", r"x\.txt, line 1 is blank"),
        ("1,2,3,4\n\n1,2,3\n", r"x\.txt, line 3 has 3 values"),
        ("1,2,3,4\n10,5;2,5;3,5;4,5\n", r"x\.txt, line 2 has both ; and ,"),
        ("1,2,3,1e300\n", r"x\.txt, line 1 holds a number that is no pixel"),
        ("1,2,3,x\n", r"x\.txt, line 1 holds something that is no number"),
        ("m0,0,4\n", r"x\.txt, line 1 .*a mask is x, y, width, height"),
        ("m0,0,2,2,1,9\n", r"x\.txt, line 1 .*the runs cover 10 pixels, but the mask has 2 x 2"),
        ("\0\0", r"x\.txt is no text"),
        ("# only a comment\n", r"x\.txt has no box"),
    ],
)
def test_what_cannot_be_read_is_said_with_file_and_line(tmp_path, text, message):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_boxes(tmp_path / "x.txt")


def test_a_file_that_is_far_too_large_is_refused(tmp_path):
    with open(tmp_path / "x.txt", "wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ValueError, match="are the most of a text file"):
        read_boxes(tmp_path / "x.txt")


def runs(mask):
    """Return VOT's run lengths of a mask, background first."""
    counts, value = [0], False
    for pixel in mask.flatten().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


@pytest.mark.parametrize("seed", range(30))
def test_the_box_of_a_mask_is_that_of_its_pixels(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 7), rng.integers(1, 7))) < rng.choice([0.1, 0.4, 0.9])
    found = mask_to_xywh([5, 9, mask.shape[1], mask.shape[0], *runs(mask)])
    rows, columns = np.nonzero(mask)
    if not len(rows):
        assert np.isnan(found).all()
        return
    low, high = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
    assert found == [5 + low[0], 9 + low[1], high[0] - low[0], high[1] - low[1]]


def test_masks_of_vot2020_are_polygons_where_those_are_asked_for(tmp_path):
    (tmp_path / "x.txt").write_text("m10,20,4,2,1,2,2,1\nm10,20,4,2,8\n")
    assert read_boxes(tmp_path / "x.txt")[0].tolist() == [11, 20, 2, 2]
    polygons = read_boxes(tmp_path / "x.txt", polygons=True)
    assert polygons[0].tolist() == [11, 20, 13, 20, 13, 22, 11, 22]
    assert torch.isnan(polygons[1]).all()
