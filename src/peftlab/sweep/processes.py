"""Starts and ends the processes of a sweep with a fork server that has the heavy imports loaded.

This is Python's own fork server, one per process, see `peftlab.devices.fork_server`. It only imports (see `preload`),
so that a child starts in a few hundredths of a second as if it had just done so itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from peftlab.devices.fork_server import fork_server
from peftlab.errors import ConfigError
from peftlab.masking.streams import wait_until_written
from peftlab.sweep.pack_worker import ENDED, work_together
from peftlab.sweep.worker import BEGAN, PRUNED, Order, look, work
from peftlab.terminal.signals import SIGNALS


@dataclass
class TrialProcess:
    """A running or just ended trial."""

    process: ForkServerProcess
    connection: Connection
    asked_to_end: bool = field(default=False, init=False)
    _listens: bool = field(default=False, init=False)
    """Whether it handles signals: before, a signal is lost or kills it."""

    @classmethod
    def start(cls, context: ForkServerContext, order: Order) -> TrialProcess:
        """Start a trial; without the fork server running, that starts too."""
        fork_server()
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(order, theirs), name="trial")
        process.start()
        theirs.close()
        return cls(process, ours)

    def messages(self) -> list[tuple[Any, ...]]:
        """Return the unread messages of the trial."""
        messages = []
        with contextlib.suppress(EOFError, OSError):
            while self.connection.poll():
                messages.append(self.connection.recv())
        if BEGAN in messages:
            messages.remove(BEGAN)
            self._listens = True
            if self.asked_to_end:
                self.send(signal.SIGINT)
        return messages

    def keep_going(self) -> None:
        """Answer every reported validation with "go on"."""
        for kind, *_ in self.messages():
            if kind == "validated":
                self.answer(True)

    def answer(self, goes_on: bool) -> None:
        """Answer a validation."""
        with contextlib.suppress(OSError):
            self.connection.send(goes_on)

    def ask_to_end(self) -> None:
        """Ask it to checkpoint and end at its next step; the second time, at once.

        If it does not handle signals yet, `messages` sends the signal once it does.
        """
        again, self.asked_to_end = self.asked_to_end, True
        if self._listens:
            self.send(signal.SIGINT)
        elif again:
            self.send(signal.SIGKILL)

    def ended(self) -> bool:
        """Return whether it has ended; if so, kill its process group."""
        if self.process.exitcode is None:
            return False
        for end in (os.killpg, os.kill):  # a killed server does not know whether its children are alive
            with contextlib.suppress(ProcessLookupError, PermissionError):
                end(self._pid, signal.SIGKILL)
        self.connection.close()
        return True

    @property
    def exitcode(self) -> int | None:
        """The exit code; None while it runs."""
        return self.process.exitcode

    @property
    def how(self) -> str:
        """How it ended, from its exit code."""
        code = self.exitcode
        if code is not None and code < 0:
            hint = ": is memory short?" if -code == signal.SIGKILL else ""
            return f"ended by {signal.Signals(-code).name}{hint}"
        if code in SIGNALS.values():
            return "interrupted by somebody else"
        return "pruned" if code == PRUNED else f"ended with exit code {code}"

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its process, if that still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, number)

    @property
    def _pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid


@dataclass
class PackedTrial(TrialProcess):
    """A trial in a process that it shares with others."""

    others: list[PackedTrial] = field(default_factory=list, init=False)
    """The other trials of the process."""
    _code: int | None = field(default=None, init=False)
    _unread: list[tuple[Any, ...]] = field(default_factory=list, init=False)
    signals: int = field(default=0, init=False)
    """Signals that it wanted to be sent."""
    left: bool = field(default=False, init=False)
    """Whether it has ended."""

    @classmethod
    def start_together(cls, context: ForkServerContext, orders: Sequence[Order]) -> list[PackedTrial]:
        """Start several trials in one process; without the fork server running, that starts too."""
        fork_server()
        pipes = [context.Pipe() for _ in orders]
        process = context.Process(target=work_together, args=(orders, [theirs for _, theirs in pipes]), name="pack")
        process.start()
        for _, theirs in pipes:
            theirs.close()
        trials = [cls(process, ours) for ours, _ in pipes]
        for trial in trials:
            trial.others = [other for other in trials if other is not trial]
        return trials

    def messages(self) -> list[tuple[Any, ...]]:
        """Return the unread messages of the trial."""
        messages = [*self._unread, *super().messages()]
        self._unread = []
        for kind, *values in messages:
            if kind == ENDED:
                (self._code,) = values
        return [message for message in messages if message[0] != ENDED]

    def ended(self) -> bool:
        """Return whether it has ended; the last of its process, only when that has ended as well."""
        dead = self.process.exitcode is not None
        self._unread = self.messages()
        if self._code is None and not dead:
            return False
        self.connection.close()
        if all(other.left for other in self.others):  # a slot is free when its process is gone
            self.left = super().ended()
        else:
            self.left = True
        return self.left

    @property
    def exitcode(self) -> int | None:
        """The exit code that a process of its own would have had, or that of the process."""
        return self.process.exitcode if self._code is None else self._code

    def send(self, number: signal.Signals) -> None:
        """Send a signal, once for all trials of the process."""
        self.signals += 1
        if all(other.signals < self.signals for other in self.others):
            super().send(number)


def wait_for(trials: Sequence[TrialProcess], seconds: float) -> None:
    """Return when a trial sends a message or ends, or after `seconds`."""
    connections = [trial.connection for trial in trials if not trial.connection.closed]
    wait([*{trial.process.sentinel for trial in trials}, *connections], seconds)  # trials may share a process


class Looker:
    """Checks cells in a separate process, see `peftlab.sweep.worker.look`; it starts with the first question."""

    def __init__(self, environment: Mapping[str, str], output: Path) -> None:
        self.environment, self._output = environment, output
        self._connection: Connection | None = None
        self._process: ForkServerProcess | None = None

    def _begin(self) -> tuple[Connection, ForkServerProcess]:
        if self._connection is None or self._process is None:
            context = fork_server()
            ours, theirs = context.Pipe()
            of_it = (self.environment, self._output, theirs)
            process = context.Process(target=look, args=of_it, name="looker", daemon=True)
            process.start()
            theirs.close()
            self._connection, self._process = ours, process
        return self._connection, self._process

    def ask(self, name: str, *arguments: Any) -> Any:
        """Return the answer of a method of `peftlab.sweep.worker._Looker`.

        Raises:
            ConfigError: the cell cannot run.
            RuntimeError: the process has died.
        """
        self.send(name, *arguments)
        return self.receive()

    def send(self, name: str, *arguments: Any) -> Connection:
        """Ask the same, and return the connection on which the answer arrives, for `receive`."""
        connection, _ = self._begin()
        with contextlib.suppress(OSError):  # it has died, as `receive` says
            connection.send((name, *arguments))
        return connection

    def receive(self) -> Any:
        """Return the answer to the last question; raises what `ask` raises."""
        connection, process = self._begin()
        try:
            succeeded, answer = connection.recv()
        except (EOFError, OSError) as error:
            process.join()
            if self._output.exists():
                wait_until_written(self._output, 5.0)
            tail = self._output.read_text(encoding="utf-8", errors="replace")[-2000:] if self._output.exists() else ""
            code = process.exitcode
            raise RuntimeError(f"the process that checks trials has died, exit code {code}\n{tail}") from error
        if not succeeded:
            raise ConfigError(answer)
        return answer

    def close(self) -> None:
        """End the process, if it has begun."""
        if self._connection is None or self._process is None:
            return
        self._connection.close()
        self._process.join(10)
        if self._process.exitcode is None:
            self._process.kill()
