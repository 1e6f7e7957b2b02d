"""Load that waits for no answer, on servers of a few lines that do as they are told."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from peftlab.errors import UserError
from peftlab.serving.load import Latency, Load, _latency, is_loopback, put_on

pytest.importorskip("httptools")

Behaviour = Callable[[int], "tuple[float, int, str] | None"]
"""By the number of a request: after how many seconds it is answered with which status and code; None: never."""


@contextmanager
def serving(
    behaviour: Behaviour, keeps: bool = True, answers: Sequence[dict] = ({},)
) -> Iterator[tuple[str, list[dict]]]:
    """Serve on loopback until the block ends; yields the address and the requests."""
    asked: list[dict] = []
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    place: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                route, *lines = head.decode().split("\r\n")
                headers = dict(line.split(": ", 1) for line in lines if line)
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                asked.append({"route": route, "headers": headers, **body})
                told = behaviour(len(asked) - 1)
                if told is None:
                    break
                seconds, status, code = told
                await asyncio.sleep(seconds)
                content = json.dumps({"answers": [*answers]} if status == 200 else {"error": {"code": code}}).encode()
                close = "" if keeps else "connection: close\r\n"
                writer.write(f"HTTP/1.1 {status} X\r\n{close}content-length: {len(content)}\r\n\r\n".encode() + content)
                if not keeps:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        place.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield place[0], asked
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()


def load(url: str, **options) -> Load:
    return Load(**{"url": url, "inputs": ("a", "b", "c"), "rate": 100, "seconds": 0.3, "arrivals": "fixed", **options})


@pytest.mark.parametrize("keeps", [True, False])
def test_what_is_asked_and_answered(keeps):
    watched = []
    with serving(lambda number: (0.0, 200, ""), keeps) as (url, asked):
        outcome = put_on(load(url, key="secret", each=2), lambda *told: watched.append(told))
    assert (outcome.due, outcome.answered, outcome.by_status, outcome.errors) == (30, 30, {"200": 30}, {})
    assert outcome.latency.count == outcome.lag.count == 30
    assert outcome.latency.percentiles["p95"] <= outcome.latency.largest
    assert outcome.latency.percentiles["p99"] is None  # of 30
    assert asked[0]["route"] == "POST /v1/predict HTTP/1.1"
    assert asked[0]["headers"]["authorization"] == "Bearer secret"
    assert [one["inputs"] for one in asked[:3]] == [["a", "b"], ["c", "a"], ["b", "c"]]
    assert "model" not in asked[0]
    assert len(watched) == 30
    assert watched[0][0] is None
    assert json.loads(watched[0][3]) == {"answers": [{}]}
    assert "secret" not in json.dumps(outcome.document())


def test_latency_counts_from_when_a_request_was_due_and_none_waits_for_another():
    stalls = {5: 0.3}
    with serving(lambda number: (stalls.get(number, 0.0), 200, "")) as (url, asked):
        one_by_one = put_on(load(url, connections=1))
        after = len(asked)
        many = put_on(load(url))
    assert after == 30
    assert one_by_one.answered == many.answered == 30
    waited = 0.3 - np.arange(24) * 0.01  # of those that were due behind the stalled one
    assert one_by_one.latency.mean > waited[waited > 0].sum() / 30 - 0.01
    assert one_by_one.late >= 20
    assert not one_by_one.keeps_up
    assert one_by_one.connections == 1
    assert many.latency.mean < 0.1


def test_what_fails_is_counted_by_its_kind():
    def behaviour(number: int) -> tuple[float, int, str] | None:
        return [(0.0, 200, ""), (0.0, 429, "overloaded"), (5.0, 200, ""), None, (0.0, 500, "x" * 9)][number % 5]

    with serving(behaviour) as (url, _):
        outcome = put_on(load(url, timeout=0.4))
    assert outcome.answered == 6
    assert outcome.by_status == {"200": 6, "429": 6, "500": 6}
    assert outcome.errors == {"overloaded": 6, "timeout": 6, "lost": 6, "xxxxxxxxx": 6}
    assert outcome.refusals.count == 6
    assert outcome.seconds < 1.5


def test_an_input_that_the_server_refuses_is_no_answer():
    answers = [{"text": "a", "error": "inputs[0]: is no text"}, {"text": "b", "error": "what the object says"}]
    with serving(lambda number: (0.0, 200, ""), answers=answers) as (url, _):
        outcome = put_on(load(url, each=2))
    assert (outcome.due, outcome.answered, outcome.inputs_refused) == (30, 30, 30)


def test_several_models_are_asked_in_turn_of_a_seed():
    with serving(lambda number: (0.0, 200, "")) as (url, asked):
        outcome = put_on(load(url, models=("ner", "topics")))
    models = [one["model"] for one in asked]
    assert sorted(models) == sorted(load(url, models=("ner", "topics")).model_of_each(30))
    assert {name: latency.count for name, latency in outcome.by_model.items()} == {
        name: models.count(name) for name in ("ner", "topics")
    }
    assert set(models) == {"ner", "topics"}


def test_arrivals_are_a_poisson_process_or_regular():
    of = load("http://127.0.0.1", rate=100, seconds=100)
    assert np.diff(of.due()) == pytest.approx(0.01)
    poisson = Load(**{**vars(of), "arrivals": "poisson"}).due()
    gaps = np.diff(poisson)
    assert poisson == sorted(poisson)
    assert len(poisson) == pytest.approx(10_000, abs=400)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # exponential
    assert Load(**{**vars(of), "arrivals": "poisson", "seed": 1}).due() != poisson


def test_a_percentile_is_a_latency_that_was_measured_or_none():
    found = _latency(np.arange(1, 1001) / 1000)
    assert found.percentiles == {"p50": 0.501, "p95": 0.951, "p99": 0.991, "p99.9": 1.0}
    assert _latency(np.asarray([])) == Latency(0, None, dict.fromkeys(found.percentiles), None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "127.0.0.1:8000"}, "expected the address"),
        ({"url": "http://user:word@host"}, "expected the address"),
        ({"url": "http://127.0.0.1:99999"}, "the highest is 65535"),
        ({"inputs": ()}, "no input"),
        ({"rate": 1e6, "seconds": 1e6}, "more than 1,000,000"),
    ],
)
def test_what_cannot_be_sent_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        load(**{"url": "http://127.0.0.1:1", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.1, "seconds": 1, "arrivals": "fixed"}, "are none: raise --rate"),
        ({"url": "https://127.0.0.1:9", "ca": "/nowhere/ca.pem"}, "--ca /nowhere/ca.pem: cannot be read"),
    ],
)
def test_what_cannot_be_begun_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        put_on(load(**{"url": "http://127.0.0.1:9", **options}))


def test_a_server_that_is_not_there():
    with pytest.raises(UserError, match=r"cannot be reached .* Is a server there\?"):
        put_on(load("http://127.0.0.1:9"))


def test_only_loopback_is_this_machine():
    for url in ("http://127.0.0.1:80", "http://localhost", "http://[::1]:8000", "http://127.3.2.1"):
        assert is_loopback(url)
    for url in ("http://10.0.0.1", "http://localhost.example.com", "http://[::]", "http://0.0.0.0"):
        assert not is_loopback(url)
