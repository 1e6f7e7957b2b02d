from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest

from peftlab.data import indexed_examples
from peftlab.data.indexed_examples import Index, IndexedExamples, LinesOfFile
from peftlab.data.json_lines import JsonLines
from peftlab.data.text_files import lines_of, read_text
from peftlab.errors import DataError


def parsed(lines: bytes, place: int, number: int) -> tuple[str, int, int]:
    return lines.partition(b"\n")[0].decode().removesuffix("\r"), place, number


def index(path: Path) -> IndexedExamples[tuple[str, int, int]]:
    """Index the lines that are not blank."""
    lines, of_file = LinesOfFile(path), Index(path, parsed)
    for line in lines:
        if line.text.strip():
            of_file.add(line.offset, line.number)
    return of_file.examples(lines.state, lines.sha256)


CONTENTS = {
    "plain": b"a\nb\n\n  \nc\xc3\xa9d\n",
    "without a last end": b"a\nb",
    "carriage returns": b"a\r\n\r\nb\r\nc\r\r\n",
    "a byte order mark": b"\xef\xbb\xbfa\nb\n",
    "blank lines at both ends": b"\n\na\n\n\n",
}
WHOLE = {
    "UTF-16": "a\nb\n".encode("utf-16"),
    "one line": b"a",
    "an old Macintosh": b"a\rb\r",
    "nothing": b"",
}


@pytest.mark.parametrize("content", [*CONTENTS.values(), *WHOLE.values()], ids=[*CONTENTS, *WHOLE])
def test_the_lines_are_those_of_the_whole_text(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    lines = LinesOfFile(path)
    assert [(line.number, line.content) for line in lines] == list(enumerate(lines_of(read_text(path)), start=1))
    assert lines.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_each_example_is_read_from_its_place(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    texts = [(text, number) for number, text in enumerate(lines_of(read_text(path)), start=1) if text.strip()]
    expected = [(text, place, number) for place, (text, number) in enumerate(texts)]
    examples = index(path)
    assert len(examples) == len(expected)
    assert list(examples) == expected
    assert [examples[-n] for n in range(1, len(expected) + 1)] == expected[::-1]
    assert list(examples[1:]) == expected[1:]
    assert list(examples[::-1][:2]) == expected[::-1][:2]
    assert examples.sha256 == hashlib.sha256(content).hexdigest()
    with pytest.raises(IndexError):
        examples[len(expected)]


def test_a_byte_that_is_not_utf_8(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\n\nb\xff\n")
    with pytest.raises(DataError, match=r"a\.txt:3: byte 0xff is not UTF-8"):
        index(tmp_path / "a.txt")


def test_files_that_cannot_be_read(tmp_path):
    for path, message in ((tmp_path / "no", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(DataError, match=message):
            index(path)


def test_a_file_that_changes_is_not_read_on(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a\nb\n")
    examples = index(path)
    assert examples[0] == ("a", 0, 1)
    path.write_text("a\nc\n")
    os.utime(path, ns=(1, 1))  # where a clock is coarse
    with pytest.raises(DataError, match=r"a\.txt: the file has changed since this run began to read it"):
        examples[1]


def test_a_file_that_another_replaces_is_read_to_its_end_and_by_no_other_process(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a\nb\n")
    examples = index(path)
    assert pickle.loads(pickle.dumps(examples))[1] == examples[1] == ("b", 1, 2)
    (tmp_path / "b.txt").write_text("c\nd\n")
    (tmp_path / "b.txt").replace(path)
    assert examples[1] == ("b", 1, 2)
    with pytest.raises(DataError, match="has changed"):
        pickle.loads(pickle.dumps(examples))[1]


def test_json_lines_of_a_large_file_are_those_of_a_small_one(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    rows = [
        '{"text": "r\\ud83d", "label": 1, "who": "x ", "then": "é"}',
        "",
        '{"who": 7, "then": "c", "label": true, "text": "t"}',
    ]
    path.write_text("\n".join(rows), encoding="utf-8")
    format = JsonLines(pair="then", group="who")
    held = format.read({"train": path})["train"]
    monkeypatch.setattr(indexed_examples, "HELD", 0)
    examples = format.read({"train": path})["train"]
    assert isinstance(examples, IndexedExamples)
    assert list(examples) == held
    assert held[1].place == f"{path}:3"
    path.write_text(path.read_text() + "\n{}\n")
    with pytest.raises(DataError, match=r"a\.jsonl:4: there is no key 'label'"):
        format.read({"train": path})
