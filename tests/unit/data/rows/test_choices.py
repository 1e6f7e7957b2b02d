"""Rows with a question and its choices: every way of saying which is right, and what is said of one that does not."""

from __future__ import annotations

import json

import pytest

from peftlab.data.rows.choices import ChoiceRows
from peftlab.data.rows.row_files import RowFiles
from peftlab.data.rows.row_reader import Place
from peftlab.errors import DataError
from peftlab.tasks.inputs.choices import Choices

HERE = Place("a.jsonl", 7)
ROW = {"question": "to where", "choices": ["paris", "rome", "2"], "answer": 2}


def read(row, **options):
    return ChoiceRows(**options).example_of(row, "train:0", HERE)


@pytest.mark.parametrize(
    ("answer_is", "answer", "position"),
    [
        ("index", 2, 2),
        ("index", "0", 0),
        ("number", 2, 1),
        ("letter", "c", 2),
        ("letter", "A", 0),
        ("text", "2", 2),
        ("text", "rome", 1),
    ],
)
def test_which_choice_is_right(answer_is, answer, position):
    found = read(ROW | {"answer": answer}, answer_is=answer_is)
    assert found == Choices("train:0", ("paris", "rome", "2"), position, None, "to where", "a.jsonl", 7)


@pytest.mark.parametrize(
    ("answer_is", "answer", "message"),
    [
        ("index", 3, "'answer' is '3'; expected a whole number from 0 to 2. Mend the row, or set data.format"),
        ("index", -1, "'answer' is '-1'; expected a whole number from 0 to 2"),
        ("number", 0, "expected a whole number from 1 to 3"),
        ("index", "B", "expected a whole number.*Or set data.format.rows.answer_is=letter or text"),
        ("index", None, "expected a whole number"),
        ("letter", "D", "expected a letter from A to C"),
        ("letter", "AB", "expected a letter from A to C"),
        ("text", "london", "expected the text of exactly one of its choices"),
    ],
)
def test_an_answer_that_is_no_choice(answer_is, answer, message):
    with pytest.raises(DataError, match=rf"^a\.jsonl:7: .*{message}"):
        read(ROW | {"answer": answer}, answer_is=answer_is)


def test_columns_with_a_choice_each_of_which_the_last_may_be_empty():
    row = {"sent": "maria moved", "ending0": "to rome", "ending1": "away", "ending2": "", "label": "1", "id": None}
    columns = ["ending0", "ending1", "ending2"]
    options = {"choices": columns, "answer": "label", "question": None, "context": "sent"}
    found = read(row, **options)
    assert (found.context, found.question, found.choices, found.answer) == ("maria moved", None, ("to rome", "away"), 1)
    assert [*ChoiceRows(**options).columns.values()] == [*columns, "label", "sent"]
    with pytest.raises(DataError, match=r"a\.jsonl:7: 'ending0' is \"\"; expected a text"):
        read(row | {"ending0": ""}, **options)


def test_nested_columns():
    row = {"question": "where", "choices": {"text": ["paris", "rome"], "label": ["A", "B"]}, "answerKey": "B"}
    assert read(row, choices="choices.text", answer="answerKey", answer_is="letter").answer == 1


@pytest.mark.parametrize("choices", [[], ["paris"], [str(n) for n in range(101)]])
def test_too_few_or_too_many_choices(choices):
    with pytest.raises(DataError, match=rf"a\.jsonl:7: 'choices' has {len(choices)} choices; expected 2 to 100"):
        read(ROW | {"choices": choices})


def test_choices_of_nothing_are_refused():
    with pytest.raises(ValueError, match="name the column of the question, of the context, or both"):
        ChoiceRows(question=None)


def test_a_file(tmp_path):
    lines = [json.dumps(ROW | {"passage": f"p{n // 2}"}) for n in range(4)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    members = RowFiles(rows=ChoiceRows(group="passage")).read({"train": tmp_path / "train.jsonl"})["train"]
    assert [(one.id, one.line, one.group) for one in members] == [(f"train:{n}", n + 1, f"p{n // 2}") for n in range(4)]
