from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.unit.serving.stand_in import StandIn

from peftlab.serving.batching import Batcher
from peftlab.serving.events import Observer
from peftlab.serving.settings import Settings, place_of
from peftlab.serving.shared import Shared, Wanted, Worker
from peftlab.serving.workers import Following


class Noting(Observer):
    models: tuple[str, ...] = ()

    def loaded(self, cards: Any) -> None:
        self.models = tuple(card.name for card in cards)


def followed(folder: Path, do: Callable[[Shared, Batcher, Noting], Coroutine[Any, Any, None]]) -> None:
    """Have a worker with the model ``ner`` follow what is wanted while `do` lasts."""

    async def run() -> None:
        shared, models, noting = Shared(folder), StandIn(), Noting()
        models.names = ("ner",)
        shared.want(Wanted(("ner=run",)))
        following = Following(shared, models, {"ner=run": "ner"}, noting)
        async with asyncio.timeout(20), Batcher(models, Settings(runs=()), noting) as batcher:
            task = asyncio.create_task(following(batcher))
            await do(shared, batcher, noting)
            task.cancel()

    asyncio.run(run())


async def reported(shared: Shared, version: int) -> Worker:
    """Return what this process reports once it has followed that version."""
    while not (workers := shared.workers([os.getpid()])) or workers[0].version != version:
        await asyncio.sleep(0.01)
    return workers[0]


def test_a_worker_loads_and_unloads_what_is_wanted_and_says_what_it_cannot(tmp_path):
    async def do(shared: Shared, batcher: Batcher, noting: Noting) -> None:
        assert (await reported(shared, 0)).models == {"ner": "ner=run"}
        runs = ("ner=run", "tone=run", "odd=missing")
        shared.want(replace(shared.wanted, runs=runs, version=1))
        worker = await reported(shared, 1)
        assert worker.models == {"ner": "ner=run", "tone": "tone=run"}
        assert worker.errors == {"odd=missing": "there is no such run"}
        shared.want(Wanted(("tone=run",), draining=True, version=2))
        assert (await reported(shared, 2)).models == {"tone": "tone=run"}
        assert batcher.draining
        assert noting.models == ("tone",)

    followed(tmp_path, do)


def test_a_worker_whose_folder_is_gone_serves_on(tmp_path):
    async def do(shared: Shared, batcher: Batcher, noting: Noting) -> None:
        await reported(shared, 0)
        (tmp_path / "wanted.json").unlink()
        await asyncio.sleep(0.6)
        shared.want(Wanted(("ner=run",), draining=True, version=1))
        await reported(shared, 1)

    followed(tmp_path, do)


def test_a_worker_whose_folder_is_garbled_says_so_once_and_follows_on(tmp_path, caplog):
    async def do(shared: Shared, batcher: Batcher, noting: Noting) -> None:
        await reported(shared, 0)
        (tmp_path / "wanted.json").write_text("[]")
        await asyncio.sleep(0.9)
        shared.want(Wanted(("ner=run",), draining=True, version=1))
        await reported(shared, 1)

    followed(tmp_path, do)
    assert caplog.messages == ["what is wanted of this worker fails; it serves on, and tries again"]


def test_the_place_of_a_run_may_have_a_name_before_it_or_the_sign_in_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [place_of(run) for run in ("3f9c", "ner=3f9c", "ner=runs/a=b")] == ["3f9c", "3f9c", "runs/a=b"]
    (tmp_path / "a=b").mkdir()
    assert place_of("a=b") == "a=b"
