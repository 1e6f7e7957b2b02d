"""Rows of any container: what is read is the same in all, small and large, whole and in parts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from peftlab.data import indexed_examples
from peftlab.data.rows.row_files import RowFiles
from peftlab.data.rows.sentences import SentenceRows
from peftlab.data.rows.texts import TextRows
from peftlab.data.views import View
from peftlab.errors import DataError
from peftlab.tasks.texts import Text

ROWS = [
    {"title": "Über uns\n", "topic": 3, "who": "a", "unused": None},
    {"title": "a\u2028b", "topic": True, "who": "b", "unused": [1]},
    {"title": " x", "topic": " yes ", "who": "b", "unused": {"k": 2**80}},
]
FORMAT = RowFiles(rows=TextRows(text="title", label="topic", group="who"))


def write_lines(path: Path, rows=ROWS) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_by_hand(tmp_path):
    path = write_lines(tmp_path / "a.jsonl")
    assert FORMAT.read({"train": path})["train"] == [
        Text("train:0", "Über uns\n", "3", None, str(path), 1, "a"),
        Text("train:1", "a\u2028b", "true", None, str(path), 2, "b"),
        Text("train:2", " x", "yes", None, str(path), 3, "b"),
    ]


@pytest.mark.parametrize("held", [2**25, 0])
def test_files_of_a_folder_or_a_pattern_are_one_split(tmp_path, monkeypatch, held):
    monkeypatch.setattr(indexed_examples, "HELD", held)
    write_lines(tmp_path / "parts" / "b.ndjson", ROWS[1:])
    write_lines(tmp_path / "parts" / "a.jsonl", ROWS[:1])
    (tmp_path / "parts" / "README.md").write_text("no rows")
    (tmp_path / "parts" / ".c.jsonl").write_text("no rows")
    write_lines(tmp_path / "whole.jsonl")
    (whole,) = FORMAT.read({"test": tmp_path / "whole.jsonl"}).values()
    for path in (tmp_path / "parts", tmp_path / "parts" / "*.*js*"):
        (parts,) = FORMAT.read({"test": path}).values()
        assert isinstance(parts, View) == (not held)
        assert [(each.id, each.text, each.label) for each in parts] == [
            (each.id, each.text, each.label) for each in whole
        ]
        assert parts[2].place == f"{tmp_path}/parts/b.ndjson:2"
        assert pickle.loads(pickle.dumps(parts))[1] == parts[1]
        with pytest.raises(IndexError):
            parts[3]


def test_sentences(tmp_path):
    rows = RowFiles(rows=SentenceRows())
    good = {"tokens": ["Ada", "left"], "ner_tags": ["B-PER", "O"]}
    (split,) = rows.read({"train": write_lines(tmp_path / "a.jsonl", [good])}).values()
    assert (split[0].words, split[0].tags, split[0].place) == (["Ada", "left"], ["B-PER", "O"], f"{tmp_path}/a.jsonl:1")
    for change, message in [
        ({"ner_tags": ["O"]}, "'tokens' has 2 words, and 'ner_tags' 1 tags"),
        ({"ner_tags": ["O", "I-PER"]}, r"'ner_tags\[1\]': .*I-PER"),
        ({"ner_tags": ["O", "PERSON"]}, r"'ner_tags\[1\]': .*PERSON"),
        ({"tokens": [], "ner_tags": []}, "'tokens' is empty"),
        ({"tokens": "Ada left"}, ".*expected a list of texts"),
    ]:
        with pytest.raises(DataError, match=rf"a\.jsonl:2: {message}"):
            rows.read({"train": write_lines(tmp_path / "a.jsonl", [good, good | change])})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            "",
            r"a\.jsonl: empty split 'train': it holds no row\. Expected rows with the columns",
        ),
        ("a.jsonl", '{"title": "a"}\n', r"a\.jsonl:1: there is no column 'topic'"),
        ("a.jsonl", "\n[1]\n", r"a\.jsonl:2: is not a JSON object\. Write one a line, with 'title', 'topic', 'who'"),
        ("a.txt", "x", r"a\.txt: what kind of file is it\? Its name ends with none of \.jsonl"),
        ("b/a.txt", "x", r"b: there is no file of rows: none ends with \.jsonl"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        FORMAT.read({"train": tmp_path / name.split("/")[0]})
    with pytest.raises(DataError, match="no such file"):
        FORMAT.read({"train": tmp_path / "c.jsonl"})
