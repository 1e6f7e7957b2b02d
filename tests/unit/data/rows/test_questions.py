"""Questions in rows."""

from __future__ import annotations

import json

import pytest

from peftlab.data.rows.questions import QuestionRows
from peftlab.data.rows.row_files import RowFiles
from peftlab.errors import DataError
from peftlab.tasks.inputs.questions import Answer

ROME = {"question": "what ?", "context": "rome said rome", "answers": [{"text": "said", "answer_start": 5}]}


@pytest.fixture
def read(tmp_path):
    def make(*rows, **options):
        (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return RowFiles(rows=QuestionRows(**options)).read({"train": tmp_path / "train.jsonl"})["train"]

    return make


def test_answers_in_either_form_and_none(read):
    both = {"text": ["said", "rome"], "answer_start": [5, 10]}
    rows = [
        ROME,
        ROME | {"answers": both},
        ROME | {"answers": []},
        ROME | {"answers": {"text": [], "answer_start": []}},
    ]
    rows += [ROME | {"answers": [{"text": "said"}]}, ROME | {"answers": {"text": ["said"]}}]
    said = (Answer("said", 5),)
    questions = read(*rows)
    assert [one.answers for one in questions] == [said, (*said, Answer("rome", 10)), (), (), said, said]
    assert questions[2].place.endswith("train.jsonl:3")
    assert len({one.group for one in questions}) == 1


def test_columns_have_any_names(read):
    row = {"q": "what ?", "text": "rome", "gold": {"spans": []}, "key": 7, "document": "a"}
    options = {"question": "q", "context": "text", "answers": "gold.spans", "source_id": "key", "group": "document"}
    (one,) = read(row, **options)
    assert (one.question, one.context, one.answers, one.source_id, one.group) == ("what ?", "rome", (), "7", "a")
    assert read(row, **options | {"group": None})[0].group is None


def test_what_is_wrong_is_named_with_its_line(read):
    for answers, message in (
        (3, "'answers' is 3. Expected"),
        (None, "'answers' is null. Expected"),
        ("said", "'answers' is \"said\". Expected"),
        ({"text": "said"}, '\'answers\' is {"text": "said"}. Expected'),
        ({"text": ["said"], "answer_start": []}, "Expected"),
    ):
        with pytest.raises(DataError, match=rf"train.jsonl:1: .*{message}"):
            read(ROME | {"answers": answers})
    for answer, message in (
        ("said", r"'answers\[0\]' is \"said\". Expected"),
        ({"text": 3}, r"'answers\[0\]' is {.text.: 3}. Expected"),
        ({"text": "said", "answer_start": "5"}, r"answer_start is .5., expected a whole number"),
        ({"text": "said", "answer_start": True}, r"answer_start is true, expected a whole number"),
        ({"text": "said", "answer_start": 6}, r"does not begin at 6. It first stands at 5"),
        ({"text": "paris"}, r"the text does not hold the answer .paris."),
        ({"text": " "}, r"the text does not hold the answer"),
        ({"text": "rome"}, r"more than once: say which, with answer_start.*the first is 0"),
    ):
        with pytest.raises(DataError, match=rf"train.jsonl:2: .*{message}"):
            read(ROME, ROME | {"answers": [answer]})


def test_squad_as_the_hub_has_it(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    answers = pa.struct({"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int32())})
    columns = {"id": ["5733", "5734"], "title": ["Rome"] * 2, "context": ["rome said rome"] * 2, "question": ["a", "b"]}
    golds = pa.array([{"text": ["rome", "said"], "answer_start": [10, 5]}, {"text": [], "answer_start": []}], answers)
    parquet.write_table(pa.table(columns | {"answers": golds}), tmp_path / "train-00000-of-00001.parquet")
    rows = QuestionRows(source_id="id")
    first, second = RowFiles(rows=rows).read({"train": tmp_path / "train-*.parquet"})["train"]
    assert first.answers == (Answer("rome", 10), Answer("said", 5))
    assert (second.answers, second.source_id) == ((), "5734")
