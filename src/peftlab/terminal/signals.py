"""End a run early: by a signal from outside, or by its sweep. Imports nothing heavy."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, ClassVar, Self

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 143}
"""The signals that end a run, with their exit codes: from a user, a scheduler that stops or preempts the job, and one
that announces it."""


class Interrupted(BaseException):
    """A signal asked the run to end. Not a KeyboardInterrupt, which Lightning would turn into exit code 1."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = SIGNALS[signal.Signals(signum)]


class Pruned(BaseException):  # like `Interrupted`, no error
    """The sweep has ended the run at an evaluation, with a checkpoint: other runs do better."""


class Signals:
    """Turns `SIGNALS` into `Interrupted`, at once or, while `hold` is set, when `raise_pending` is called.

    `pending` is the held-back signal. A second signal ends the process at once. Use it as a context. Only the main
    thread handles signals; those that it receives are held back in the contexts of all other threads as well.

    At once means wherever Python happens to be: in some places it drops every exception (the hooks around a fork,
    finalizers), in others an exception leaves a lock or a file half done. Hold as soon as there is something to lose.
    """

    taken: ClassVar[int | None] = None
    """The last signal that this process received."""
    in_threads: ClassVar[list[Signals]] = []
    """The contexts in other threads than the main one."""
    around: ClassVar[Signals | None] = None
    """The context in the main thread."""

    def __init__(self) -> None:
        self.hold = False
        self.pending: int | None = None
        self._before: dict[int, Any] = {}
        self._outer: Signals | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        if threading.current_thread() is threading.main_thread():
            self._outer, Signals.around = Signals.around, self
            for number in self._before:
                signal.signal(number, self._received)
        else:
            Signals.in_threads.append(self)
            if Signals.around is not None and Signals.around.hold:  # it may have received one before this one began
                self.pending = self.pending or Signals.around.pending
        return self

    def __exit__(self, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)
            Signals.around = self._outer
        else:
            Signals.in_threads.remove(self)

    def raise_pending(self) -> None:
        """Raise `Interrupted` where a signal was held back."""
        if self.pending is not None:
            raise Interrupted(self.pending)

    def _received(self, number: int, _frame: FrameType | None) -> None:
        for later in self._before:
            signal.signal(later, signal.SIG_DFL)
        self.pending = Signals.taken = number
        for each in Signals.in_threads:
            each.pending = number
        if not self.hold:
            raise Interrupted(number)
