"""Batches that a thread collates: the same, in the same order, and their errors in their turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch.utils.data import DataLoader

from peftlab.data.ahead import Ahead, prepared
from peftlab.tasks.batch import Batch


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("collating")]


class Numbers:
    """Counts, and notes how far it has come."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at, self.reached = fails_at, 0

    def __iter__(self) -> Iterator[int]:
        for self.reached in range(6):
            if self.reached == self.fails_at:
                raise ValueError("no such number")
            yield self.reached


@pytest.mark.parametrize("most", [1, 2, 9])
def test_all_items_come_in_order(most):
    assert list(prepared(iter(Numbers()), most)) == list(range(6))
    assert threads() == []


def test_the_thread_begins_with_the_first_item_and_goes_no_further_than_it_may():
    numbers = Numbers()
    items = prepared(iter(numbers), 2)
    assert threads() == []
    assert next(items) == 0
    assert next(items) == 1
    assert numbers.reached <= 4  # one that has been asked for, and two more
    items.close()
    assert threads() == []


def test_an_error_comes_where_the_item_would_have():
    items = prepared(iter(Numbers(fails_at=2)), 3)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(ValueError, match="no such number"):
        next(items)
    assert threads() == []


def test_a_loader_ahead_yields_what_the_loader_itself_does_and_draws_from_no_other_generator():
    def epochs(kind, **options):
        generator = torch.Generator().manual_seed(0)
        loader = kind(range(7), batch_size=2, shuffle=True, generator=generator, **options)
        before = torch.get_rng_state()
        drawn = [[batch.tolist() for batch in loader] for _ in range(2)]
        assert torch.equal(torch.get_rng_state(), before)
        return drawn

    assert epochs(Ahead, batches=2) == epochs(DataLoader)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible here")
def test_batches_lie_in_page_locked_memory_and_arrive_as_they_are():
    batch = Batch({"x": torch.arange(6.0).view(2, 3)}, {}, torch.ones(2), torch.arange(2), ["a", "b"], tokens=6)
    loader = Ahead([batch] * 3, batch_size=None, collate_fn=lambda each: [each], pin_memory=True, batches=2)
    for (own,) in loader:
        assert own.inputs["x"].is_pinned()
        assert torch.equal(own.to(torch.device("cuda")).inputs["x"].cpu(), batch.inputs["x"])
