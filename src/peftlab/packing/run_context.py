"""The state of a process that belongs to one run, while several runs take turns in it."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.random import mtrand
from torch import Tensor

from peftlab.terminal.console import console, log

SEED = "PL_GLOBAL_SEED"
"""The environment variable in which Lightning keeps the seed for the workers of loaders."""


@dataclass
class RandomStates:
    """The states of the random generators of Python, NumPy and torch."""

    python: Any = field(default_factory=random.getstate)
    numpy: Any = field(default_factory=np.random.MT19937)
    """NumPy's global bit generator itself, which is exchanged faster than its state."""
    cpu: Tensor = field(default_factory=torch.get_rng_state)
    """Of torch's generator for the CPU, shape (bytes,)."""
    cuda: Tensor | None = None
    """Of the generator for the present GPU, shape (bytes,); None: CUDA is not in use."""

    @classmethod
    def of_the_process(cls) -> RandomStates:
        """Return those of the process."""
        states = cls(numpy=mtrand.get_bit_generator())
        states.keep()
        return states

    def keep(self) -> None:
        """Keep those that the process has now."""
        self.python, self.numpy = random.getstate(), mtrand.get_bit_generator()
        self.keep_torch()

    def put(self) -> None:
        """Make them those of the process."""
        random.setstate(self.python)
        mtrand.set_bit_generator(self.numpy)
        self.put_torch()

    def put_torch(self) -> None:
        """Make those of torch the process's: a forward pass draws from no others."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)

    def keep_torch(self) -> None:
        """Keep those that torch has now."""
        self.cpu = torch.get_rng_state()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            self.cuda = torch.cuda.get_rng_state()  # a seed and an offset, which lie on the host


@dataclass
class RunContext:
    """The process-wide state of one run.

    It consists of the random generators, the handlers of peftlab's log, the standard streams, what the descriptors 1
    and 2 lead to, and Lightning's seed. Settings of torch are not among it: they follow from the configuration of the
    hardware, which runs in one process share.
    """

    output: int | None = None
    """A descriptor for the run's output; None: that of the process."""
    randoms: RandomStates = field(default_factory=RandomStates)
    handlers: list[logging.Handler] = field(default_factory=lambda: list(log.handlers))
    streams: tuple[Any, Any] = field(default_factory=lambda: (sys.stdout, sys.stderr))
    lost: object = field(default_factory=lambda: console.lost)
    """The stream of the console that has failed."""
    seed: str | None = field(default_factory=lambda: os.environ.get(SEED))

    @contextmanager
    def current(self) -> Iterator[None]:
        """In the block, the process has the state of this run."""
        others = RunContext(randoms=RandomStates.of_the_process())
        with _output_to(self.output):
            self.put()
            try:
                yield
            finally:
                self._keep()
                others.put()

    def _keep(self) -> None:
        self.randoms.keep()
        self.handlers, self.streams = list(log.handlers), (sys.stdout, sys.stderr)
        self.lost, self.seed = console.lost, os.environ.get(SEED)

    def put(self) -> None:
        """Give the process the state of this run."""
        self.randoms.put()
        log.handlers[:] = self.handlers
        sys.stdout, sys.stderr = self.streams
        console.lost = self.lost
        if self.seed is None:
            os.environ.pop(SEED, None)
        else:
            os.environ[SEED] = self.seed


@contextmanager
def _output_to(descriptor: int | None) -> Iterator[None]:
    """In the block, have the descriptors 1 and 2 lead to where `descriptor` does."""
    if descriptor is None:
        yield
        return
    _flush()
    before = [os.dup(number) for number in (1, 2)]
    try:
        for number in (1, 2):
            os.dup2(descriptor, number)
        yield
    finally:
        _flush()
        for number, other in zip((1, 2), before, strict=True):
            os.dup2(other, number)
            os.close(other)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, full, or none
            stream.flush()
