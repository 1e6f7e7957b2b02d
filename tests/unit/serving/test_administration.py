from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from peftlab.serving import administration
from peftlab.serving.access.refusals import Refusal
from peftlab.serving.administration import Workers
from peftlab.serving.shared import Shared, Wanted, Worker


@pytest.fixture
def administrated(tmp_path, monkeypatch) -> Callable[..., tuple[list[Any], Wanted]]:
    """Return what has several changes made at once, by a worker that cannot load "no=bad"."""
    monkeypatch.setattr(administration, "find", lambda run: run)
    shared = Shared(tmp_path)
    shared.want(Wanted(("ner=a",)))

    async def follow() -> None:
        while True:
            wanted = shared.wanted
            models = {run.partition("=")[0]: run for run in wanted.runs if "bad" not in run}
            shared.report(Worker(1, wanted.version, models, {run: "too large" for run in wanted.runs if "bad" in run}))
            await asyncio.sleep(0.01)

    def make(*changes: Callable[[Workers], Coroutine[Any, Any, None]]) -> tuple[list[Any], Wanted]:
        async def run() -> list[Any]:
            following, workers = asyncio.create_task(follow()), Workers(shared, lambda: [1])
            try:
                return await asyncio.gather(*(change(workers) for change in changes), return_exceptions=True)
            finally:
                following.cancel()

        return asyncio.run(run()), shared.wanted

    return make


def test_changes_at_once_are_made_one_after_another(administrated):
    results, wanted = administrated(
        lambda workers: workers.load("tone=b"),
        lambda workers: workers.load("no=bad"),
        lambda workers: workers.load("topics=c"),
        lambda workers: workers.unload("ner"),
        lambda workers: workers.drain(True),
    )
    assert wanted.runs == ("tone=b", "topics=c")
    assert wanted.draining
    assert [type(result) for result in results] == [type(None), Refusal, type(None), type(None), type(None)]
    assert (results[1].status, results[1].message) == (422, "too large")


def test_what_cannot_be_changed_is_refused(administrated):
    results, wanted = administrated(
        lambda workers: workers.load("ner=a"),
        lambda workers: workers.unload("tone"),
        lambda workers: workers.unload("ner"),
    )
    assert [result.code for result in results] == ["loaded", "unknown_model", "last"]
    assert wanted == Wanted(("ner=a",))
