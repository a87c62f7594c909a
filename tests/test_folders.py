"""What lies in a folder: every file of data once, whatever its name, and nothing that systems leave behind."""

import pytest

from lightning_fewshot.files import RUN_MARKER
from lightning_fewshot.folders import IMAGE_SUFFIXES, data_files, data_folders, find_file


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed(root, **options):
    return [path.relative_to(root).as_posix() for path in data_files(root, IMAGE_SUFFIXES, **options)]


def test_litter_and_runs_are_left_out_and_capitals_and_folders_are_not(tmp_path):
    data = ["A.JPG", "b.Jpeg", "c d/x/1.tiff", "c d/é.png"]
    litter = ["._A.JPG", ".DS_Store", "Thumbs.db", "desktop.ini", "b.jpg~", ".git/a.jpg", "__MACOSX/A.JPG"]
    litter += [f"runs/x/{RUN_MARKER}", "runs/x/pictures/a.png", "notes.txt", "@eaDir/A.JPG", "$RECYCLE.BIN/a.jpg"]
    touch(tmp_path, *data, *litter)
    assert listed(tmp_path) == data
    assert listed(tmp_path, deep=False) == data[:2]
    assert [p.name for p in data_folders(tmp_path)] == ["c d", "runs"]
    assert listed(tmp_path / "runs/x") == ["pictures/a.png"], "a folder that is asked for itself"
    assert data_files(tmp_path / "none", IMAGE_SUFFIXES) == []


def test_links_are_followed_once_and_not_upwards(tmp_path):
    touch(tmp_path, "my/a.jpg", "elsewhere/q.jpg", "elsewhere/deep/r.jpg", "outside.jpg")
    (tmp_path / "my/query").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "my/up").symlink_to(tmp_path)
    (tmp_path / "elsewhere/deep/loop").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "my/broken").symlink_to(tmp_path / "nowhere")
    assert listed(tmp_path / "my") == ["a.jpg", "query/deep/r.jpg", "query/q.jpg"]


def test_a_name_is_found_in_another_unicode_form_or_case(tmp_path):
    touch(tmp_path, "cafe\u0301.JPG", "a.jpg", "x/b.png")  # decomposed, as macOS writes it
    assert find_file(tmp_path, "caf\u00e9.jpg") == tmp_path / "cafe\u0301.JPG"
    assert find_file(tmp_path, "x/B.PNG") == tmp_path / "x/b.png"
    assert find_file(tmp_path, "a.jpg") == tmp_path / "a.jpg"
    assert find_file(tmp_path, "none.jpg") is None
    touch(tmp_path, "A.JPG")
    assert find_file(tmp_path, "a.jpg") == tmp_path / "a.jpg"
    with pytest.raises(ValueError, match=r"a\.JPG may be .*A\.JPG or .*a\.jpg"):
        find_file(tmp_path, "a.JPG")
