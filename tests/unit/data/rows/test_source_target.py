"""Rows with sources and targets."""

from __future__ import annotations

import pytest

from peftlab.data.form import form_of
from peftlab.data.rows.row_files import RowFiles
from peftlab.data.rows.source_target import SourceTargetRows
from peftlab.errors import DataError
from peftlab.tasks.inputs.source_target import SourceTarget


def read(folder, name, text, **columns):
    (folder / name).write_text(text, encoding="utf-8")
    return list(RowFiles(rows=SourceTargetRows(**columns)).read({"train": folder / name})["train"])


def test_rows_of_json_and_of_tables(tmp_path):
    lines = '{"translation": {"en": "a river", "zh": "河"}, "book": 3}\n'
    columns = {"source": "translation.en", "target": "translation.zh", "group": "book"}
    (one,) = read(tmp_path, "a.jsonl", lines, **columns)
    assert one == SourceTarget("train:0", "a river", "河", str(tmp_path / "a.jsonl"), 1, "3")
    assert one.mapped(str.upper).source == "A RIVER"
    (two,) = read(tmp_path, "a.csv", 'source,target\n"a, b","c\nd"\n')
    assert (two.source, two.target, two.place) == ("a, b", "c\nd", f"{tmp_path / 'a.csv'}:2")
    assert form_of(RowFiles(rows=SourceTargetRows(source="en"))).usual({"en": "a"})["text"] == "a"


def test_bad_rows_are_named(tmp_path):
    for line, message in (
        ('{"source": "a"}', r"a.jsonl:1: there is no column 'target'"),
        ('{"source": "a", "target": " "}', r"a.jsonl:1: 'target' is \" \"; expected a text"),
        ('{"source": 7, "target": "b"}', r"a.jsonl:1: 'source' is 7; expected a text"),
    ):
        with pytest.raises(DataError, match=message):
            read(tmp_path, "a.jsonl", line + "\n")
