from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import httpx
import pytest
from tests.unit.serving.stand_in import StandIn

from peftlab.serving.access.guard import Guard
from peftlab.serving.app import create
from peftlab.serving.batching import Batcher
from peftlab.serving.events import Answered, Observer
from peftlab.serving.settings import Settings

BASE = "http://127.0.0.1"


class Noting(Observer):
    def __init__(self) -> None:
        self.requests: list[Answered] = []
        self.predictions: list[tuple[Any, ...]] = []
        self.closed = False

    def answered(self, request: Answered) -> None:
        self.requests.append(request)

    def predicted(self, model: str, inputs: Sequence[Any], answers: Sequence[Any], **more: Any) -> None:
        self.predictions.append((model, inputs, [answer.get("length") for answer in answers], more["tokens"]))

    def close(self) -> None:
        self.closed = True


class Served:
    """A client of an application with the stand-in's models, and what happens in it."""

    def __init__(self, **settings: Any) -> None:
        self.models, self.noting = StandIn(), Noting()
        self.settings = Settings(runs=(), **settings)

    def ask(self, ask: Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]) -> Any:
        async def run() -> Any:
            app = create(self.settings, self.models, self.noting, Guard(self.settings), self._meanwhile)
            self.app = app
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with app.router.lifespan_context(app), asyncio.timeout(20):
                await asyncio.sleep(0)  # `_meanwhile` begins
                async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
                    try:
                        return await ask(client)
                    finally:
                        self.models.gate.set()

        return asyncio.run(run())

    async def _meanwhile(self, batcher: Batcher) -> None:
        self.batcher = batcher

    def post(self, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", **headers}
        return self.ask(lambda client: client.post("/v1/predict", content=content, headers=headers))

    def get(self, path: str) -> httpx.Response:
        return self.ask(lambda client: client.get(path))


def test_answers_name_the_run_and_the_request():
    served = Served()
    response = served.post({"model": "ner", "inputs": ["one", "bad", "three"]}, **{"x-request-id": "00c0ffee"})
    assert response.status_code == 200
    assert response.headers["x-request-id"] == "00c0ffee"
    assert response.json() == {
        "model": "ner",
        "run": "0123456789ab",
        "identity": "f" * 64,
        "answers": [
            {"text": "one", "of": "ner", "length": 3},
            {"error": "inputs[1]: is no text"},
            {"text": "three", "of": "ner", "length": 5},
        ],
        "request_id": "00c0ffee",
    }
    assert served.noting.predictions == [("ner", ["one", "three"], [3, 5], [3, 5])]
    (told,) = served.noting.requests
    assert (told.request_id, told.route, told.status, told.caller) == ("00c0ffee", "/v1/predict", 200, "anyone")
    assert (told.model, told.inputs, told.refused, told.tokens, told.error) == ("ner", 3, 1, 8, None)
    assert told.seconds > 0
    assert served.noting.closed


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        ({"model": "ner"}, 422, "invalid", "inputs: Field required"),
        ({"model": "ner", "inputs": []}, 422, "invalid", "inputs: "),
        ({"model": "ner", "inputs": "one"}, 422, "invalid", "inputs: "),
        ({"model": "ner", "inputs": ["x"], "secret": 1}, 422, "invalid", "the body: has a field that is not known"),
        ({"inputs": ["x"]}, 422, "invalid", "model: there are several"),
        ({"model": "other", "inputs": ["x"]}, 404, "unknown_model", "there is no such model"),
        ({"model": "ner", "inputs": ["x"] * 9}, 413, "too_many_inputs", "inputs: at most 8"),
        ({"model": "ner", "inputs": ["x"], "stream": True}, 422, "invalid", "options and stream are for models that"),
        ({"model": "ner", "inputs": ["x"], "options": {"seed": 1}}, 422, "invalid", "options and stream are for"),
        ({"model": "writer", "inputs": ["x", "y"], "stream": True}, 422, "invalid", "stream: one text"),
        ({"model": "writer", "inputs": ["x"], "options": {"max_new_tokens": 99}}, 422, "invalid", "options.max_new"),
        ({"model": "writer", "inputs": ["x"], "options": {"num_beams": 99}}, 422, "invalid", "options.num_beams: "),
        ({"model": "writer", "inputs": ["x"], "options": {"seed": 13}}, 422, "invalid", "generate.seed acts only"),
        ({"model": "writer", "inputs": ["bad"], "stream": True}, 422, "invalid", "is no text"),
        (b"{", 400, None, None),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_form_and_not_quoted(body, status, code, message):
    served = Served(max_inputs=8, max_new_tokens=64)
    response = served.post(body)
    error = response.json()["error"]
    assert response.status_code == status
    assert set(error) == {"code", "message", "request_id"}
    assert error["request_id"] == response.headers["x-request-id"]
    assert code is None or error["code"] == code
    assert message is None or error["message"].startswith(message)
    assert not any(word in response.text for word in ("secret", "other", "Traceback"))
    assert [(told.status, told.error) for told in served.noting.requests] == [(status, error["code"])]


def test_paths_that_there_are_not_are_refused_in_the_same_form():
    served = Served()
    for method, path, status in (("GET", "/nowhere", 404), ("GET", "/v1/predict", 405), ("GET", "/metrics", 404)):
        response = served.ask(lambda client, m=method, p=path: client.request(m, p))
        assert (response.status_code, set(response.json())) == (status, {"error"}), path
    assert served.noting.requests[0].route == "other"


def test_the_only_model_needs_no_name():
    served = Served()
    served.models.default = "ner"
    assert served.post({"inputs": ["x"]}).json()["model"] == "ner"


def test_a_text_is_streamed_as_lines_of_json():
    lines = [json.loads(line) for line in Served().post(_streamed("a b c")).text.splitlines()]
    assert lines[:3] == [{"text": "a"}, {"text": "b"}, {"text": "c"}]
    assert lines[3].pop("request_id")
    assert lines[3] == {
        "done": True,
        "model": "writer",
        "run": "0123456789ab",
        "identity": "f" * 64,
        "stopped": True,
    }


def test_what_is_streamed_is_observed_and_its_end_says_what_was_not_seen():
    served = Served()
    last = json.loads(served.post(_streamed("a b more")).text.splitlines()[-1])
    assert (last["done"], last["stopped"], last["truncated"], last["lost_tokens"]) == (True, False, True, 1)
    assert served.noting.predictions == [("writer", ["a b more"], [None], [8])]
    assert [(told.tokens, told.refused) for told in served.noting.requests] == [(8, 0)]


def test_a_stream_that_takes_too_long_ends_with_an_error():
    served = Served(timeout_s=0.3)
    served.models.free = 1
    served.models.gate.clear()
    first, last = [json.loads(line) for line in served.post(_streamed("a b c")).text.splitlines()]
    assert first == {"text": "a"}
    assert last["error"]["code"] == "timeout"
    (told,) = served.noting.requests
    assert (told.status, told.error, told.inputs, told.refused) == (200, "timeout", 1, 1)


def test_a_client_that_leaves_a_stream_is_noted():
    served = Served()
    served.models.free = 1
    served.models.gate.clear()
    content = json.dumps(_streamed("a b c")).encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/predict",
        "raw_path": b"/v1/predict",
        "query_string": b"",
        "headers": [
            (b"host", b"127.0.0.1"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
        ],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 80),
    }

    async def ask(client: httpx.AsyncClient) -> Any:
        sent, begun = [{"type": "http.request", "body": content, "more_body": False}], asyncio.Event()

        async def receive() -> Any:
            if not sent:
                await begun.wait()
            return sent.pop() if sent else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message.get("body"):
                begun.set()

        await served.app(scope, receive, send)

    served.ask(ask)
    (told,) = served.noting.requests
    assert (told.status, told.error, told.refused) == (200, "gone", 0)


def test_an_answer_that_takes_too_long_is_given_up():
    served = Served(timeout_s=0.2)
    served.models.gate.clear()
    response = served.post({"model": "ner", "inputs": ["x"]})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "timeout")
    (told,) = served.noting.requests
    assert (told.inputs, told.refused) == (1, 1)  # a request without an answer answers none of its inputs


def test_overload_is_refused_with_a_time_to_ask_again():
    served = Served(queue=1)

    async def ask(client: httpx.AsyncClient) -> Any:
        served.models.gate.clear()
        bodies = [{"model": "ner", "inputs": [text]} for text in ("first", "waits", "refused")]
        first = asyncio.create_task(client.post("/v1/predict", json=bodies[0]))
        await asyncio.to_thread(served.models.begun.wait, 10)
        second = asyncio.create_task(client.post("/v1/predict", json=bodies[1]))
        while not served.batcher._queue.ready:
            await asyncio.sleep(0.001)
        third = await client.post("/v1/predict", json=bodies[2])
        served.models.gate.set()
        return third, await first, await second

    refused, first, second = served.ask(ask)
    assert (first.status_code, second.status_code, refused.status_code) == (200, 200, 429)
    assert refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1


def test_a_server_that_drains_is_alive_but_not_ready():
    served = Served()

    async def ask(client: httpx.AsyncClient) -> Any:
        ready = await client.get("/readyz")
        served.batcher.draining = True
        late = client.post("/v1/predict", json={"model": "ner", "inputs": ["x"]})
        return [ready, await client.get("/readyz"), await client.get("/livez"), await late]

    assert [response.status_code for response in served.ask(ask)] == [200, 503, 200, 503]


def test_cards_say_what_a_caller_needs_and_no_more():
    cards = Served().get("/v1/models").json()["models"]
    assert [card["name"] for card in cards] == ["ner", "tone", "writer"]
    assert cards[0] == {
        "name": "ner",
        "run": "0123456789ab",
        "task": "sentiment",
        "labels": ["bad", "good"],
        "method": "lora",
        "backbone": "tiny",
        "identity": "f" * 64,
        "max_tokens": 128,
        "generates": False,
        "mixed": True,
        "example": "fine",
        "notice": None,
    }


def test_a_notice_is_told_with_the_model_and_with_every_answer():
    served = Served()
    assert [card["notice"] for card in served.get("/v1/models").json()["models"]][1:] == ["no diagnosis \u2013 ask"] * 2
    told = [served.post({"model": name, "inputs": ["x"]}).headers.get("x-notice") for name in ("ner", "tone")]
    told.append(served.post(_streamed("a b")).headers.get("x-notice"))
    assert told == [None, "no diagnosis %E2%80%93 ask", "no diagnosis %E2%80%93 ask"]


def test_the_documentation_has_every_route_and_asks_nobody():
    served = Served()
    document = served.get("/openapi.json").json()
    assert set(document["paths"]) == {"/v1/predict", "/v1/models", "/livez", "/readyz"}
    examples = document["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    assert examples["tone"]["value"] == {"model": "tone", "inputs": ["fine"]}
    page = served.get("/docs")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    for text in ("POST /v1/predict", "GET /v1/models", "inputs", "options.max_new_tokens", "&quot;fine&quot;"):
        assert text in page.text, text
    assert "http" not in page.text.replace("https://", "http")
    assert "<script" not in page.text


def test_what_is_no_json_number_or_text_is_sent_as_json_all_the_same():
    from peftlab.serving.replies import encoded

    odd = {"a": [float("nan"), 1.5], "b": "\ud800", "c": "é"}
    assert json.loads(encoded(odd)) == {"a": [None, 1.5], "b": "\ud800", "c": "é"}


def _streamed(text: str) -> dict[str, Any]:
    return {"model": "writer", "inputs": [text], "stream": True}
