from __future__ import annotations

import codecs

import pytest
from pydantic import TypeAdapter, ValidationError

from peftlab.data.text_files import Encoding, read_text
from peftlab.errors import DataError


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
