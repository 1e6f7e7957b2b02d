"""The server on real models: in this process, and as a user starts it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from typing import Any

import httpx
import pytest
from tests.serving import serving

from peftlab.composing.compose import conf_dir
from peftlab.serving.access.guard import Guard
from peftlab.serving.app import create
from peftlab.serving.events import Observer
from peftlab.serving.models.models import Models
from peftlab.serving.settings import Settings
from peftlab.use.finished import load

TEXTS = [
    "Marie Curie moved from Paris to Rome .",
    "Unesco hired Noether in Warsaw yesterday",
    ["Ada", "Lovelace", "likes", "New", "York"],
    {"text": "nothing happened today .", "id": 7},
    "",
]


def asked(models: Models, settings: Settings, *bodies: dict[str, Any]) -> list[httpx.Response]:
    """Return the responses of an application in this process to requests that come at once."""

    async def run() -> list[httpx.Response]:
        app = create(settings, models, Observer(), Guard(settings))
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", timeout=60)
        async with app.router.lifespan_context(app), client:
            return await asyncio.gather(*(client.post("/v1/predict", json=body) for body in bodies))

    return asyncio.run(run())


def same(one: Any, other: Any) -> bool:
    """Return whether two answers are the same but for the last digits of probabilities."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == (pytest.approx(other, abs=1e-5) if isinstance(one, float) else other)


@pytest.mark.slow
def test_answers_are_those_of_predict(finished, peftlab, tmp_path):
    file = tmp_path / "texts.jsonl"
    objects = [one if isinstance(one, dict) else {"words" if isinstance(one, list) else "text": one} for one in TEXTS]
    file.write_text("".join(json.dumps(one) + "\n" for one in [*objects, {"text": 3}]))
    _, printed, _ = peftlab("predict", finished.folder, "--jsonl", file)
    predicted = [json.loads(line) for line in printed.splitlines()]
    models = Models([f"ner={finished.folder}"])
    requests = [[*TEXTS, 3], *([one] for one in TEXTS)]
    whole, *single = asked(models, Settings(runs=()), *({"inputs": inputs} for inputs in requests))
    *answers, refused = whole.json()["answers"]
    assert same(answers, predicted[:-1])
    assert refused.keys() == {"error"}
    assert same([response.json()["answers"][0] for response in single], predicted[:-1])


@pytest.mark.slow
def test_a_text_is_written_as_by_stream(finished_writer):
    models = Models([f"writer={finished_writer.folder}"])
    text = "the report was read"
    written = "".join(load(finished_writer.folder).stream(text, max_new_tokens=6))
    body = {"inputs": [text], "options": {"max_new_tokens": 6}}
    long = {**body, "inputs": ["the report was read " * 100]}
    streamed, whole, cut, answered = asked(
        models, Settings(runs=()), {**body, "stream": True}, body, {**long, "stream": True}, long
    )
    lines = [json.loads(line) for line in streamed.text.splitlines()]
    assert "".join(line.get("text", "") for line in lines) == written
    assert lines[-1]["done"]
    assert "truncated" not in lines[-1]
    said, (answer,) = json.loads(cut.text.splitlines()[-1]), answered.json()["answers"]
    assert answer["truncated"]
    assert said["lost_tokens"] == answer["lost_tokens"]
    assert whole.json()["answers"][0]["written"] == written


@pytest.mark.slow
@pytest.mark.new_interpreter
def test_a_server_answers_is_administrated_and_ends_when_it_is_told_to(finished, tmp_path):
    answer = load(finished.folder).predict([TEXTS[0]])
    with serving([f"ner={finished.folder}"], "--no-drift", "--mask-kinds=email", folder=tmp_path) as server:
        response = server.ask(TEXTS[0], model="ner")
        assert same(response.json()["answers"], answer)
        identity = finished.data["identity"]["sha256"]
        assert (response.json()["run"], response.json()["identity"]) == (finished.data["run_id"], identity)

        (masked,) = server.ask("write to anna@example.org", model="ner").json()["answers"]
        assert (masked["text"], masked["masked"]) == ("write to [EMAIL]", {"email": 1})

        loaded = httpx.post(f"{server.admin}/admin/models", json={"run": f"again={finished.folder}"}, timeout=60)
        assert loaded.status_code == 200, loaded.text
        assert same(server.ask(TEXTS[0], model="again").json()["answers"], answer)
        assert httpx.post(f"{server.admin}/admin/models", json={"run": "no=nowhere"}).status_code == 422
        assert httpx.delete(f"{server.admin}/admin/models/ner", timeout=60).status_code == 200
        assert server.ask(TEXTS[0], model="ner").status_code == 404
        assert httpx.delete(f"{server.admin}/admin/models/again", timeout=60).status_code == 409

        assert "peftlab_requests_total" in httpx.get(f"{server.admin}/metrics").text
        assert httpx.get(f"{server.url}/metrics").status_code == 404
        assert httpx.post(f"{server.admin}/admin/drain", timeout=60).json()["draining"]
        assert httpx.get(f"{server.url}/readyz").status_code == 503 == server.ask(TEXTS[0]).status_code
        assert not httpx.delete(f"{server.admin}/admin/drain", timeout=60).json()["draining"]

        responses: list[httpx.Response] = []
        many = threading.Thread(target=lambda: responses.append(server.ask(*[TEXTS[0] + " and" * 60] * 256)))
        many.start()
        while many.is_alive() and "peftlab_queue_inputs 0.0" in httpx.get(f"{server.admin}/metrics").text:
            time.sleep(0.01)  # it has not been taken yet
        assert server.end() == 0
        many.join()
        assert responses[0].status_code == 200
        assert len(responses[0].json()["answers"]) == 256
    assert "Traceback" not in server.errors.read_text()


@pytest.mark.exhaustive
@pytest.mark.new_interpreter
def test_a_worker_that_is_killed_harms_no_answer_of_others_and_comes_back(finished, tmp_path):
    answer = load(finished.folder).predict([TEXTS[0]])
    with serving([f"ner={finished.folder}"], "--no-drift", "--workers", "2", folder=tmp_path) as server:
        ended, lost, wrong, stop = [0], [0], [], threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    response = server.ask(TEXTS[0])
                except httpx.TransportError:  # its connection was the killed one's
                    lost[0] += 1
                    continue
                ended[0] += 1
                if response.status_code != 200 or not same(response.json()["answers"], answer):
                    wrong.append(response.text)

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        try:
            before = {worker["pid"] for worker in server.workers()}
            assert len(before) == 2
            killed = min(before)
            os.kill(killed, signal.SIGKILL)
            at_kill, began = ended[0], time.monotonic()
            while len(now := {worker["pid"] for worker in server.workers()} - {killed}) < 2:
                assert time.monotonic() - began < 600
                time.sleep(0.1)
            assert before - {killed} <= now
            assert ended[0] > at_kill  # the other one has answered meanwhile
        finally:
            stop.set()
            for asker in askers:
                asker.join()
        assert wrong == []
        assert lost[0] <= len(askers)
        assert server.end() == 0


@pytest.mark.exhaustive
@pytest.mark.new_interpreter
@pytest.mark.skipif(find_spec("ray") is None, reason="wants ray")
def test_a_replica_under_ray_serve_answers_alike(finished, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = conf_dir().parent / "experiments" / "serving" / "ray_serve.py"
    command = [sys.executable, script, f"ner={finished.folder}", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "RAY_worker_niceness": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=tmp_path, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        try:
            response = httpx.post(f"{url}/v1/predict", json={"inputs": [TEXTS[0], 3]}, timeout=60)
            answer, refused = response.json()["answers"]
            assert same(answer, load(finished.folder).predict([TEXTS[0]])[0])
            assert refused.keys() == {"error"}
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name at least one RUN"),
        (["nowhere"], "nowhere"),
        (["RUN", "--host", "0.0.0.0"], "nobody is asked for a key"),
    ],
)
def test_what_cannot_be_served_is_said_before_anything_is_loaded(peftlab, finished, arguments, message):
    words = [str(finished.folder) if word == "RUN" else word for word in arguments]
    code, out, err = peftlab("serve", *words, "--port", "0")
    assert (code, out) == (2, "")
    assert message in err
