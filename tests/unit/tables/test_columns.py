"""Columns as numbers: what is learnt of the training rows, and what is missing or unknown later."""

from __future__ import annotations

import json

import numpy as np
import pytest

from peftlab.errors import DataError
from peftlab.tables.columns import Columns, alike, kinds_of

TRAIN = [
    {"income": "10", "age": "20", "job": "clerk"},
    {"income": "NA", "age": "40", "job": "clerk"},
    {"income": "30", "age": "30", "job": "smith"},
    {"income": 20.0, "age": "30", "job": "smith"},
    {"income": "20", "age": "30", "job": "king"},
    {"income": "20", "age": "30", "job": None},
]


def test_numbers_are_standardised_and_categories_have_a_column_each():
    columns = Columns.learnt(TRAIN, ["income", "age"], ["job"])
    matrix = columns.matrix(TRAIN)
    assert matrix.shape == (6, columns.width) == (6, 6)
    assert [tuple(one) for one in columns.features] == [("income", 0, 2), ("age", 2, 3), ("job", 3, 6)]
    known = np.array([10, 30, 20, 20, 20])
    assert matrix[[0, 2, 3, 4, 5], 0] == pytest.approx((known - 20) / known.std())
    assert matrix[:, 1].tolist() == [0, 1, 0, 0, 0, 0]
    assert matrix[1, 0] == 0
    assert matrix[:, 3:].tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert np.isnan(columns.matrix(TRAIN, keep_missing=True)[1, 0])
    again = Columns.of_json(json.loads(json.dumps(columns.as_json())))
    assert again == columns


def test_later_rows_learn_nothing_and_what_is_unknown_is_counted():
    columns = Columns.learnt(TRAIN, ["age"], ["job"])
    (row,) = columns.matrix([{"age": None, "job": "pilot"}])
    assert row.tolist() == [0, 0, 0, 1]
    assert columns.unknown([{"age": 1, "job": "pilot"}, {"age": 1, "job": "clerk"}]) == {"job": 1}


def test_columns_are_of_numbers_if_all_their_values_are():
    assert kinds_of(TRAIN, ["income", "age", "job"]) == (["income", "age"], ["job"])
    assert kinds_of(TRAIN, ["income", "age"], ["age"]) == (["income"], ["age"])
    assert kinds_of([{"x": True}, {"x": "1_5"}], ["x"]) == ([], ["x"])


def test_one_number_that_is_written_in_two_ways_is_two_categories():
    rows = [{"code": code} for code in ("1", "1.0", 1.0, "1.0", "2", "2", "NA", "x", "x")]
    (code,) = Columns.learnt(rows, [], ["code"]).parts
    assert code.values == ("1", "1.0", "2", "x")
    assert alike(code.values) == [["1", "1.0"]]


def test_what_cannot_be_read_is_named_with_its_place():
    columns = Columns.learnt(TRAIN, ["age"], ["job"])
    for row, message in (
        ({"age": "old", "job": "clerk"}, "new.csv:7: 'age' is 'old'; expected a number"),
        ({"age": "inf", "job": "clerk"}, "expected a number"),
        ({"ages": "1", "job": "clerk"}, "new.csv:7: there is no column 'age'. Did you mean 'ages'?"),
    ):
        with pytest.raises(DataError, match=message.replace("?", r"\?")):
            columns.matrix([row], ["new.csv:7"])
    with pytest.raises(DataError, match="has no value"):
        Columns.learnt([{"age": ""}], ["age"], [])
    with pytest.raises(DataError, match=r"expected a number"):
        columns.matrix([{"age": [20], "job": "clerk"}])


def test_a_constant_column_stays_small_where_rounding_gives_it_a_deviation():
    column = [{"rate": 0.1}] * 300
    assert np.full(300, 0.1).std() > 0
    assert Columns.learnt(column, ["rate"], []).matrix([{"rate": 0.1}, {"rate": 0.3}])[:, 0].tolist() == [0, 0.3 - 0.1]
