"""The group of each example, by a column of its file or by terms."""

from __future__ import annotations

import pytest

from peftlab.data.columns import Columns
from peftlab.data.delimited import Delimited
from peftlab.data.identities.groups import groups_of
from peftlab.data.rows.row_files import RowFiles
from peftlab.data.rows.texts import TextRows
from peftlab.errors import ConfigError, DataError
from peftlab.tasks.classification import Classification
from peftlab.tasks.task import Selection

ROWS = 'text,label,author,who\n"he\nsaid",a,u1,f\nshe saw him,b,u2,m\nnobody,a,u1,f\n'


@pytest.fixture
def task():
    return Classification(name="classification", selection=Selection(metric="macro_f1"))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_by_a_column_beside_that_of_the_groups_held_out(tmp_path, task, kind):
    file = tmp_path / f"train.{kind}"
    file.write_text(
        ROWS
        if kind == "csv"
        else '{"text": "x", "label": "a", "author": "u1", "who": "f"}\n'
        '{"text": "y", "label": "b", "author": "u2", "who": "m"}\n'
        '{"text": "z", "label": "a", "author": "u1", "who": "f"}\n'
    )
    format = Delimited(group="author") if kind == "csv" else RowFiles(rows=TextRows(group="author"))
    examples = format.read({"train": file})["train"]
    assert [one.group for one in examples] == ["u1", "u2", "u1"]
    assert groups_of(task, examples, "gender", "who", format) == ["f", "m", "f"]
    assert groups_of(task, [examples[1]], "gender", "who", format) == ["m"]
    with pytest.raises(DataError, match="wher"):
        groups_of(task, examples, "gender", "wher", format)


def test_by_terms(tmp_path, task):
    (tmp_path / "train.csv").write_text(ROWS)
    examples = Delimited().read({"train": tmp_path / "train.csv"})["train"]
    assert groups_of(task, examples, "gender", None, None) == ["male", "female+male", "none"]


def test_what_cannot_give_groups_says_so(task):
    with pytest.raises(ConfigError, match="Columns have no columns besides text and label"):
        groups_of(task, [], "gender", "who", Columns())
