"""How rows of several batches lie in one."""

from __future__ import annotations

import pytest
import torch

from peftlab.packing.rows import NotJoinableError, Rows


def batch(rows, tokens):
    ids = torch.arange(1, rows * tokens + 1).view(rows, tokens)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_rows_are_padded_to_a_length_that_no_other_dimension_has():
    inputs = [batch(2, 3), batch(3, 4)]
    rows = Rows.of(inputs, taken={4, 5})
    assert (rows.runs, rows.most, rows.longest) == (2, 3, 7)  # 6 is the number of joint rows
    joint = rows.joined(inputs, padding=9)
    assert joint["input_ids"].shape == (6, 7)
    assert joint["attention_mask"].tolist() == [[1] * 3 + [0] * 4] * 3 + [[1] * 4 + [0] * 3] * 3
    assert joint["input_ids"][0].tolist() == [1, 2, 3, 9, 9, 9, 9]
    assert joint["input_ids"][2].equal(joint["input_ids"][0])  # a row that only fills
    for number, own in enumerate(inputs):
        assert rows.own(joint, number)["input_ids"].equal(own["input_ids"])


def test_values_of_all_are_everybodys():
    rows = Rows([2, 2], None)
    scalar, positions = torch.tensor(1.0), torch.zeros(1, 3)
    assert rows.own({"scalar": scalar, "positions": positions, "flag": True}, 1) == {
        "scalar": scalar,
        "positions": positions,
        "flag": True,
    }


def test_functions_are_called_apart_and_their_results_joined():
    inputs = [batch(2, 3), batch(1, 5)]
    rows = Rows.of(inputs)
    states = rows.joined(inputs)["input_ids"].float()[..., None].expand(-1, -1, 2)
    seen = []

    def call(own, *, factor):
        seen.append(own.shape)
        return own * factor, "same"

    result, same = rows.apart([call, call], (states,), {"factor": 2})
    assert seen == [(2, 3, 2), (1, 5, 2)]
    assert same == "same"
    assert rows.own(result, 0).equal(2 * rows.own(states, 0))
    assert rows.own(result, 1).equal(2 * rows.own(states, 1))


@pytest.mark.parametrize(
    ("inputs", "limit"),
    [
        ([{"input_ids": torch.zeros(1, 2)}, {"input_ids": torch.zeros(1, 3)}], None),  # no mask
        ([batch(1, 2), batch(1, 9)], 8),
        ([batch(1, 2), batch(1, 2) | {"more": torch.zeros(1)}], None),
        ([{"pixels": torch.zeros(1, 2, 2)}, {"pixels": torch.zeros(1, 3, 3)}], None),
    ],
)
def test_what_does_not_fit_together_is_refused(inputs, limit):
    with pytest.raises(NotJoinableError):
        Rows.of(inputs, limit=limit).joined(inputs)
