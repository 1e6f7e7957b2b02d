"""The process of several trials of a sweep, a child of the fork server; imports as little as `peftlab.sweep.worker`."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from peftlab.masking.mask import remember
from peftlab.masking.streams import masked_pipe
from peftlab.seams.python import run_exit_functions
from peftlab.sweep.worker import PRUNED, Order, Reporter, begin
from peftlab.terminal.exits import user_exits
from peftlab.terminal.signals import Interrupted, Pruned

if TYPE_CHECKING:
    from peftlab.packing.pack import Seat

ENDED = "ended"
"""The kind of a trial's last message, which tells the exit code that it would have had alone."""


def work_together(orders: Sequence[Order], connections: Sequence[Connection]) -> None:
    """Run several trials; each reports on its own connection, as `peftlab.sweep.worker.work` does."""
    for order in orders:
        remember(order.config)  # before any output is masked
    begin(orders[0].environment, orders[0].output)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes its background jobs ignore it
    from peftlab.packing.pack import Pack

    def ended(seat: Seat) -> None:
        error, result = seat.turns.error, seat.turns.result
        code = error.exit_code if isinstance(error, Interrupted) else result if isinstance(result, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
        connection = connections[seat.number]
        with suppress(OSError):  # the controller is gone
            connection.send((ENDED, code))
        connection.close()

    outputs = [masked_pipe(order.output) for order in orders]
    try:
        Pack([partial(_run, *both) for both in zip(orders, connections, strict=True)], outputs).run(ended)
    finally:
        for output in outputs:
            os.close(output)
        run_exit_functions()  # wandb ends its own process there


def _run(order: Order, connection: Connection, seat: Seat) -> int:
    """Run a trial; return the exit code that a process of its own would end with."""
    from omegaconf import OmegaConf

    from peftlab.one_run import run

    try:
        with user_exits():
            reporter = Reporter(connection)
            reporter.began()
            run(OmegaConf.create(order.config), order.command, order.overrides, reporter, seat)
    except Pruned:
        return PRUNED
    except SystemExit as end:
        return _code(end)
    except BaseException:  # noqa: BLE001  # as at the end of a process
        traceback.print_exc()
        return 1
    return 0


def _code(end: SystemExit) -> int:
    code: Any = end.code
    return code if isinstance(code, int) else 1
