"""Batches of a few shapes, and what fills them up has no part in anything."""

from __future__ import annotations

import pytest
import torch

from peftlab.data.static_shapes import StaticShapes, rounded
from peftlab.tasks.batch import Batch


def batch_of(rows=(0, 1, 2), tokens=5, factors=None) -> Batch:
    """A batch with ids from 1, and a target of each kind: by token, by row, by example, and one of neither."""
    examples, ids = max(rows) + 1, torch.arange(1, len(rows) * tokens + 1).view(len(rows), tokens)
    return Batch(
        inputs={"input_ids": ids, "states": ids.float().unsqueeze(-1)},
        targets={
            "labels": ids.clone(),
            "inside": ids > 2,
            "of_rows": ids[:, 0],
            "of_examples": torch.arange(examples),
            "alone": torch.tensor(7),
            "classes": torch.arange(50),
        },
        weights=torch.ones(examples, dtype=torch.float64),
        rows=torch.tensor(rows),
        examples=[f"example {n}" for n in range(examples)],
        tokens=len(rows) * tokens,
        padding={"input_ids": 9, "states": 0, "labels": -100, "inside": 0},
        factors=factors,
    )


def test_sizes_are_few():
    assert [rounded(n) for n in (1, 8, 9, 63, 64, 65, 80, 81, 500)] == [8, 8, 16, 64, 64, 80, 80, 96, 512]
    assert len({rounded(n) for n in range(1, 513)}) == 8 + 28


def test_rows_are_never_padded_beyond_the_limit_of_the_model_nor_cut():
    static = StaticShapes(most=50)
    assert [static.width(n) for n in (1, 40, 41, 48, 49, 50)] == [8, 40, 48, 48, 50, 50]
    assert static.width(70) == 70  # of something that has another limit, such as what a decoder writes


def test_what_has_tokens_is_padded_and_what_has_none_is_not():
    before = batch_of()
    after = StaticShapes(most=64).padded(before)
    for name, fill in (("input_ids", 9), ("states", 0)):
        assert after.inputs[name].shape[:2] == after.shape == (3, 8)
        assert torch.equal(after.inputs[name][:, :5], before.inputs[name])
        assert (after.inputs[name][:, 5:] == fill).all()
    assert (after.targets["labels"][:, 5:] == -100).all()
    assert after.targets["inside"].dtype == torch.bool
    assert not after.targets["inside"][:, 5:].any()
    assert all(after.targets[name] is before.targets[name] for name in ("of_rows", "of_examples", "alone", "classes"))
    assert (after.examples, after.tokens, after.copies, after.factors) == (before.examples, 15, 0, None)
    assert before.shape == (3, 5)


def test_a_batch_of_the_right_width_is_left_alone():
    before = batch_of(tokens=8)
    assert StaticShapes(most=64).padded(before).inputs["input_ids"] is before.inputs["input_ids"]


def test_a_small_batch_is_filled_up_with_copies_that_count_for_nothing():
    before = batch_of(factors=torch.tensor([1.0, 0.5, 1.0], dtype=torch.float64))
    after = StaticShapes(most=64).padded(before, size=6)
    assert after.shape == (6, 8)
    assert after.copies == 3
    assert after.rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert after.weights.tolist() == [1, 1, 1, 0, 0, 0]
    assert after.factors is not None
    assert after.factors.tolist() == [1, 0.5, 1, 0, 0, 0]
    for tensors in (after.inputs, after.targets):
        for name in tensors.keys() - {"alone", "classes"}:
            assert all(torch.equal(copy, tensors[name][0]) for copy in tensors[name][3:])
    assert torch.equal(after.targets["classes"], before.targets["classes"])
    assert (after.examples, after.tokens) == (before.examples, 15)


@pytest.mark.parametrize(
    ("rows", "size", "height", "of_copies"),
    [
        ((0, 0, 1), 4, 4, [2]),
        ((0, 0, 1), 3, 3, []),
        ((0, 0, 1), 2, 8, [2, 3, 4, 5, 6]),  # an example in several rows: more than fit
        ((0, 0, 1), 0, 8, [2, 3, 4, 5, 6]),  # batches of no fixed size
    ],
)
def test_examples_of_several_rows(rows, size, height, of_copies):
    after = StaticShapes(most=64).padded(batch_of(rows), size)
    assert after.shape[0] == height == 1 + len(after.weights) == 1 + len(after.targets["of_examples"])
    assert after.rows.tolist() == [*rows, *of_copies]
    assert after.copies == len(of_copies)
    assert after.weights.sum() == len(after.examples) == 2
    by_example = after.by_example(torch.ones(height))
    assert by_example[:2].tolist() == [2, 1]


def test_the_loss_of_a_whole_batch_is_computed_as_that_of_a_filled_one():
    whole = StaticShapes(most=64).padded(batch_of(), size=3)
    assert whole.factors is not None
    assert whole.factors.tolist() == [1, 1, 1]
    filled = StaticShapes(most=64).padded(batch_of(), size=8)
    losses = torch.tensor([1.0, 2.0, 6.0] + [torch.pi] * 5)
    assert filled.mean(losses) == whole.mean(losses[:3]) == 3
