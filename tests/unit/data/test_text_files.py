from __future__ import annotations

import codecs
import io
import os
import socket

import pytest
from pydantic import TypeAdapter, ValidationError

from peftlab.data.text_files import Encoding, lines_from, lines_of, read_text
from peftlab.errors import DataError, SourceError
from peftlab.sources import Fetched
from peftlab.storage.digests import file_sha256


@pytest.fixture
def file(tmp_path):
    def write(content: bytes):
        path = tmp_path / "a.txt"
        path.write_bytes(content)
        return path

    return write


def test_utf_8_with_or_without_a_byte_order_mark(file):
    assert read_text(file("£ und ß\r\n".encode())) == "£ und ß\r\n"
    assert read_text(file(codecs.BOM_UTF8 + b"a")) == "a"


def test_another_encoding(file):
    assert read_text(file("£".encode("cp1252")), "cp1252") == "£"
    assert read_text(file("£".encode("utf-16")), "utf-16") == "£"


def test_the_first_encoding_that_fits(file):
    assert read_text(file("£".encode()), "utf-8", "latin-1") == "£"
    assert read_text(file("£".encode("latin-1")), "utf-8", "latin-1") == "£"
    assert read_text(file(b"\xa3"), "ascii", "utf-8", "latin-1") == "£"


@pytest.mark.parametrize(
    ("encodings", "name"), [((), "UTF-8"), (("utf8",), "UTF-8"), (("ascii", "utf-8"), "ascii")], ids=str
)
def test_none_that_fits(file, encodings, name):
    path = file(b"one\ntwo \xe4\n")
    with pytest.raises(DataError) as error:
        read_text(path, *encodings, advice="Mend it")
    assert str(error.value) == f"{path}:2: byte 0xe4 is not {name}. Mend it."


def test_a_file_that_is_not_there(tmp_path):
    (tmp_path / "train.txt").touch()
    with pytest.raises(DataError, match=r"trian\.txt: no such file\. Did you mean 'train\.txt'\?"):
        read_text(tmp_path / "trian.txt")
    with pytest.raises(DataError, match=r"is a folder, expected a file\. Files in .*: train\.txt\."):
        read_text(tmp_path)


def test_an_encoding_has_to_be_known():
    assert TypeAdapter(Encoding).validate_python("latin-1") == "latin-1"
    with pytest.raises(ValidationError, match="'utf-9' is no encoding that Python knows, such as utf-8"):
        TypeAdapter(Encoding).validate_python("utf-9")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_decides(file, encoding):
    for mark, codec in ((b"", encoding), (codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF32_BE, "utf-32-be")):
        assert read_text(file(mark + "£ ß\nü".encode(codec))) == "£ ß\nü"
    assert read_text(file("£".encode(encoding)), "utf-8", "latin-1") == "£"


def test_utf_16_that_is_cut_or_has_no_mark(file):
    path = file("one\ntwo".encode("utf-16")[:-1])
    with pytest.raises(DataError, match=r"a\.txt:2: byte 0x6f is not UTF-16\."):
        read_text(path)
    with pytest.raises(DataError, match=r"a\.txt: is UTF-16 without a byte order mark, by its NUL bytes\. Mend it\."):
        read_text(file("text,label\na,1\n".encode("utf-16-le")), advice="Mend it")
    assert read_text(file("text".encode("utf-16-le")), "utf-16-le") == "text"
    assert read_text(file(b"a\0b c d e f")) == "a\0b c d e f"


def make_link(path, tmp_path):
    path.symlink_to(tmp_path / "nowhere")


def make_socket(path, tmp_path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path, _: os.mkfifo(path), "a named pipe"),
        (make_socket, "a socket"),
        (lambda path, _: path.symlink_to("/dev/zero"), "a device"),
        (lambda path, _: path.symlink_to("/dev/null"), "a device"),
        (make_link, r"a link to '.*nowhere', where nothing is"),
        (lambda path, _: path.symlink_to(path), r"a link to '.*odd', where nothing is"),
    ],
    ids=["pipe", "socket", "zero", "null", "dangling", "loop"],
)
def test_only_files_are_read(tmp_path, make, kind):
    make(tmp_path / "odd", tmp_path)
    with pytest.raises(DataError, match=f"odd: is {kind}, expected a file"):
        read_text(tmp_path / "odd")
    with pytest.raises(SourceError, match=f"odd' is {kind}"):
        file_sha256(tmp_path / "odd")
    with pytest.raises(SourceError, match=f"odd' is {kind}"):
        Fetched(folder=tmp_path, origin="files").digest("odd")


def test_a_pipe_behind_a_link(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with pytest.raises(DataError, match="link: is a named pipe"):
        read_text(tmp_path / "link")


TEXTS = [
    ("", []),
    ("a", ["a"]),
    ("a\nb\n", ["a", "b"]),
    ("a\r\nb\r\n", ["a", "b"]),
    ("a\rb\r\rc", ["a", "b", "", "c"]),
    ("a\rb\r", ["a", "b"]),
    ("a\rb\nc", ["a\rb", "c"]),
    ("\n\na", ["", "", "a"]),
    ("\ufeffa\n\ufeffb\n", ["a", "\ufeffb"]),
    ("a\u2028b\x85\n", ["a\u2028b\x85"]),
]


@pytest.mark.parametrize(("text", "lines"), TEXTS)
def test_a_stream_has_the_lines_of_the_file(file, text, lines):
    assert lines_of(read_text(file(text.encode()))) == lines
    assert list(lines_from(io.BytesIO(text.encode()), "stdin")) == lines


def test_streams_of_other_encodings():
    for encoding in ("utf-16", "utf-32"):
        assert list(lines_from(io.BytesIO("é\nü\n".encode(encoding)), "stdin")) == ["é", "ü"]


@pytest.mark.parametrize("content", [b"a\nb \xe9\nc\n", b"a\nb \xe9", b"a\nb \xed\xa0\xbd\n"])
def test_a_stream_that_is_not_utf_8_names_the_line(content):
    with pytest.raises(DataError, match=r"^stdin:2: byte 0xe[9d] is not UTF-8\. "):
        list(lines_from(io.BytesIO(content), "stdin"))


@pytest.mark.parametrize("encoding", ["hex", "rot13", "base64", "undefined", "zlib"])
def test_an_encoding_has_to_be_one_of_texts(encoding):
    with pytest.raises(ValidationError, match=f"'{encoding}' is no encoding that Python knows"):
        TypeAdapter(Encoding).validate_python(encoding)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "cp1252", "utf-8-sig", "gb18030", "shift_jis"])
def test_encodings_of_any_width_are_known(encoding):
    assert TypeAdapter(Encoding).validate_python(encoding) == encoding
