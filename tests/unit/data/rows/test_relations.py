"""Rows with two entities in a text."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from peftlab.data.rows.relations import RelationRows
from peftlab.data.rows.row_reader import Place
from peftlab.errors import DataError

HERE = Place("a.jsonl", 7)


def test_entities_are_marked_or_in_columns():
    marked = RelationRows(group="doc").example_of(
        {"text": "<e1>Ada</e1> in <e2>Rome</e2>", "label": "in(e1,e2)", "doc": 3}, "train:0", HERE
    )
    places = RelationRows(head="h", tail="t.at", group="doc")
    row = {"text": "Ada in Rome", "h": [0, 3], "t": {"at": [7, 11]}, "label": "in(e1,e2)", "doc": 3}
    assert places.example_of(row, "train:0", HERE) == marked
    assert (marked.place, marked.group) == ("a.jsonl:7", "3")


@pytest.mark.parametrize(
    ("rows", "row", "message"),
    [
        ({}, {"text": "Ada", "label": "a"}, r"a.jsonl:7: 'text': it lacks <e1>. Mark the entities as <e1>"),
        (
            {"head": "h", "tail": "t"},
            {"text": "Ada", "label": "a", "h": [0], "t": [0, 1]},
            "'h' has 1 numbers; expected two",
        ),
        (
            {"head": "h", "tail": "t"},
            {"text": "Ada", "label": "a", "h": [0, 9], "t": [0, 1]},
            "its head, characters 0 to 9",
        ),
        (
            {"head": "h", "tail": "t"},
            {"text": "Ada", "label": "a", "h": "x", "t": [0, 1]},
            "expected a list of whole numbers",
        ),
    ],
)
def test_faults_are_named(rows, row, message):
    with pytest.raises(DataError, match=message):
        RelationRows(**rows).example_of(row, "train:0", HERE)


def test_one_column_alone_says_nothing():
    with pytest.raises(ValidationError, match="name both columns, or neither"):
        RelationRows(head="h")
