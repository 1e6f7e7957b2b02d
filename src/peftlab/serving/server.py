"""A server's processes: a supervisor, which listens, and workers, which answer. The supervisor needs no torch."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from socket import socket
from typing import Any

import uvicorn
from typing_extensions import override
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from peftlab.devices import openmp
from peftlab.runs.find import find
from peftlab.serving import administration
from peftlab.serving.access.guard import Guard
from peftlab.serving.access.listening import check, listen, listen_at, uvicorn_options
from peftlab.serving.observing.running import running
from peftlab.serving.settings import Settings, place_of
from peftlab.serving.shared import Shared, Wanted, opened
from peftlab.serving.workers import worker

log = logging.getLogger("peftlab")

SILENT_S = 60
"""A worker that has not answered its supervisor for so long is started again; in seconds."""


@dataclass(frozen=True)
class Ready:
    """A server whose workers all answer."""

    url: str
    admin: str | None
    """The address of the administration; None: there is none."""
    models: tuple[str, ...]


def serve(settings: Settings, announce: Callable[[Ready], None]) -> None:
    """Serve until a signal ends the process: then take nothing new, and end what has been taken.

    Args:
        settings: what to serve, and where.
        announce: is called once, when all workers answer.

    Raises:
        UserError: a run cannot be served, an address is not free, or listening there would not be safe.
    """
    for run in settings.runs:
        find(place_of(run))
    check(settings)
    _share_cores(settings)
    with ExitStack() as stack:
        folder = stack.enter_context(opened(settings.state))
        settings = replace(settings, state=folder)
        stack.enter_context(running(settings))
        public = stack.enter_context(listen(settings))
        shared = Shared(folder)
        shared.want(Wanted(settings.runs))
        supervisor = Supervisor(_Public(settings), public, shared, announce)
        if settings.admin_port is not None:
            admin = stack.enter_context(listen_at("--admin", settings.admin_host, settings.admin_port, settings))
            supervisor.admin = stack.enter_context(_administered(settings, shared, supervisor, admin))
        supervisor.run()
        if supervisor.failed:
            sys.exit(2)  # the worker has said why


class Supervisor(Multiprocess):
    """uvicorn's supervisor, which says when all workers answer."""

    admin: str | None = None
    """The address of the administration."""

    def __init__(
        self, config: uvicorn.Config, public: socket, shared: Shared, announce: Callable[[Ready], None]
    ) -> None:
        super().__init__(config, [public])
        self._public, self._shared = public, shared
        self._announce: Callable[[Ready], None] | None = announce

    @property
    def pids(self) -> list[int]:
        """The processes of the workers."""
        return [process.pid for process in self.processes if process.pid is not None]

    @property
    def failed(self) -> bool:
        """Whether the workers could not start."""
        return any(process.exitcode == STARTUP_FAILURE for process in self.processes)

    @override
    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        if self._announce and len(workers := self._shared.workers(self.pids)) == len(self.processes):
            self._announce(Ready(_address(self._public, self.config.is_ssl), self.admin, tuple(workers[0].models)))
            self._announce = None


class _Public(uvicorn.Config):
    """The configuration of the public listener, which workers make again from the settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__(
            partial(worker, settings),
            factory=True,
            lifespan="on",
            workers=settings.workers,
            timeout_graceful_shutdown=math.ceil(settings.drain_s),
            timeout_worker_healthcheck=SILENT_S,
            **uvicorn_options(settings),
        )

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.settings,)


@contextmanager
def _administered(settings: Settings, shared: Shared, supervisor: Supervisor, listener: socket) -> Iterator[str]:
    """In the block, answer administrators in a thread; yield the address."""
    guard = Guard(settings, shared.folder, admin=True)
    app = administration.create(shared, guard, lambda: supervisor.pids)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", **uvicorn_options(settings, admin=True)))
    thread = threading.Thread(target=server.run, args=([listener],), name="administration", daemon=True)
    thread.start()
    try:
        yield _address(listener, server.config.is_ssl)
    finally:
        server.should_exit = server.force_exit = True
        thread.join(timeout=5)


def _share_cores(settings: Settings) -> None:
    """Have workers compute with their share of the cores, and sleep while there is nothing to compute."""
    cpu = openmp.measured(0.0)
    if settings.workers > cpu.usable:
        log.warning("%d workers share %g cores: they will wait for one another", settings.workers, cpu.usable)
    threads, _ = openmp.threads_each(os.environ, cpu, settings.threads, settings.workers)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if not any(name in os.environ for name in openmp.WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def _address(listener: socket, encrypted: bool) -> str:
    """Return the URL of a listener, or the path of a Unix socket."""
    name = listener.getsockname()
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{'https' if encrypted else 'http'}://{host}:{name[1]}"
