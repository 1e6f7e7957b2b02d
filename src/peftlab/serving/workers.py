"""A worker: a process with the models in its memory, which answers until its supervisor ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from multiprocessing import parent_process
from typing import TYPE_CHECKING

from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from peftlab.errors import DiskError, UserError
from peftlab.imports import without_collecting
from peftlab.serving.events import Observer
from peftlab.serving.settings import Settings
from peftlab.serving.shared import Shared, Wanted, Worker
from peftlab.terminal.console import start_logging
from peftlab.terminal.exits import fail

if TYPE_CHECKING:
    from peftlab.serving.batching import Batcher
    from peftlab.serving.models.models import Models

log = logging.getLogger("peftlab")

LOOKS_S = 0.25
"""How often a worker looks whether something else is wanted of it, in seconds."""


def worker(settings: Settings) -> FastAPI:
    """Return the application of this process, with the models loaded; a run that cannot be used ends the process."""
    assert settings.state is not None
    start_logging(stderr=True)
    shared = Shared(settings.state)
    wanted = shared.wanted
    with without_collecting():
        from peftlab.serving.access.guard import Guard
        from peftlab.serving.app import create
        from peftlab.serving.models.models import Models
        from peftlab.serving.observing.observers import observer_of
    try:
        models = Models(
            wanted.runs,
            allow=settings.allow,
            precision=settings.precision,
            device=settings.device,
            mask=settings.mask,
            fallback=settings.fallback,
        )
        observer, guard = observer_of(settings, models), Guard(settings, shared.folder)
    except UserError as error:
        # where others serve, this one is started again, as it may be a matter of memory or of the disk
        fail(str(error), code=1 if any(shared.folder.glob("worker-*.json")) else STARTUP_FAILURE)
    names = dict(zip(wanted.runs, models.names, strict=True))
    return create(settings, models, observer, guard, meanwhile=Following(shared, models, names, observer))


class Following:
    """Does what is wanted of a worker while it serves.

    Args:
        shared: says what is wanted, and is told what is done.
        models: the models.
        names: the names of the models by run.
        observer: is told of changes.
    """

    def __init__(self, shared: Shared, models: Models, names: dict[str, str], observer: Observer) -> None:
        self._shared, self._models, self._names, self._observer = shared, models, names, observer

    async def __call__(self, batcher: Batcher) -> None:
        """Look again and again, whatever fails; without a supervisor, end the process as one that is told to."""
        supervisor, followed, failed = parent_process(), None, ""
        while supervisor is None or os.getppid() == supervisor.pid:  # it may have died while the models were loaded
            try:
                wanted = self._shared.wanted
                if wanted != followed:
                    await self._follow(wanted, batcher)
                    followed = wanted
            except (OSError, DiskError):
                pass  # if somebody has cleaned up, what is served stays
            except Exception as error:
                if failed != repr(error):
                    log.exception("what is wanted of this worker fails; it serves on, and tries again")
                failed = repr(error)
            await asyncio.sleep(LOOKS_S)
        signal.raise_signal(signal.SIGTERM)

    async def _follow(self, wanted: Wanted, batcher: Batcher) -> None:
        """Do what is wanted, and report it."""
        batcher.draining = wanted.draining
        errors = await batcher.on_models(self._load, wanted)
        models = {name: run for run, name in self._names.items()}
        self._shared.report(Worker(os.getpid(), wanted.version, models, errors))
        self._observer.loaded([self._models.card(name) for name in self._models.names])

    def _load(self, wanted: Wanted) -> dict[str, str]:
        """Load and unload models; return the runs that cannot be loaded, and why."""
        errors = {}
        for run in [run for run in self._names if run not in wanted.runs]:
            self._models.remove(self._names.pop(run))
        for run in [run for run in wanted.runs if run not in self._names]:
            try:
                self._names[run] = self._models.add(run)
            except Exception as error:  # noqa: BLE001  # whatever it is, the others are served
                errors[run] = str(error) if isinstance(error, UserError) else repr(error)
        return errors
