"""The second listener: numbers for Prometheus, and what the workers serve. It is no worker, and has no models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from peftlab.errors import UserError
from peftlab.runs.find import find
from peftlab.serving.access.guard import Guard
from peftlab.serving.access.refusals import Refusal
from peftlab.serving.observing.running import CONTENT_TYPE, exposition
from peftlab.serving.replies import json_response, misshapen, unrouted
from peftlab.serving.settings import place_of
from peftlab.serving.shared import Shared, Worker

PATIENCE_S = 120.0
"""The longest that all workers may take to load a run, in seconds."""


class Load(BaseModel):
    """A run to load."""

    model_config = ConfigDict(extra="forbid")

    run: str = Field(min_length=1, max_length=4096, description="a folder or the start of an id, or NAME=RUN")


def create(shared: Shared, guard: Guard, pids: Callable[[], Sequence[int]]) -> FastAPI:
    """Return the application of the listener of administration.

    Args:
        shared: what the workers are told by, and tell.
        guard: lets administrators in.
        pids: returns the processes of the workers.
    """
    workers = Workers(shared, pids)
    app = FastAPI(
        title="peftlab administration",
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )

    @app.get("/metrics")
    def metrics() -> Response:
        """Show the numbers of all workers, in Prometheus's text format."""
        return Response(exposition(), media_type=CONTENT_TYPE)

    @app.get("/livez")
    async def alive() -> Response:
        """Say that the supervisor is alive."""
        return json_response({"status": "alive"})

    @app.get("/admin/models")
    async def models() -> Response:
        """Show which models each worker serves."""
        return json_response(workers.state)

    @app.post("/admin/models")
    async def load(asked: Load) -> Response:
        """Have all workers load a run; if one of them cannot, none keeps it."""
        await workers.load(asked.run)
        return json_response(workers.state)

    @app.delete("/admin/models/{name}")
    async def unload(name: str) -> Response:
        """Have all workers unload a model."""
        await workers.unload(name)
        return json_response(workers.state)

    @app.post("/admin/drain")
    async def drain() -> Response:
        """Have all workers refuse new requests, and end those that they have."""
        await workers.drain(True)
        return json_response(workers.state)

    @app.delete("/admin/drain")
    async def resume() -> Response:
        """Have all workers take requests again."""
        await workers.drain(False)
        return json_response(workers.state)

    app.add_exception_handler(RequestValidationError, misshapen)
    app.add_exception_handler(HTTPException, unrouted)
    app.add_middleware(guard.around)
    return app


class Workers:
    """The workers of a server, as they are told what to serve; one change at a time.

    Args:
        shared: what they are told by, and tell.
        pids: returns their processes.
    """

    def __init__(self, shared: Shared, pids: Callable[[], Sequence[int]]) -> None:
        self._shared, self._pids = shared, pids
        self._changing = asyncio.Lock()

    @property
    def state(self) -> dict[str, Any]:
        """What is wanted of all, and what each serves."""
        wanted, workers = self._shared.wanted, self._shared.workers(self._pids())
        shown = [{**vars(worker), "current": worker.version == wanted.version} for worker in workers]
        return {**vars(wanted), "workers": shown}

    async def load(self, run: str) -> None:
        """Have all load a run.

        Raises:
            Refusal: it is loaded, there is none, or one of them cannot load it, and then none keeps it.
        """
        try:
            find(place_of(run))
        except UserError as error:
            raise Refusal(422, "invalid", str(error)) from None
        async with self._changing:
            runs = self._shared.wanted.runs
            if run in runs:
                raise Refusal(409, "loaded", "the run is loaded already")
            workers = await self._follow(runs=(*runs, run))
            if errors := [worker.errors[run] for worker in workers if run in worker.errors]:
                await self._follow(runs=runs)
                raise Refusal(422, "invalid", errors[0])

    async def unload(self, name: str) -> None:
        """Have all unload a model.

        Raises:
            Refusal: there is no such model, or no other.
        """
        async with self._changing:
            workers = self._shared.workers(self._pids())
            runs = {worker.models[name] for worker in workers if name in worker.models}
            if not runs:
                raise Refusal(404, "unknown_model", "there is no such model; GET /admin/models lists them")
            left = tuple(run for run in self._shared.wanted.runs if run not in runs)
            if not left:
                raise Refusal(409, "last", "it is the only model, and a server has at least one")
            await self._follow(runs=left)

    async def drain(self, draining: bool) -> None:
        """Have all refuse new requests, or take them again.

        Raises:
            Refusal: that takes too long.
        """
        async with self._changing:
            await self._follow(draining=draining)

    async def _follow(self, **wanted: Any) -> list[Worker]:
        """Have all serve what is `wanted`, fields of `peftlab.serving.shared.Wanted`; return them when they do.

        Raises:
            Refusal: that takes too long.
        """
        before = self._shared.wanted
        self._shared.want(replace(before, **wanted, version=before.version + 1))
        late = time.monotonic() + PATIENCE_S
        while time.monotonic() < late:
            pids = self._pids()
            workers = self._shared.workers(pids)
            if len(workers) == len(pids) and all(worker.version == before.version + 1 for worker in workers):
                return workers
            await asyncio.sleep(0.1)
        raise Refusal(504, "timeout", "not all workers have done it yet; GET /admin/models shows them")
