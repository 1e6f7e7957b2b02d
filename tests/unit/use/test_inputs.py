"""Texts and objects from files and streams: each line is one, or an error in its place."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

import pytest

from peftlab.errors import DataError
from peftlab.use.inputs import _Ahead, objects
from peftlab.use.inputs import lines as lines_in


@pytest.fixture
def stdin(monkeypatch):
    """Give the process these bytes, read as a locale without UTF-8 has them."""

    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii", errors="strict"))

    return give


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"Oslo\nRome\n", ["Oslo", "Rome"]),
        (b"\xef\xbb\xbfOslo\r\nRome", ["Oslo", "Rome"]),
        ("Zürich\n\n東京\n".encode(), ["Zürich", "", "東京"]),
        (b"Oslo\rRome\r", ["Oslo", "Rome"]),
        (b"a\rb\nc\n", ["a\rb", "c"]),
        ("Oslo\nRome\n".encode("utf-16"), ["Oslo", "Rome"]),
        (b"", []),
    ],
)
def test_stdin_has_the_lines_of_a_file(stdin, tmp_path, content, lines):
    stdin(content)
    (tmp_path / "texts").write_bytes(content)
    assert list(lines_in("-")) == list(lines_in("texts")) == lines


@pytest.mark.parametrize("content", [b"Oslo \xe9\n", b"Oslo \xe9", b"Oslo \xc3\n"])
def test_bytes_that_are_not_utf_8_are_told_alike(stdin, tmp_path, content):
    stdin(b"Rome\n" + content)
    (tmp_path / "texts").write_bytes(b"Rome\n" + content)
    for name, shown in (("-", "stdin"), ("texts", "texts")):
        first, second = lines_in(name)
        assert first == "Rome"
        assert re.match(rf"{shown}:2: byte 0x(e9|c3) is not UTF-8\. Save the file as UTF-8\.$", str(second))


def test_the_lines_after_a_bad_one_are_read(tmp_path):
    Path("texts").write_bytes(b"Rome\nOslo \xe9\nBern\n")
    assert [str(line) for line in lines_in("texts")][::2] == ["Rome", "Bern"]
    content = b'{"text": "a"}\n{\n"text": "b"\n}\n\xff\n{"text": "c"}\n'
    Path("objects").write_bytes(content)
    found = list(objects("objects"))
    assert [isinstance(one, DataError) for one in found] == [False, True, True, True, True, False]
    assert (found[0], found[-1]) == ({"text": "a"}, {"text": "c"})
    assert "goes over 3 lines" in str(found[1])
    assert [str(one).partition(": ")[0] for one in found[1:-1]] == [f"objects:{number}" for number in range(2, 6)]


def test_lines_are_read_ahead_once_and_only_behind_one_that_breaks_off(stdin, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(_Ahead, "following", lambda self: map(pytest.fail, ["it may not be there yet"]))
        stdin(b'no JSON\n{"text": "a"} x\n{"text": "b"}\n')
        assert [isinstance(one, DataError) for one in objects("-")] == [True, True, False]
    Path("objects").write_text('{\n"text": "a"}\n' * 3)
    assert ["goes over 2 lines" in str(one) for one in objects("objects")] == [True, *[False] * 5]


def test_a_pipe_is_read_where_somebody_writes_into_it_and_refused_where_nobody_may(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    Path("link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(DataError, match=f"^{name}: is a named pipe. Name a file, or - for stdin.$"):
            list(lines_in(name))
    read, write = os.pipe()
    os.write(write, b"Oslo\n")
    os.close(write)
    assert list(lines_in(f"/dev/fd/{read}")) == ["Oslo"]
    os.close(read)


def test_a_link_to_nowhere_and_a_folder(tmp_path):
    Path("gone").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"^gone: is a link to 'nowhere', where nothing is"):
        list(lines_in("gone"))
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        list(lines_in(str(tmp_path)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"} {"text": "b"}', "more than one value in it"),
        ('{"text": "a",\n"n": 1}', "goes over 2 lines"),
        ('{"text": "a", "text": "b"}', "the key 'text' appears twice"),
        ('[{"text": "a"}]', "is an array of 1 objects"),
        ('"a"', 'is not a JSON object. Write one a line, such as {"text": ...}.'),
        ("a", "is not JSON"),
    ],
)
def test_objects_are_read_as_those_of_data_are(stdin, content, message):
    stdin(f'\n{{"text": "before"}}\n{content}\n'.lstrip().encode())
    error = list(objects("-"))[1]
    assert str(error).startswith("stdin:2: ")
    assert message in str(error)
