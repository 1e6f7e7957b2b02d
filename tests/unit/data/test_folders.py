from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from peftlab.data.folders import Folders
from peftlab.data.spec import takes_folders
from peftlab.errors import DataError
from peftlab.reading.unicode_text import Door
from peftlab.storage.digests import folder_sha256


@pytest.fixture
def read(tmp_path: Path):
    """Write files, by their names in a folder, and read that folder as the training split."""

    def write_and_read(files: dict[str, str | bytes], **options):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Folders(**options).read({"train": tmp_path})["train"]

    return write_and_read


def test_a_folder_by_hand(read, tmp_path):
    files = {"b/2.txt": "two\n", "b/1.txt": "one", "a/3.txt": "\nthree\n\nlines", "c/.hidden.txt": "no", "c/d.md": "no"}
    texts = read(files | {".git/1.txt": "no", "README.txt": "no", "a/sub/1.txt": "no"})
    assert [(text.id, text.text, text.label) for text in texts] == [
        ("train:0", "three\n\nlines", "a"),
        ("train:1", "one", "b"),
        ("train:2", "two", "b"),
    ]
    assert texts[0].place == str(tmp_path / "a" / "3.txt")
    assert takes_folders(Folders(), Path())


def test_another_suffix(read):
    assert [text.text for text in read({"a/1.md": "yes", "a/1.txt": "no"}, suffix=".md")] == ["yes"]


def test_the_first_encoding_that_fits(read):
    texts = read({"a/1.txt": "£", "a/2.txt": "£".encode("latin-1")}, encodings=["utf-8", "latin-1"])
    assert [text.text for text in texts] == ["£", "£"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a/1.txt": b"one\n\xff"},
            "/a/1.txt:2: byte 0xff is not UTF-8. Save the file as UTF-8, or name its encoding too, "
            "data.format.encodings=[utf-8,latin-1] for instance.",
        ),
        ({"a/1.txt": " \n"}, "/a/1.txt: the text is empty. Write one, or remove the file."),
        (
            {"1.txt": "one", "a/1.md": "two"},
            ": empty split 'train': no folder in it holds a file *.txt. Expected a folder for each class, with a file "
            "for each text; set data.format.suffix to how their names end.",
        ),
    ],
)
def test_mistakes(read, tmp_path, files, message):
    with pytest.raises(DataError) as error:
        read(files)
    assert str(error.value) == f"{tmp_path}{message}"


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"a\.txt: is not a folder; expected one that holds a folder for each class\."):
        Folders().read({"train": tmp_path / "a.txt"})


def test_an_encoding_is_needed():
    with pytest.raises(ValidationError):
        Folders(encodings=[])


def test_what_is_left_out_is_told_and_counted(read, tmp_path, caplog):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "gone.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "a" / "pipe.txt")
    (tmp_path / "gone").symlink_to("nowhere")
    with caplog.at_level("INFO", logger="peftlab"):
        texts = read({"a/1.txt": "yes", "a/2.md": "no", "b/3.md": "no", "a/c/4.txt": "no", "README": "no", ".x": "no"})
    assert [text.text for text in texts] == ["yes"]
    assert texts.counts == {"left_out": 8}
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: left out: 1 x a class without a text (b), 1 x a file beside the classes, 2 x a file not called "
        "*.txt, 1 x a folder within a class, 2 x a link to where nothing is, 1 x a named pipe"
    ]


def test_where_nothing_is_left_out_nothing_is_said(read, caplog):
    with caplog.at_level("INFO", logger="peftlab"):
        assert read({"a/1.txt": "yes", "b/1.txt": "yes", "b/.hidden": "no"}).counts == {}
    assert not caplog.records


def test_a_suffix_of_any_characters(read):
    assert len(read({"a/1.txt": "yes"}, suffix="**")) == 1
    assert len(read({"a/1.txt": "yes"}, suffix="")) == 1


def test_names_that_are_no_utf_8(tmp_path):
    os.makedirs(os.fsencode(tmp_path) + b"/caf\xe9")
    with open(os.fsencode(tmp_path) + b"/caf\xe9/\xff.txt", "w") as file:
        file.write("one")
    (text,) = Folders().read({"train": tmp_path})["train"]
    assert text.mapped(Door()).label == "caf\ufffd"
    before = folder_sha256(tmp_path)
    (tmp_path / "caf\udce9" / "\udcff.txt").rename(tmp_path / "caf\udce9" / "\udcfe.txt")
    assert folder_sha256(tmp_path) != before
