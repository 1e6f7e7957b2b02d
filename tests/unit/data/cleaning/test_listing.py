from __future__ import annotations

import csv
from pathlib import Path

import pytest

from peftlab.data.cleaning.finding import Finding
from peftlab.data.cleaning.listing import COLUMNS, listed, rows_of, text_of
from peftlab.errors import DataError

FINDINGS = [
    Finding("train", "train:3", "label error", "a, b\nc", "x", "y", 0.1234567891),
    Finding("train", "train:1", "label error", "=1+1", "x", "y", 0.5),
    Finding("train", "train:2", "duplicate", "text", "x", note="the same as train:0"),
    Finding("test", "test:0", "label error", "text", "x", "y", 0.0),
]
IDS = {"train:1": "train", "train:2": "train", "train:3": "train", "test:0": "test"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "errors.csv"
    path.write_text(text_of(FINDINGS), encoding="utf-8")
    return path


def test_a_spreadsheet_reads_it(file):
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS == tuple(rows_of(FINDINGS)[0])
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert (rows[0]["text"], rows[0]["score"], rows[1]["text"], rows[2]["score"]) == (
        "a, b\nc",
        "0.123457",
        "'=1+1",
        "",
    )


def test_a_run_reads_it_again(file):
    assert listed(file, IDS) == ["train:3", "train:1"]
    assert listed(file, IDS, split="test") == ["test:0"]


def test_rows_may_be_removed_and_a_mark_of_the_byte_order_added(file):
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("\ufeff" + "".join([lines[0], *lines[3:]]))
    assert listed(file, IDS) == ["train:1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\n1,a\n", "has no column reason, split. Name a list of `peftlab clean --csv`"),
        ("split,id,reason\ntrain,train:9,label error\n", "errors.csv:2: the data set has no example 'train:9'"),
        ("split,id,reason\ntest,test:0,label error\n", "has no row of the train split with the reason 'label error'"),
        ("split,id,reason\ntrain,\xff,label error\n", "cannot be read as CSV in UTF-8"),
        (None, "cannot be read as CSV in UTF-8"),
    ],
)
def test_what_is_no_such_list(file, content, message):
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError) as error:
        listed(file, IDS)
    assert message in str(error.value)
