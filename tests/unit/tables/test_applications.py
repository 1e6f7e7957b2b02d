"""Tables of applications: their rows, from every kind of file, and their labels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from peftlab.errors import DataError
from peftlab.tables.applications import Named, read_applications, read_rows
from peftlab.tables.out_of_fold import write_texts


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_typed_tables_are_read_whole(tmp_path, suffix):
    """Their columns are known only once they are read."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import feather, parquet

    table = pyarrow.table({"text": ["hi", "ho"], "label": [0, 1], "amount": [1.5, None]})
    file = tmp_path / f"applications.{suffix}"
    parquet.write_table(table, file) if suffix == "parquet" else feather.write_feather(table, file, "uncompressed")
    assert read_rows(file)[0] == table.to_pylist()


def test_a_label_may_be_called_none(tmp_path):
    """In any other column, such a cell is a missing value."""
    file = tmp_path / "claims.csv"
    file.write_text("text,label,who\nhi,none,NA\nho,fraud,b\n")
    table = read_applications(file, Named("text", "label", "who", None))
    assert (table.names("label"), table.names("who")) == (["none", "fraud"], ["(missing)", "b"])
    write_texts(tmp_path / "data", table, np.array(["train", "test"]))
    assert json.loads((tmp_path / "data/train.jsonl").read_text()) == {
        "text": "hi",
        "label": "none",
        "group": "(missing)",
    }


def test_an_outcome_that_is_no_number_is_none(tmp_path):
    file = tmp_path / "claims.jsonl"
    file.write_text('{"text": "hi", "label": 1.0}\n{"text": "ho", "label": NaN}\n')
    with pytest.raises(DataError, match=r"claims.jsonl:2: 'label' is empty"):
        read_applications(file, Named("text", "label", None, None))
