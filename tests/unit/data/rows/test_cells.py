from __future__ import annotations

import pytest

from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place
from peftlab.errors import DataError

HERE = Place("a.jsonl", 7)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("value", None, None),
        ("string", "", ""),
        ("text", " a ", " a "),
        ("name", " a ", "a"),
        ("name", 2**70, str(2**70)),
        ("name", True, "true"),
        ("number", "1.5", 1.5),
        ("number", -2, -2.0),
        ("integer", "12", 12),
        ("integer", 2.0, 2),
        ("texts", ["a", "b"], ["a", "b"]),
        ("names", ["a", 1, False], ["a", "1", "false"]),
        ("integers", [], []),
    ],
)
def test_a_value_of_its_kind(kind, value, expected):
    assert getattr(cells, kind)({"x": value}, "x", "text", HERE) == expected


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("string", None, "'x' is null; expected a text"),
        ("text", " \n", r"'x' is \" \\n\"; expected a text"),
        ("text", ["a"], "expected a text"),
        ("text", b"a", "is \"bytes b'a'\"; expected a text"),
        ("name", 1.0, r'a text or a whole number. Write it as a text, "1.0"'),
        ("name", " ", "a text or a whole number. Mend or remove the row"),
        ("number", "nan", "a finite number"),
        ("number", True, "a finite number"),
        ("number", "1,5", 'is "1,5"; expected a finite number'),
        ("number", 10**400, "a finite number"),
        ("number", "1_5", 'is "1_5"; expected a finite number'),
        ("integer", "1_5", 'is "1_5"; expected a whole number'),
        ("integer", 1.5, "a whole number"),
        ("integer", 1e300, "a whole number"),
        ("integer", None, "a whole number"),
        ("texts", "a", 'is "a"; expected a list of texts'),
        ("texts", ["a", ""], r"'x\[1\]' is \"\"; expected a text"),
        ("names", [None], r"'x\[0\]' is null"),
        ("integers", [1, "b"], r"'x\[1\]' is \"b\""),
    ],
)
def test_another_value_is_refused_with_its_place(kind, value, message):
    with pytest.raises(DataError, match=rf"^a\.jsonl:7: .*{message}"):
        getattr(cells, kind)({"x": value}, "x", "text", HERE)


def test_names_with_dots_lead_into_nested_columns():
    row = {"answers": {"text": ["a"], "start": {"of": 3}}, "answers.id": "flat"}
    assert cells.texts(row, "answers.text", "answers", HERE) == ["a"]
    assert cells.integer(row, "answers.start.of", "start", HERE) == 3
    assert cells.text(row, "answers.id", "id", HERE) == "flat"
    assert cells.text(row, "answers.text.0", "answers", HERE) == "a"
    for column, message in {
        "answer.text": "no column 'answer'. Did you mean 'answers'",
        "answers.texts": "no column 'answers.texts'. Did you mean 'text'.*Columns: text, start. Set data",
        "answers.text.1": "no column 'answers.text.1'",
        "answers.text.of": r"'answers.text' is \[\"a\"\]; expected named columns within it",
    }.items():
        with pytest.raises(DataError, match=message):
            cells.value(row, column, "k", HERE)


def test_a_long_value_is_not_quoted_whole():
    with pytest.raises(DataError) as error:
        cells.number({"x": "a" * 10_000}, "x", "x", HERE)
    assert len(str(error.value)) < 500
