from __future__ import annotations

import pytest
import torch

from peftlab.errors import OutOfMemoryError
from peftlab.tasks.batch import Batch
from peftlab.training.micro_batches import MicroBatches

CPU = "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"


def batch(*examples: int) -> Batch:
    inputs, count = {"input_ids": torch.zeros(len(examples), 10)}, len(examples)
    return Batch(inputs, {}, torch.ones(count), torch.arange(count), list(examples), tokens=10 * count)


def halve(whole):
    examples = whole.examples
    middle = (len(examples) + 1) // 2
    return [batch(*examples[:middle]), batch(*examples[middle:])]


@pytest.fixture(autouse=True)
def _no_garbage(monkeypatch):
    """Nothing is left behind that a search for garbage, of a second, would find."""
    monkeypatch.setattr("peftlab.training.micro_batches.garbage_collection_cuda", lambda: None)


@pytest.fixture
def notes():
    return []


@pytest.fixture
def pieces(notes):
    return MicroBatches("training", halve, lambda event, **details: notes.append((event, details)))


def out_of_memory(error):
    def act(_):
        raise error

    return act


@pytest.mark.one_in(3, "slow")
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError(CUDA), RuntimeError(CPU), MemoryError()], ids=lambda error: type(error).__name__
)
def test_a_batch_that_is_too_large_is_noted_and_cut_from_then_on(pieces, notes, error):
    assert pieces.attempt(out_of_memory(error), batch(1, 2, 3, 4)) is None
    ((event, details),) = notes
    assert (event, details["examples"], details["positions"]) == ("out of memory", 4, 40)
    assert [piece.examples for piece in pieces.pieces(batch(1, 2, 3, 4, 5))] == [[1, 2, 3], [4, 5]]
    assert [piece.examples for piece in pieces.pieces(batch(1, 2, 3))] == [[1, 2, 3]]


@pytest.mark.slow
def test_halves_are_halved_again_down_to_single_examples(pieces):
    for size in (4, 2):
        pieces.attempt(out_of_memory(MemoryError()), batch(*range(size)))
    assert [piece.examples for piece in pieces.pieces(batch(1, 2, 3))] == [[1], [2], [3]]


@pytest.mark.slow
def test_pieces_not_yet_taken_are_cut_by_what_has_been_learnt_since(pieces):
    pieces.attempt(out_of_memory(MemoryError()), batch(*range(8)))
    taken = pieces.pieces(batch(*range(8)))
    pieces.attempt(out_of_memory(MemoryError()), next(taken))
    assert [piece.examples for piece in taken] == [[4, 5], [6, 7]]


def test_a_single_example_cannot_be_cut(pieces):
    with pytest.raises(OutOfMemoryError, match=r"on 1 examples \(10 positions\): set a smaller data.max_tokens"):
        pieces.attempt(out_of_memory(MemoryError()), batch(1))


def test_a_single_example_of_several_rows_is_not_cut_into_more(pieces):
    windows = Batch({"input_ids": torch.zeros(7, 10)}, {}, torch.ones(1), torch.zeros(7), ["a"], tokens=70, copies=4)
    with pytest.raises(
        OutOfMemoryError, match=r"1 examples \(70 positions\): this example has 3 rows.*data\.long=trunc"
    ):
        pieces.attempt(out_of_memory(MemoryError()), windows)


@pytest.mark.one_in(2, "slow")
@pytest.mark.parametrize(("stage", "key"), [("training", "trainer.accumulate"), ("evaluation", "data.eval_batch_size")])
def test_where_batches_may_not_be_cut_the_message_says_what_to_set(stage, key):
    pieces = MicroBatches(stage, None, lambda *_, **__: None)
    with pytest.raises(OutOfMemoryError, match=key):
        pieces.attempt(out_of_memory(RuntimeError(CPU)), batch(1, 2))


def test_other_errors_are_not_taken_for_it(pieces, notes):
    with pytest.raises(RuntimeError, match="shapes"):
        pieces.attempt(out_of_memory(RuntimeError("shapes do not fit")), batch(1, 2))
    assert notes == []
