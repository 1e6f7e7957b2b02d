"""The shapes of a run, before it has begun, are those that it then has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from peftlab.data.batching import Division
from peftlab.data.columns import Columns
from peftlab.data.module import DataModule
from peftlab.data.shapes import evaluation_shapes, shapes_of, training_shapes
from peftlab.data.spec import BudgetSpec, DataSpec
from peftlab.data.splits import Splits
from peftlab.data.static_shapes import StaticShapes
from peftlab.sources import FilesSource
from peftlab.tasks.batch import Part
from peftlab.tasks.ner import Ner
from peftlab.tasks.task import Selection


@pytest.fixture
def module(tiny_data, processor):
    def make(static: StaticShapes | None, division: Division | None = None, **options) -> DataModule:
        spec = DataSpec(
            name="tiny",
            source=FilesSource(path=tiny_data),
            splits=Splits(),
            format=Columns(),
            **{"batch_size": 8, "eval_batch_size": 4, **options},
        )
        task = Ner(name="ner", selection=Selection(metric="entity_f1"))
        data = DataModule(spec, task, processor, BudgetSpec(name="b", max_steps=1), 0, division)
        data.load()
        data.static = static
        return data

    return make


CASES = [
    {},
    {"max_tokens": 6},  # sentences in several rows
    {"batch_tokens": 60},
    {"batch_tokens": 60, "max_tokens": 6},
    {"division": Division(world_size=2, rank=1, accumulate=2)},
]


@pytest.mark.parametrize("static", [None, StaticShapes(most=36)])
@pytest.mark.parametrize("case", CASES)
def test_they_are_known_before(module, static, case):
    data = module(static, **case)
    expected = Counter[tuple[int, int]]()
    loader = data.train_dataloader()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        expected.update(batch.shape for parts in loader for batch in parts)
    assert training_shapes(data, epochs=2) == expected
    for split, of_split in (("validation", data.val_dataloader()), ("test", data.test_dataloader())):
        assert evaluation_shapes(data, split) == Counter(batch.shape for batch in of_split)


def test_they_are_few_and_full(module):
    data = module(StaticShapes(most=36), batch_size=10)
    assert len(data.splits["train"].examples) % 10 != 0
    assert set(training_shapes(data, epochs=5)) <= {(10, width) for width in (8, 16, 24, 32, 36)}
    assert {tokens for _, tokens in evaluation_shapes(data, "validation")} <= {8, 16, 24, 32, 36}
    assert {rows for rows, _ in training_shapes(module(StaticShapes(most=36), Division(accumulate=3)))} == {3}


def test_the_plan_is_the_same(module):
    plain, static = module(None), module(StaticShapes(most=36))
    for epoch in (0, 1):
        assert plain.plan_of(epoch) == static.plan_of(epoch)
    ids = [
        [[example.id for example in batch.examples] for parts in data.train_dataloader() for batch in parts]
        for data in (plain, static)
    ]
    assert ids[0] == ids[1]


def test_halves_of_a_batch_are_not_filled_up(module):
    """Else they would be as large as what did not fit in memory."""
    data = module(StaticShapes(most=36))
    ((batch,), *_) = data.train_dataloader()
    halves = data.halves(batch)
    assert [half.shape[0] for half in halves] == [4, 4]
    assert all(half.positions < batch.positions for half in halves)


def test_a_filler_is_filled_up_as_well(module):
    data = replace(Division(world_size=16, rank=15), full=8)
    (part,) = data.of_training_batch(list(range(8)))
    assert part == Part([], list(range(8)), None, 1)
    batches = module(StaticShapes(most=36))._batches_of("train")
    filler = batches[part]
    assert (filler.shape[0], filler.examples, filler.scale) == (1, [], 0.0)


def test_rows_that_cannot_be_padded_keep_their_size():
    parts = [Part([0, 1], [0, 1], 0, 4)]
    one = np.ones(2, dtype=np.int64)
    assert shapes_of(parts, one, one, StaticShapes(most=64), padded=False) == {(4, 1): 1}
