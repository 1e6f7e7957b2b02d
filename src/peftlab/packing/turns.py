"""Threads that take turns: exactly one of them runs at a time, and only where it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from peftlab.packing.run_context import RunContext

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Turns(threading.Thread, Generic[Asked, Answer]):
    """A thread that runs `work` in turns, each up to its next question.

    Args:
        work: what it runs; gets this object, of which it may `ask`.
        context: the process-wide state during its turns.
    """

    def __init__(self, work: Callable[[Turns[Asked, Answer]], object], context: RunContext) -> None:
        super().__init__(daemon=True)
        self.work, self.context = work, context
        self.asked: Asked | None = None
        """The question with which the last turn ended; None: none yet, or the work is over."""
        self.over = False
        self.result: object = None
        """What `work` has returned."""
        self.error: BaseException | None = None
        """What `work` has raised."""
        self._answer: Answer | None = None
        self._go_on, self._done = threading.Semaphore(0), threading.Semaphore(0)

    @property
    def begun(self) -> bool:
        """Whether the work has begun."""
        return self.ident is not None

    def cancel(self, error: BaseException) -> None:
        """End work that has not begun, with `error`."""
        self.error, self.over = error, True

    def take(self, answer: Answer | None = None) -> None:
        """Let the thread run to its next question, which `answer` answers, or to its end; wait meanwhile."""
        self.asked, self._answer = None, answer
        with self.context.current():
            if not self.begun:
                self.start()
            self._go_on.release()
            self._done.acquire()

    def ask(self, question: Asked) -> Answer:
        """End the turn, and return the answer to `question` at the beginning of the next; for the thread itself."""
        self.asked = question
        self._done.release()
        self._go_on.acquire()
        answer, self._answer = self._answer, None
        assert answer is not None
        return answer

    def run(self) -> None:
        """Run `work` in turns; for `threading.Thread`."""
        self._go_on.acquire()
        try:
            self.result = self.work(self)
        except BaseException as error:  # noqa: BLE001  # whoever takes the turns decides
            self.error = error
        finally:
            self.over = True
            self._done.release()
