"""Inputs that wait to be computed: how many there may be, whose turn it is, and which share a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any

FREE_PADDING = 256
"""Tokens of padding that cost less than a batch of their own."""
MOST_PADDING = 0.25
"""The share of a larger batch that may be padding."""


class Full(Exception):  # noqa: N818  # not an error
    """There is no room in the queue."""


@dataclass(eq=False)
class Job:
    """One request: its inputs wait, are computed in one or more batches, and are answered together."""

    caller: str
    """Who asks; callers take turns."""
    size: int
    """The number of its inputs."""
    since: float
    """When it came, by the clock of the event loop, in seconds."""
    done: asyncio.Future[bool]
    """Is set to True once all inputs have answers, to False if the request has to give way to others."""
    request_id: str = ""
    unread: int = field(init=False)
    """The inputs that have not been read yet."""
    ready: list[Entry] = field(default_factory=list)
    """The inputs that have been read and are in no batch yet."""
    answers: dict[int, Any] = field(default_factory=dict)
    """The answers so far, by place."""

    def __post_init__(self) -> None:
        self.unread = self.size

    def answer(self, place: int, answer: Any) -> None:
        """Take the answer to the input at `place`."""
        self.answers[place] = answer
        if len(self.answers) == self.size and not self.done.done():
            self.done.set_result(True)

    @property
    def waiting(self) -> int:
        """The number of inputs that are in no batch yet."""
        return self.unread + len(self.ready)


@dataclass(eq=False, frozen=True)
class Entry:
    """One input that has been read."""

    job: Job
    place: int
    """Its place among the inputs of the request."""
    item: Any
    """What is to be computed."""
    tokens: int = 0
    """The width of its row."""
    group: str | None = None
    """Inputs of equal group may share a batch; None: it is computed alone."""


class Queue:
    """The inputs that wait, at most so many; callers take turns at leading a batch.

    Args:
        most: the most inputs that wait, the unread included.
        batch_tokens: the most tokens of a batch, padding included; an input that is longer is computed alone.
    """

    def __init__(self, most: int, batch_tokens: int) -> None:
        self.most, self.batch_tokens = most, batch_tokens
        self._jobs: dict[str, list[Job]] = {}
        """By caller, the next to lead first."""

    def __len__(self) -> int:
        return sum(job.waiting for job in self._all())

    def admit(self, job: Job) -> None:
        """Take a request in; where there is no room, a caller who has more inputs here gives way with the newest.

        Raises:
            Full: nobody has more than the caller would have.
        """
        while len(self) + job.size > self.most:
            held = {caller: sum(one.waiting for one in jobs) for caller, jobs in self._jobs.items()}
            greediest = max(held, key=held.__getitem__, default=job.caller)
            if held.get(greediest, 0) <= held.get(job.caller, 0) + job.size:
                raise Full
            newest = self._jobs[greediest][-1]
            self.drop(newest)
            if not newest.done.done():
                newest.done.set_result(False)
        self._jobs.setdefault(job.caller, []).append(job)

    def read(self, job: Job, entries: Sequence[Entry], refused: int = 0) -> None:
        """Take note that inputs of a request have been read, unless it has been dropped meanwhile.

        Args:
            job: the request.
            entries: the inputs that can be computed.
            refused: the number of the others.
        """
        if job in self._jobs.get(job.caller, ()):
            job.unread -= len(entries) + refused
            job.ready += entries
            if not job.waiting:
                self.drop(job)

    def drop(self, job: Job) -> None:
        """Forget what waits of a request, if anything."""
        jobs = self._jobs.get(job.caller, [])
        if job in jobs:
            jobs.remove(job)
        if not jobs:
            self._jobs.pop(job.caller, None)

    @property
    def ready(self) -> int:
        """The number of inputs that have been read."""
        return sum(len(job.ready) for job in self._all())

    @property
    def oldest(self) -> float | None:
        """When the oldest request came of which an input has been read; None: there is none."""
        return min((job.since for job in self._all() if job.ready), default=None)

    def fills_a_batch(self) -> bool:
        """Return whether the inputs that have been read are enough for a batch."""
        return sum(entry.tokens for job in self._all() for entry in job.ready) >= self.batch_tokens

    def take(self) -> list[Entry]:
        """Remove and return the next batch; empty if no input has been read.

        It is led by the oldest input of the caller whose turn it is. Others of its group join, in turn of their callers
        and nearest in length first, while the batch has room and little padding.
        """
        caller = next((caller for caller, jobs in self._jobs.items() if any(job.ready for job in jobs)), None)
        if caller is None:
            return []
        leader = next(job.ready[0] for job in self._jobs[caller] if job.ready)
        self._jobs[caller] = self._jobs.pop(caller)  # to the end: it has had its turn
        batch = self._with_company(leader)
        for entry in batch:
            entry.job.ready.remove(entry)
            if not entry.job.waiting:
                self.drop(entry.job)
        return batch

    def _with_company(self, leader: Entry) -> list[Entry]:
        batch, longest, total = [leader], leader.tokens, leader.tokens
        if leader.group is None:
            return batch
        for entry in chain.from_iterable(zip_longest(*(_nearest(jobs, leader) for jobs in self._jobs.values()))):
            if entry is not None:
                width, tokens = max(longest, entry.tokens), total + entry.tokens
                padded = (len(batch) + 1) * width
                if padded <= self.batch_tokens and padded - tokens <= max(FREE_PADDING, MOST_PADDING * padded):
                    batch.append(entry)
                    longest, total = width, tokens
        return batch

    def _all(self) -> Iterator[Job]:
        return chain.from_iterable(self._jobs.values())


def _nearest(jobs: Sequence[Job], leader: Entry) -> list[Entry]:
    """Return the inputs of one caller that may be computed with `leader`, the nearest in length first."""
    entries = (entry for job in jobs for entry in job.ready if entry.group == leader.group and entry is not leader)
    return sorted(entries, key=lambda entry: abs(entry.tokens - leader.tokens))
