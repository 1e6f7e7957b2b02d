from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from tests.unit.serving.stand_in import StandIn

from peftlab.errors import DataError
from peftlab.serving.access.refusals import Refusal
from peftlab.serving.batching import Batcher, Ended, tokens_of
from peftlab.serving.events import Computed, Observer
from peftlab.serving.settings import Settings
from peftlab.use.predictor import Refused


class Noting(Observer):
    def __init__(self) -> None:
        self.batches: list[Computed] = []
        self.lengths: list[int] = []

    def computed(self, batch: Computed) -> None:
        self.batches.append(batch)

    def queued(self, inputs: int) -> None:
        self.lengths.append(inputs)


Use = Callable[[Batcher, StandIn], Coroutine[Any, Any, Any]]


def used(use: Use, observer: Observer | None = None, **settings: Any) -> Any:
    """Return what `use` returns, which is given a batcher and its models."""

    async def run() -> Any:
        models = StandIn()
        async with Batcher(models, Settings(runs=(), **settings), observer or Observer()) as batcher:
            async with asyncio.timeout(20):
                try:
                    return await use(batcher, models)
                finally:
                    models.gate.set()

    return asyncio.run(run())


async def held(batcher: Batcher, models: StandIn) -> asyncio.Task[Any]:
    """Have the model busy with a first input until its gate is opened."""
    models.gate.clear()
    first = asyncio.create_task(batcher.answers("ner", ["first"]))
    await asyncio.to_thread(models.begun.wait, 10)
    return first


async def until(reached: Callable[[], bool]) -> None:
    """Wait until `reached` is so; the test has a time limit of its own."""
    while not reached():
        await asyncio.sleep(0.001)


def test_each_input_has_its_answer_in_order_and_a_bad_one_fails_alone():
    async def use(batcher: Batcher, models: StandIn) -> Any:
        return await batcher.answers("ner", ["one", "bad", "three", 5, "broken", "six"])

    outcome = used(use)
    assert [one if isinstance(one, dict) else None for one in outcome.answers] == [
        {"text": "one", "of": "ner", "length": 3},
        None,
        {"text": "three", "of": "ner", "length": 5},
        None,
        None,
        {"text": "six", "of": "ner", "length": 3},
    ]
    reasons = [str(one.reason) for one in outcome.answers if isinstance(one, Refused)]
    assert reasons == ["is no text", "is no text", "the server could not answer it; its log says where"]
    assert outcome.tokens == 3 + 5 + 6 + 3


def test_what_comes_while_the_model_is_busy_is_one_batch():
    noting = Noting()

    async def use(batcher: Batcher, models: StandIn) -> Any:
        first = await held(batcher, models)
        others = [asyncio.create_task(batcher.answers(name, [name], request_id=name)) for name in ("ner", "tone")]
        await until(lambda: batcher._queue.ready == 2)
        models.gate.set()
        await asyncio.gather(first, *others)
        return models.batches

    assert used(use, noting) == [["first"], ["ner", "tone"]]
    batch = noting.batches[1]
    assert (batch.models, batch.tokens, batch.request_ids) == (("ner", "tone"), 7, ("ner", "tone"))
    assert len(batch.waited) == 2
    assert (max(noting.lengths), noting.lengths[-1]) == (2, 0)


def test_a_lone_input_does_not_wait_and_one_that_had_company_waits_for_as_many():
    async def use(batcher: Batcher, models: StandIn) -> Any:
        for text in ("one", "two"):  # either would take 60 s if it waited
            await batcher.answers("ner", [text])
        await batcher.answers("ner", ["three", "four"])
        await asyncio.gather(*(batcher.answers("ner", [text]) for text in ("five", "six")))
        return models.batches

    assert used(use, max_wait_ms=60_000) == [["one"], ["two"], ["three", "four"], ["five", "six"]]


def test_the_wait_for_company_ends():
    async def use(batcher: Batcher, models: StandIn) -> Any:
        await batcher.answers("ner", ["one", "two"])
        await batcher.answers("ner", ["three"])
        return models.batches

    assert used(use, max_wait_ms=20) == [["one", "two"], ["three"]]


def test_more_than_the_queue_holds_is_refused_at_once_with_a_time_to_ask_again():
    async def use(batcher: Batcher, models: StandIn) -> Any:
        first = await held(batcher, models)
        second = asyncio.create_task(batcher.answers("ner", ["a", "b", "c"]))
        await until(lambda: len(batcher._queue) == 3)
        with pytest.raises(Refusal) as refusal:
            await batcher.answers("ner", ["d", "e"])
        models.gate.set()
        await asyncio.gather(first, second)
        return refusal.value

    refusal = used(use, queue=4)
    assert (refusal.status, refusal.code) == (429, "overloaded")
    assert 1 <= int(refusal.headers["Retry-After"]) <= 60


def test_a_caller_with_much_in_the_queue_gives_way_to_another():
    async def use(batcher: Batcher, models: StandIn) -> Any:
        first = await held(batcher, models)
        much = asyncio.create_task(batcher.answers("ner", ["a", "b", "c", "d"], caller="much"))
        await until(lambda: batcher._queue.ready == 4)
        little = asyncio.create_task(batcher.answers("ner", ["e"], caller="little"))
        with pytest.raises(Refusal, match="too many inputs"):
            await much
        models.gate.set()
        await first
        return (await little).answers, models.batches

    answers, batches = used(use, queue=4)
    assert answers[0]["text"] == "e"
    assert batches == [["first"], ["e"]]


def test_a_request_that_is_cancelled_leaves_the_queue():
    async def use(batcher: Batcher, models: StandIn) -> Any:
        first = await held(batcher, models)
        gone = asyncio.create_task(batcher.answers("ner", ["gone", "too"]))
        stays = asyncio.create_task(batcher.answers("ner", ["stays"]))
        await until(lambda: batcher._queue.ready == 3)
        gone.cancel()
        await until(gone.done)
        assert len(batcher._queue) == 1
        models.gate.set()
        await asyncio.gather(first, stays)
        return models.batches

    assert used(use) == [["first"], ["stays"]]


def test_what_a_caller_may_not_spend_is_not_computed():
    def admit(queries: Sequence[Any]) -> None:
        raise Refusal(429, "rate_limited", f"{tokens_of(queries)} are too many")

    async def use(batcher: Batcher, models: StandIn) -> Any:
        with pytest.raises(Refusal, match="8 are too many"):
            await batcher.answers("ner", ["three", "two"], admit=admit)
        return models.batches, len(batcher._queue)

    assert used(use) == ([], 0)


def test_a_draining_batcher_ends_what_it_has_and_takes_nothing_new():
    async def use(batcher: Batcher, models: StandIn) -> Any:
        first = await held(batcher, models)
        batcher.draining = True
        with pytest.raises(Refusal) as refusal:
            await batcher.answers("ner", ["late"])
        models.gate.set()
        return (await first).answers, refusal.value.status

    assert used(use) == ([{"text": "first", "of": "ner", "length": 5}], 503)


def test_a_text_is_streamed_in_its_turn_and_no_further_than_it_is_read():
    async def use(batcher: Batcher, models: StandIn) -> Any:
        whole = [piece async for piece in batcher.stream("writer", "a b c")]
        models.written.clear()
        async with aclosing(batcher.stream("writer", "d e f")) as pieces:
            assert await anext(pieces) == "d"
            models.gate.clear()
        models.gate.set()
        after = await batcher.answers("ner", ["after"])  # the model is free again
        return whole, len(models.written) <= 3, after.answers[0]["text"]

    assert used(use) == (["a", "b", "c", Ended(stopped=True)], True, "after")


def test_a_text_that_is_streamed_takes_the_models_time_as_a_batch_does():
    noting = Noting()

    async def use(batcher: Batcher, models: StandIn) -> Any:
        whole = [piece async for piece in batcher.stream("writer", "a b", request_id="r")]
        await until(lambda: bool(noting.batches))
        return whole, batcher._rate > 0  # what `Retry-After` follows from

    assert used(use, noting) == (["a", "b", Ended(stopped=True)], True)
    (batch,) = noting.batches
    assert (batch.models, batch.tokens, batch.request_ids) == (("writer",), 3, ("r",))
    assert len(batch.waited) == 1


def test_a_text_that_cannot_be_streamed_says_why():
    async def use(batcher: Batcher, models: StandIn) -> Any:
        with pytest.raises(DataError, match="is no text"):
            await anext(batcher.stream("writer", "bad"))
        first = await held(batcher, models)
        waiting = batcher.stream("writer", "a b", caller="much")
        begun = asyncio.create_task(anext(waiting))
        await until(lambda: batcher._queue.ready == 1)
        with pytest.raises(Refusal):  # nobody has more than this one would have
            await batcher.answers("ner", ["x", "y"], caller="little")
        models.gate.set()
        await first
        assert await begun == "a"
        await waiting.aclose()

    used(use, queue=2)


def test_the_models_change_between_two_batches():
    async def use(batcher: Batcher, models: StandIn) -> Any:
        first = await held(batcher, models)
        added = asyncio.create_task(batcher.on_models(models.add, "new=run"))
        await asyncio.sleep(0)
        assert "new" not in models.names
        models.gate.set()
        await asyncio.gather(first, added)
        return added.result()

    assert used(use) == "new"


def test_whatever_callers_do_each_has_its_own_answers_and_nothing_is_left_behind():
    draw = random.Random(7)

    async def ask(batcher: Batcher, number: int) -> int:
        texts = [f"{number} {'x' * draw.randint(0, 90)}" for _ in range(draw.randint(1, 9))]
        caller = f"caller {number % 5}"
        await asyncio.sleep(draw.random() / 10)
        try:
            async with asyncio.timeout(draw.choice((0.0005, 0.01, 20))):
                outcome = await batcher.answers(draw.choice(("ner", "tone", "writer")), texts, caller)
        except TimeoutError:
            return 0
        except Refusal as refusal:
            if refusal.code != "overloaded":
                raise
            return 0
        assert [answer["text"] for answer in outcome.answers if isinstance(answer, dict)] == texts
        return 1

    async def use(batcher: Batcher, models: StandIn) -> Any:
        answered = await asyncio.gather(*(ask(batcher, number) for number in range(200)))
        await until(lambda: len(batcher._queue) == 0)
        return sum(answered), max(len(batch) * max(map(len, batch)) for batch in models.batches)

    answered, largest = used(use, queue=60, max_batch_tokens=500)
    assert 0 < answered < 200  # the others had no room, or no time
    assert largest <= 500
