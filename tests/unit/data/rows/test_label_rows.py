"""Rows with label sets and numbers: in every form that they may be written in."""

from __future__ import annotations

import json

import pytest

from peftlab.data.rows.numbers import NumberRows
from peftlab.data.rows.row_files import RowFiles
from peftlab.data.rows.row_reader import Place
from peftlab.data.rows.sentences import SentenceRows
from peftlab.data.rows.several_labels import SeveralLabelRows
from peftlab.data.rows.texts import TextRows
from peftlab.data.rows.utterances import UtteranceRows
from peftlab.errors import DataError
from peftlab.tasks.inputs.several_labels import LabelledText
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.regression import number_of

PLACE = Place("f.jsonl", 3)


def labels_of(row, **options):
    return SeveralLabelRows(**options).example_of({"text": "a", **row}, "train:0", PLACE).labels


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["love", " joy ", "love"], ("joy", "love")),
        ([], ()),
        ([3, True], ("3", "true")),
        ("love, joy,", ("joy", "love")),
        ("", ()),
        (None, ()),  # an empty cell of CSV
        ("['love', \"j'oy\"]", ("j'oy", "love")),  # as pandas writes a list
        ('["love","joy"] ', ("joy", "love")),
        ("['love','joy']", ("joy", "love")),
        ("[3, 4]", ("3", "4")),
        ("[]", ()),
    ],
)
def test_label_sets_in_one_column(value, expected):
    assert labels_of({"labels": value}) == expected


def test_another_separator():
    assert labels_of({"labels": "a, b|c"}, separator="|") == ("a, b", "c")


@pytest.mark.parametrize(("yes", "no"), [(1, 0), (True, False), ("1", "0"), ("TRUE", "False"), (1.0, "0.0")])
def test_a_column_for_each_label(yes, no):
    assert labels_of({"joy": yes, "love": no, "hate": yes}, labels=["love", "joy", "hate"]) == ("hate", "joy")


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({}, {}, r"f\.jsonl:3: there is no column 'labels'"),
        ({"labels": [1.5]}, {}, r"f\.jsonl:3: 'labels\[0\]' is 1\.5; expected a text or a whole number"),
        ({"labels": {"joy": 1}}, {}, r"f\.jsonl:3: 'labels' is .*; expected a list of names"),
        ({"labels": "[love, joy]"}, {}, r"f\.jsonl:3: 'labels' is '\[love, joy\]', which is no list"),
        ({"labels": "['love' 'joy']"}, {}, r"'labels' is .*, which is no list"),  # as NumPy writes an array
        ({"labels": "[1.5]"}, {}, r"'labels\[0\]' is 1\.5; expected a text or a whole number"),
        ({"joy": 2}, {"labels": ["joy"]}, r"f\.jsonl:3: 'joy' is 2; expected 1 or 0, true or false"),
        ({"joy": None}, {"labels": ["joy"]}, r"f\.jsonl:3: 'joy' is None; expected 1 or 0"),
        ({"joy": 1}, {"labels": ["joy", "love"]}, r"no column 'love'.*data\.format\.rows\.labels\[1\]"),
    ],
)
def test_what_is_no_label_set_is_refused(row, options, message):
    with pytest.raises(DataError, match=message):
        labels_of(row, **options)


def test_files_of_label_sets_and_of_numbers(tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps({"a": "x", "b": "y", "l": ["joy"], "n": 0.1, "d": 7}) + "\n")
    of_labels = RowFiles(rows=SeveralLabelRows(text="a", labels="l", pair="b", group="d"))
    assert of_labels.read({"train": file})["train"] == [LabelledText("train:0", "x", ("joy",), "y", str(file), 1, "7")]
    of_numbers = RowFiles(rows=NumberRows(text="a", label="n", pair="b", group="d"))
    (text,) = of_numbers.read({"train": file})["train"]
    assert text == Text("train:0", "x", "0.1", "y", str(file), 1, "7")
    assert number_of(text) == 0.1


def test_what_is_no_number_is_refused():
    with pytest.raises(DataError, match=r"f\.jsonl:3: 'label' is \"high\"; expected a finite number"):
        NumberRows().example_of({"text": "a", "label": "high"}, "train:0", PLACE)


@pytest.mark.parametrize("rows", [TextRows, NumberRows, SeveralLabelRows, SentenceRows, UtteranceRows])
def test_weights(rows):
    row = {"text": "a", "label": 1, "labels": [], "tokens": ["a"], "ner_tags": ["O"], "words": ["a"], "tags": ["O"]}
    row |= {"intent": "i", "w": 0.5, "none": None, "zero": 0}
    weights = [
        rows(weight=column).example_of(row, "train:0", PLACE).weight for column in ("w", "none", "missing", None)
    ]
    assert weights == [0.5, None, None, None]
    with pytest.raises(DataError, match="'zero' is 0; expected a number above 0"):
        rows(weight="zero").example_of(row, "train:0", PLACE)
