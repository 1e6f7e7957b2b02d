"""Parallel files: texts, their tags and their labels, and what is said of files that are not parallel."""

from __future__ import annotations

import pytest

from peftlab.data.parallel import Parallel
from peftlab.errors import DataError
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.utterances import Utterance

FILES = {"seq.in": "play me rock\nstop \n", "seq.out": "O O B-genre\nO\n", "label": "play\r\nstop"}


@pytest.fixture
def read(tmp_path):
    def make(files=(), **options):
        for name, content in {**FILES, **dict(files)}.items():
            (tmp_path / name).write_bytes(content.encode())
        return Parallel(**options).read({"train": tmp_path})["train"]

    return make


def test_utterances(read, tmp_path):
    file = str(tmp_path / "seq.in")
    assert read() == [
        Utterance("train:0", ["play", "me", "rock"], ["O", "O", "B-genre"], file, [1, 1, 1], intent="play"),
        Utterance("train:1", ["stop"], ["O"], file, [2], intent="stop"),
    ]


def test_texts_with_a_label(read, tmp_path):
    file = str(tmp_path / "seq.in")
    assert read(tags=None) == [
        Text("train:0", "play me rock", "play", file=file, line=1),
        Text("train:1", "stop", "stop", file=file, line=2),
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"label": "play\n"}, r"label:2: the file has 1 lines, and seq\.in has 2"),
        ({"seq.out": "O O O\nO\nO\n"}, r"seq\.out:3: the file has 3 lines, and seq\.in has 2"),
        ({"seq.in": "play me rock\n\n"}, r"seq\.in:2: the line is empty"),
        ({"label": "\nstop\n"}, "label:1: the line is empty"),
        ({"seq.out": "O B-genre\nO\n"}, r"seq\.out:1: 2 tags, and seq\.in has 3 words there"),
        ({"seq.out": "O O genre\nO\n"}, r"seq\.out:1: .*genre"),
        ({"seq.out": "O I-genre O\nO\n"}, r"seq\.out:1: tag 2: "),
        (dict.fromkeys(FILES, ""), r"seq\.in: empty split 'train'"),
        ({"label": "play\nst\udce4p\n".encode("utf-8", "surrogateescape").decode("latin-1")}, None),
    ],
)
def test_files_that_are_not_parallel(read, files, message):
    if message is None:
        assert len(read(files)) == 2
        return
    with pytest.raises(DataError, match=message):
        read(files)


def test_a_missing_file_is_named(tmp_path):
    (tmp_path / "seq.in").write_text("a\n")
    with pytest.raises(DataError, match=r"label: no such file"):
        Parallel().read({"train": tmp_path})
