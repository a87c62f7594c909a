"""VOC's annotations as tools write them."""

import pytest
from annotated_photos import BOX, photo

from datamodules.detection.voc import read_xml
from datamodules.images.reading import SkippedItems


def write_xml(path, size, more="", corners=(9, 7, 30, 26)):
    tags = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    item = f"<object><name>bolt</name>{more}<bndbox>{tags}</bndbox></object>"
    path.write_text(f"<annotation>{size}{item}</annotation>")
    return path


@pytest.mark.parametrize("size", ["", "0 0", "80.0 60.0", "80 60"])
def test_a_voc_annotation_needs_no_size(tmp_path, size):
    photo(tmp_path / "a.jpg")
    if size:
        size = "<size><width>{}</width><height>{}</height></size>".format(*size.split())
    read = read_xml(write_xml(tmp_path / "a.xml", size), tmp_path / "a.jpg", SkippedItems())
    assert read.boxes.tolist() == [BOX]
    assert read.size == (80, 60)


@pytest.mark.parametrize("kept", [False, True])
def test_difficult_objects_are_ignored_unless_they_are_asked_for(tmp_path, kept):
    photo(tmp_path / "a.jpg")
    path = write_xml(tmp_path / "a.xml", "", "<difficult>1</difficult>", ("9.0", "7.0", "30.0", "26.0"))
    read = read_xml(path, tmp_path / "a.jpg", SkippedItems(), difficult=kept)
    there, nothing = ([BOX], ("bolt",)), ([], ())
    assert (read.boxes.tolist(), read.classes) == (there if kept else nothing)
    assert (read.ignored.boxes.tolist(), read.ignored.classes) == (nothing if kept else there)
    assert not read.ignored.crowd.any()
