from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from peftlab.serving.queue import Entry, Full, Job, Queue


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Asker:
    """Puts requests into a queue."""

    def __init__(self, queue: Queue, loop: asyncio.AbstractEventLoop) -> None:
        self.queue, self.loop, self.clock = queue, loop, 0

    def ask(self, caller: str, *tokens: int, group: str | None = "one", read: bool = True) -> Job:
        self.clock += 1
        job = Job(caller, len(tokens), self.clock, self.loop.create_future())
        self.queue.admit(job)
        if read:
            self.queue.read(job, [Entry(job, n, f"{caller}{n}", count, group) for n, count in enumerate(tokens)])
        return job


def taken(queue: Queue) -> list[list[str]]:
    """Return all batches until nothing is left."""
    batches = []
    while batch := queue.take():
        batches.append([entry.item for entry in batch])
    return batches


def test_a_batch_has_no_more_tokens_than_it_may_padding_included(loop):
    queue = Queue(100, batch_tokens=100)
    asker = Asker(queue, loop)
    asker.ask("a", *[30] * 7)
    assert [len(batch) for batch in taken(queue)] == [3, 3, 1]
    asker.ask("a", 500, 10)
    assert taken(queue) == [["a0"], ["a1"]]  # the one that is longer than a batch is computed, alone
    assert len(queue) == 0


def test_inputs_of_like_length_share_a_batch(loop):
    queue = Queue(100, batch_tokens=4000)
    Asker(queue, loop).ask("a", *[10, 120] * 20)
    batches = taken(queue)
    assert [sorted({int(item[1:]) % 2 for item in batch}) for batch in batches] == [[0], [1]]
    Asker(queue, loop).ask("a", 10, 120)  # padding that costs less than another batch
    assert taken(queue) == [["a0", "a1"]]


def test_only_inputs_of_one_group_share_a_batch_and_a_text_that_is_streamed_is_alone(loop):
    queue = Queue(100, batch_tokens=1000)
    asker = Asker(queue, loop)
    asker.ask("a", 5)
    asker.ask("b", 5, group="two")
    asker.ask("c", 0, group=None)
    asker.ask("d", 5)
    assert taken(queue) == [["a0", "d0"], ["b0"], ["c0"]]


def test_callers_take_turns(loop):
    queue = Queue(100, batch_tokens=40)
    asker = Asker(queue, loop)
    asker.ask("many", *[10] * 40)
    asker.ask("few", *[10] * 4)
    batches = taken(queue)
    assert [sum(item.startswith("few") for item in batch) for batch in batches[:2]] == [2, 2]
    assert [item for batch in batches for item in batch if item.startswith("few")] == [f"few{n}" for n in range(4)]
    asker.ask("many", *[40] * 10)  # each a batch
    asker.ask("few", 40)
    assert ["few0"] in taken(queue)[:2]


def test_where_there_is_no_room_the_caller_with_most_gives_way(loop):
    queue = Queue(10, batch_tokens=100)
    asker = Asker(queue, loop)
    first, second = asker.ask("many", *[1] * 5), asker.ask("many", *[1] * 5)
    with pytest.raises(Full):
        asker.ask("many", 1)
    other = asker.ask("few", 1, 1)
    assert second.done.result() is False
    assert not first.done.done()
    assert not other.done.done()
    assert len(queue) == 7
    with pytest.raises(Full):
        asker.ask("greedy", *[1] * 6)
    with pytest.raises(Full):
        asker.ask("alone", *[1] * 11)


def test_what_is_being_read_has_its_place_and_what_is_dropped_gives_it_back(loop):
    queue = Queue(10, batch_tokens=100)
    asker = Asker(queue, loop)
    job = asker.ask("a", *[1] * 10, read=False)
    assert (len(queue), queue.ready, queue.oldest, queue.take()) == (10, 0, None, [])
    queue.read(job, [Entry(job, 0, "a0", 1, "one")], refused=2)
    assert (len(queue), queue.ready, queue.oldest) == (8, 1, 1)
    queue.drop(job)
    queue.drop(job)
    queue.read(job, [Entry(job, 1, "a1", 1, "one")])
    assert (len(queue), queue.ready, queue.take()) == (0, 0, [])
