"""Answers to many requests at once: inputs are read in one thread, and computed in batches in another.

A batch starts as soon as the model is idle, with what waits by then. Where the last batch had several inputs, it waits
a few milliseconds for as many again, because callers who were answered together ask together.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from peftlab.errors import ConfigError, DataError, UserError
from peftlab.serving.access.refusals import Refusal
from peftlab.serving.events import Computed, Observer
from peftlab.serving.queue import Entry, Full, Job, Queue
from peftlab.serving.settings import Settings
from peftlab.use.predictor import Answer, Refused

if TYPE_CHECKING:
    from peftlab.serving.models.models import Models, Query

log = logging.getLogger("peftlab")

AT_ONCE = 32
"""Inputs of a request that are read before it is another request's turn."""
LONGEST_ADVICE = 60
"""The most seconds after which a refused caller is told to ask again."""

Admit = Callable[["Sequence[Query | None]"], None]
"""Takes the inputs of a request as they were read, None for one that could not be; it may refuse them."""


@dataclass(frozen=True)
class Outcome:
    """The inputs of a request as they were read, and their answers."""

    queries: list[Query | None]
    """None: it could not be read."""
    answers: list[Answer | Refused]

    @property
    def tokens(self) -> int:
        """The number of tokens that were read."""
        return tokens_of(self.queries)


class _Writing(NamedTuple):
    """A text that is written piece by piece, in a batch of its own."""

    model: str
    write: Callable[[], None]


class Ended(NamedTuple):
    """What comes after the last piece of a text."""

    stopped: bool
    """Whether the model ended it; else it would go on."""


class Batcher:
    """Answers requests to `models` in batches; use it as an asynchronous context.

    Args:
        models: the models; used by the threads of this object alone.
        settings: the most that waits, that a batch has, and how long it waits for more.
        observer: is told of the batches and of the queue's length.
    """

    draining = False
    """Whether new requests are refused."""

    def __init__(self, models: Models, settings: Settings, observer: Observer) -> None:
        self._models, self._observer = models, observer
        self._queue = Queue(settings.queue, settings.max_batch_tokens)
        self._longest_wait = settings.max_wait_ms / 1000
        self._reading = ThreadPoolExecutor(1, "reading")
        self._computing = ThreadPoolExecutor(1, "computing")
        self._arrived = asyncio.Event()
        self._last = 1
        """The number of inputs of the last batch."""
        self._rate = 0.0
        """Inputs that are computed in a second, of late."""

    async def __aenter__(self) -> Self:
        self._work = asyncio.create_task(self._compute())
        self._work.add_done_callback(_end_if_broken)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._work.cancel()
        for threads in (self._reading, self._computing):
            threads.shutdown(wait=False, cancel_futures=True)

    async def answers(
        self,
        model: str,
        inputs: Sequence[Any],
        caller: str = "",
        request_id: str = "",
        options: Mapping[str, Any] | None = None,
        admit: Admit = lambda queries: None,
    ) -> Outcome:
        """Return the answers of a model to `inputs`, each an answer or the reason why there is none.

        Cancelling takes those that wait out of the queue.

        Args:
            model: its name.
            inputs: as `peftlab.use.predictor.Predictor.answers` takes them.
            caller: callers take turns.
            request_id: names the request to the observer.
            options: of generation.
            admit: is called with the inputs as they were read before anything is computed; what it raises ends the
                request.

        Raises:
            Refusal: the queue is full, or the server takes no more requests.
            ConfigError: there is no such option, or the model writes no text.
        """
        job = self._admitted(caller, len(inputs), request_id)
        try:
            read = await self._read(job, model, inputs, options or {})
            queries = [None if isinstance(one, Refused) else one for one in read]
            admit(queries)
            for place, one in enumerate(read):
                if isinstance(one, Refused):
                    job.answer(place, one)
            entries = [Entry(job, n, query, query.tokens, query.group) for n, query in enumerate(queries) if query]
            self._queue.read(job, entries, len(read) - len(entries))
            self._arrived.set()
            if not await job.done:
                raise self._overloaded()
            return Outcome(queries, [job.answers[place] for place in range(len(read))])
        finally:
            self._dropped(job)

    async def stream(
        self,
        model: str,
        one: Any,
        caller: str = "",
        request_id: str = "",
        options: Mapping[str, Any] | None = None,
        admit: Admit = lambda queries: None,
    ) -> AsyncGenerator[str | Ended]:
        """Yield the text that a model writes for one input, piece by piece, then its end; closing it stops the model.

        A text is written alone: other inputs wait until it ends. Arguments as of `answers`.

        Raises:
            Refusal: as `answers` does.
            ConfigError: as `answers` does.
            DataError: there is no answer to the input.
        """
        job = self._admitted(caller, 1, request_id)
        pieces: asyncio.Queue[str | Ended | Exception] = asyncio.Queue()

        def give_way(done: asyncio.Future[bool]) -> None:
            if not done.cancelled() and not done.result():
                pieces.put_nowait(self._overloaded())

        job.done.add_done_callback(give_way)
        halt = threading.Event()
        try:
            (query,) = await self._read(job, model, [one], options or {})
            if isinstance(query, Refused):
                raise query.reason
            admit([query])
            loop = asyncio.get_running_loop()

            def put(piece: str | Ended | Exception) -> None:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

            write = partial(self._write, partial(self._models.stream, query), put, halt)
            self._queue.read(job, [Entry(job, 0, _Writing(model, write), query.tokens)])
            self._arrived.set()
            piece: str | Ended | Exception = ""
            while not isinstance(piece, Ended):
                if isinstance(piece := await pieces.get(), Exception):
                    raise piece
                yield piece
        finally:
            halt.set()
            self._dropped(job)

    async def on_models(self, change: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `change` returns, which runs between two batches: it may change the models."""
        return await asyncio.get_running_loop().run_in_executor(self._computing, change, *arguments)

    def _admitted(self, caller: str, size: int, request_id: str) -> Job:
        if self.draining:
            raise Refusal(503, "draining", "the server takes no more requests", {"Retry-After": "5"})
        loop = asyncio.get_running_loop()
        job = Job(caller, size, loop.time(), loop.create_future(), request_id)
        try:
            self._queue.admit(job)
        except Full:
            raise self._overloaded() from None
        self._observer.queued(len(self._queue))
        return job

    def _dropped(self, job: Job) -> None:
        self._queue.drop(job)
        self._observer.queued(len(self._queue))

    def _overloaded(self) -> Refusal:
        """Return the refusal of a request, which says when there will be room, as things go."""
        seconds = math.ceil(len(self._queue) / self._rate) if self._rate else 1
        retry = {"Retry-After": str(min(max(seconds, 1), LONGEST_ADVICE))}
        return Refusal(429, "overloaded", "too many inputs wait already: ask again later", retry)

    async def _read(
        self, job: Job, model: str, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> list[Query | Refused]:
        loop = asyncio.get_running_loop()
        read: list[Query | Refused] = []
        for start in range(0, len(inputs), AT_ONCE):
            if job.done.done():
                raise self._overloaded()
            piece = inputs[start : start + AT_ONCE]
            read += await loop.run_in_executor(self._reading, self._read_piece, model, piece, options)
        return read

    def _read_piece(self, model: str, inputs: Sequence[Any], options: Mapping[str, Any]) -> list[Query | Refused]:
        read: list[Query | Refused] = []
        for one in inputs:
            try:
                read.append(self._models.read(model, one, **options))
            except ConfigError:  # of the options, which all share
                raise
            except Exception as error:  # noqa: BLE001  # it fails alone, whatever it is
                read.append(_refused(error))
        return read

    async def _compute(self) -> None:
        """Compute batch after batch."""
        clock = asyncio.get_running_loop().time
        while True:
            await self._company()
            if not (batch := self._queue.take()):
                continue
            started = clock()
            if batch[0].group is None:
                await self.on_models(batch[0].item.write)
            else:
                answers = await self.on_models(self._answered, [entry.item for entry in batch])
                for entry, answer in zip(batch, answers, strict=True):
                    entry.job.answer(entry.place, answer)
            seconds = clock() - started
            self._last = len(batch)
            self._rate += (len(batch) / max(seconds, 1e-6) - self._rate) * (0.2 if self._rate else 1)
            self._observer.queued(len(self._queue))
            self._observer.computed(_computed(batch, started, seconds))

    async def _company(self) -> None:
        """Wait until an input has been read, and a little for others where there are likely to be some."""
        queue, clock = self._queue, asyncio.get_running_loop().time
        while (oldest := queue.oldest) is None:
            self._arrived.clear()
            await self._arrived.wait()
        until = oldest + self._longest_wait
        while (rest := until - clock()) > 0 and not queue.fills_a_batch():
            if queue.ready >= self._last and queue.ready == len(queue):
                break
            self._arrived.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), rest)

    def _answered(self, queries: Sequence[Query]) -> list[Answer | Refused]:
        """Return the answers to `queries`; if they cannot be computed together, to each by itself."""
        try:
            return self._models.answers(queries)
        except Exception as error:  # noqa: BLE001
            if len(queries) == 1:
                return [_refused(error)]
            return [answer for query in queries for answer in self._answered([query])]

    @staticmethod
    def _write(
        begin: Callable[[], Generator[str, None, bool]],
        put: Callable[[str | Ended | Exception], Any],
        halt: threading.Event,
    ) -> None:
        """Put the pieces of a text as they are written, and its end or the error after the last."""
        end: Ended | Exception = Ended(stopped=False)
        try:
            with closing(begin()) as pieces:
                while not halt.is_set():
                    put(next(pieces))
        except StopIteration as last:
            end = Ended(last.value)
        except Exception as error:  # noqa: BLE001
            end = error if isinstance(error, UserError) else _refused(error).reason
        with suppress(RuntimeError):  # the loop has ended
            put(end)


def tokens_of(queries: Sequence[Query | None]) -> int:
    """Return the number of tokens in inputs that were read; None: one could not be."""
    return sum(query.tokens for query in queries if query)


def _refused(error: Exception) -> Refused:
    """Return an input without an answer, because of `error`; only the user's mistakes are told to callers."""
    if isinstance(error, DataError):
        return Refused({}, error)
    if isinstance(error, UserError):
        return Refused({}, DataError(str(error)))
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "?"
    log.error("an input could not be answered: %s at %s", type(error).__name__, place)  # its message may quote texts
    return Refused({}, DataError("the server could not answer it; its log says where"))


def _computed(batch: Sequence[Entry], started: float, seconds: float) -> Computed:
    return Computed(
        models=tuple(entry.item.model for entry in batch),
        tokens=sum(entry.tokens for entry in batch),
        seconds=seconds,
        waited=tuple(started - entry.job.since for entry in batch),
        request_ids=tuple(entry.job.request_id for entry in batch),
    )


def _end_if_broken(work: asyncio.Task[None]) -> None:
    """End the process if the batches have ended by themselves: its supervisor starts another."""
    if not work.cancelled():
        log.error("the batches have ended: %r", work.exception())
        signal.raise_signal(signal.SIGTERM)
