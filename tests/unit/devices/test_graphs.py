"""What is recorded is rehearsed first, without a trace; on a CPU it is then simply done again."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from peftlab.devices.graphs import Graphs, NotRecordedError


@pytest.fixture
def graphs():
    return Graphs(torch.device("cpu"))


def test_what_is_returned_repeats_the_work_with_new_random_numbers(graphs):
    drawn = torch.zeros(3)
    torch.manual_seed(0)
    repeat = graphs.record(lambda: drawn.copy_(torch.rand(3)))
    found = []
    for _ in range(2):
        repeat()
        found.append(drawn.clone())
    torch.manual_seed(0)
    assert all(map(torch.equal, found, [torch.rand(3), torch.rand(3)]))  # the rehearsals have drawn none


def test_work_is_rehearsed_twice_and_later_once(graphs):
    done = []
    graphs.record(lambda: done.append("first"))
    graphs.record(lambda: done.append("second"))
    assert done == ["first", "first", "second"]


@pytest.mark.parametrize("draw", [random.random, np.random.rand])
def test_random_numbers_of_the_host_would_be_the_same_in_each_repetition(graphs, draw):
    with pytest.raises(NotRecordedError, match="random numbers on the host"):
        graphs.record(draw)


@pytest.mark.parametrize(
    ("error", "reason", "out_of_memory"),
    [
        (KeyError("words"), "KeyError: 'words'", False),
        (RuntimeError("called a synchronizing CUDA operation\nand more"), "called a synchronizing CUDA op", False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "CUDA out of memory", True),
        (MemoryError(), "MemoryError", True),
    ],
)
def test_work_that_fails_is_not_recorded(graphs, error, reason, out_of_memory):
    def fail():
        raise error

    before = torch.get_rng_state()
    with pytest.raises(NotRecordedError, match=reason) as refused:
        graphs.record(fail)
    assert refused.value.out_of_memory == out_of_memory
    assert refused.value.__cause__ is refused.value.__context__ is None  # it would keep the tensors of the work alive
    assert torch.equal(torch.get_rng_state(), before)
