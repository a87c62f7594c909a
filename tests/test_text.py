"""Text files of every system are read alike; what cannot be read is named with its line."""

import pytest

from lightning_fewshot.text import fields, read_json, read_lines, read_xml, read_yaml

LINES = [(1, "1 cup"), (4, "2 pän")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_line_ends_marks_blank_lines_and_comments_make_no_difference(tmp_path, end, encoding):
    text = end.join(["1 cup  ", "", "# a comment", "\t2 pän", "", ""])
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    assert read_lines(tmp_path / "a.txt") == LINES


def test_another_encoding_is_named_with_its_line(tmp_path):
    (tmp_path / "a.txt").write_bytes("1 cup\n2 pän\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt line 2 is not in UTF-8"):
        read_lines(tmp_path / "a.txt")


@pytest.mark.parametrize("line", ["1 2 3.5", "1,2,3.5", "1, 2, 3.5,", "1\t2\t3.5", "1;2; 3.5", " 1  2 ,3.5 "])
def test_every_separator_separates(line):
    assert fields(line) == ["1", "2", "3.5"]


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("a.json", '{"a": 1,\n "b": }', read_json),
        ("b.json", "[" * 100000, read_json),
        ("c.json", "9" * 10000, read_json),
        ("a.yaml", "names: [a\nb: c", read_yaml),
        ("a.xml", "<annotation>\n<size>", read_xml),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, text, read):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name) as error:
        read(tmp_path / name)
    assert ("line 2" in str(error.value)) == ("\n" in text)
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        read(tmp_path / "none.txt")


def test_xml_is_read_in_the_encoding_that_it_declares(tmp_path):
    text = '<?xml version="1.0" encoding="ISO-8859-1"?><a>pän</a>'
    (tmp_path / "a.xml").write_bytes(text.encode("latin-1"))
    assert read_xml(tmp_path / "a.xml").text == "pän"
    (tmp_path / "b.xml").write_bytes("<a>pän</a>".encode("utf-8-sig"))
    assert read_xml(tmp_path / "b.xml").text == "pän"
