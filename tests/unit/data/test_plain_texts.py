"""Plain text files: what a text is, and that a large file is read as a small one."""

from __future__ import annotations

import pickle

import pytest

from peftlab.data import indexed_examples
from peftlab.data.plain_texts import PlainTexts
from peftlab.errors import DataError

CONTENT = "\ufefffirst line \r\n second\n\n\n  \nthird, of a\nparagraph\n\nlast"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(CONTENT.encode())
    return path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [("first line", 1), ("second", 2), ("third, of a", 6), ("paragraph", 7), ("last", 9)]),
        ({"unit": "paragraph"}, [("first line\nsecond", 1), ("third, of a\nparagraph", 6), ("last", 9)]),
        ({"characters": 17}, [("first line\nsecond", 1), ("third, of a", 6), ("paragraph\nlast", 7)]),
        ({"characters": 1}, [("first line", 1), ("second", 2), ("third, of a", 6), ("paragraph", 7), ("last", 9)]),
        ({"characters": 1000}, [("first line\nsecond\nthird, of a\nparagraph\nlast", 1)]),
        (
            {"unit": "paragraph", "characters": 30},  # the first line of the second paragraph would still fit
            [("first line\nsecond", 1), ("third, of a\nparagraph\nlast", 6)],
        ),
        ({"unit": "paragraph", "characters": 39}, [("first line\nsecond\nthird, of a\nparagraph", 1), ("last", 9)]),
        (
            {"unit": "paragraph", "characters": 9},  # fewer than any has
            [("first line\nsecond", 1), ("third, of a\nparagraph", 6), ("last", 9)],
        ),
    ],
)
@pytest.mark.parametrize("held", [2**25, 10])
def test_texts_and_their_lines(file, monkeypatch, options, expected, held):
    monkeypatch.setattr(indexed_examples, "HELD", held)
    texts = PlainTexts(**options).read({"train": file})["train"]
    assert isinstance(texts, list) == (held > 10)
    for members in (texts, pickle.loads(pickle.dumps(texts))):
        assert [(one.text, one.line) for one in members] == expected
    assert [one.id for one in texts] == [f"train:{n}" for n in range(len(expected))]
    assert {(one.label, one.file) for one in texts} == {(None, str(file))}


@pytest.mark.parametrize("content", [b"", b"\n \n\r\n"])
def test_a_file_without_a_text_is_refused(tmp_path, content):
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.txt: empty split 'train': the file holds no text"):
        PlainTexts().read({"train": tmp_path / "train.txt"})


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"good\nb\xe4d\n")
    with pytest.raises(DataError, match=r"train\.txt:2: byte 0xe4 is not UTF-8"):
        PlainTexts().read({"train": tmp_path / "train.txt"})
