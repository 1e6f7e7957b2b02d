"""Processes that train the clients of a round side by side; one that dies is replaced, and its client trains again."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from peftlab.errors import RunError, UserError
from peftlab.federated.local import LocalTraining, Order
from peftlab.terminal.signals import SIGNALS

log = logging.getLogger("peftlab")

TRIES = 3
"""How often a client may die in a round."""
_LISTENS = 0.2
"""Seconds between two looks at whether the run has to end."""


@dataclass
class Worker:
    """A process that trains clients, and the one that it trains now."""

    process: ForkServerProcess
    connection: Connection
    order: Order | None = field(default=None, init=False)

    def send(self, order: Order) -> None:
        """Have it train a client."""
        self.order = order
        with suppress(OSError):  # it has died, as is seen next
            self.connection.send(order)


class Workers:
    """Trains clients in processes of their own.

    Args:
        number: the number of processes.
        context: starts them.
        target: the work of a process, `serve` in the end, given `arguments` and a connection.
        arguments: what is sent to it.
        let_through: called again and again while clients train; may raise to end the run.
    """

    def __init__(
        self,
        number: int,
        context: Callable[[], ForkServerContext],
        target: Callable[..., None],
        arguments: Sequence[Any],
        let_through: Callable[[], None],
    ) -> None:
        self.number, self.context, self.target, self.arguments = number, context, target, arguments
        self.let_through = let_through
        self.workers: list[Worker] = []

    def __call__(self, orders: Sequence[Order]) -> None:
        """Train the clients of `orders`.

        Raises:
            RunError: a client cannot be trained, or its process has died `TRIES` times.
        """
        waiting, deaths = list(orders), Counter[int]()
        while waiting or any(worker.order for worker in self.workers):
            idle = [worker for worker in self.workers if worker.order is None]
            while waiting and (idle or len(self.workers) < self.number):
                (idle.pop() if idle else self._start()).send(waiting.pop(0))
            wait([worker.connection for worker in self.workers], _LISTENS)
            self.let_through()
            for worker in list(self.workers):
                if (order := worker.order) is not None and not self._is_at_work(worker):
                    self.workers.remove(worker)
                    deaths[order.number] += 1
                    code = worker.process.exitcode
                    if deaths[order.number] >= TRIES:
                        raise RunError(
                            f"client {order.client}: in round {order.round + 1}, its process ended {TRIES} times, the "
                            f"last time with exit code {code}: is memory short? Lower federated.processes"
                        )
                    log.warning("client %s: its process ended with exit code %s; it trains again", order.client, code)
                    waiting.insert(0, order)

    def close(self) -> None:
        """End the processes."""
        for worker in self.workers:
            worker.connection.close()
            if worker.order is not None:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(10)
            if worker.process.exitcode is None:
                worker.process.kill()
        self.workers = []

    def _start(self) -> Worker:
        context = self.context()
        ours, theirs = context.Pipe()
        process = context.Process(target=self.target, args=(*self.arguments, theirs), name="client", daemon=False)
        process.start()
        theirs.close()
        self.workers.append(Worker(process, ours))
        return self.workers[-1]

    def _is_at_work(self, worker: Worker) -> bool:
        """Return whether a worker lives; note that its client is done.

        Raises:
            RunError: its client cannot be trained.
        """
        try:
            if worker.connection.poll():
                error = worker.connection.recv()
                order, worker.order = worker.order, None
                assert order is not None
                if error is not None:
                    raise RunError(f"client {order.client}, round {order.round + 1}: {error}")
            return True
        except (EOFError, OSError):
            worker.process.join(10)
            return False


def serve(training: LocalTraining, connection: Connection) -> None:
    """Train the clients that `connection` orders, until it closes; answer each with None, or with what is wrong."""
    while True:
        try:
            order = connection.recv()
        except (EOFError, OSError):
            return
        error = None
        try:
            training.train(order)
        except (UserError, RunError) as failed:
            error = str(failed)
        except MemoryError:  # a new process may have the room
            raise
        except Exception as failed:  # noqa: BLE001  # it would be the same in a new process
            traceback.print_exc()
            error = f"{type(failed).__name__}: {failed}"
        try:
            connection.send(error)
        except OSError:  # the run has ended
            return


def ignore_signals() -> None:
    """Leave it to the run's own process to end this one: a terminal sends its signals to both."""
    import signal

    for number in SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
