"""A W&B server that is away, fails or never answers costs a run seconds, and no row."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TAKEN = b"""{"data": {"upsertBucket": {"inserted": true, "bucket": {"id": "x", "name": "abc", "displayName": "abc",
"project": {"name": "p", "entity": {"name": "e"}}}}}}"""

COMMITTED = b"""{"data": {"createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": {
"id": "s", "latestArtifact": null}}}}}"""


def answered(body: bytes, upload: str) -> bytes:
    """Return the answer to a request; what is to be uploaded has its place at `upload`."""
    if b"upsertBucket" in body:
        return TAKEN
    if b"mutation CreateArtifact" in body:
        return COMMITTED
    if b"mutation CreateRunFiles" in body:
        files = [{"name": name, "uploadUrl": upload} for name in json.loads(body)["variables"]["files"]]
        return json.dumps({"data": {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}}).encode()
    return b'{"data": {}}'


@contextmanager
def server(fails: Callable[[], bool], how: str) -> Iterator[str]:
    """Serve W&B's requests, but where one `fails`: then answer 500, or nothing at all."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            failing = fails()
            if failing and how == "stall":
                over.wait()
                return
            answer = answered(body, f"http://127.0.0.1:{self.server.server_address[1]}/upload")
            self.send_response(500 if failing else 200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_POST

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        over.set()
        http.shutdown()


def after(requests: int) -> Callable[[], bool]:
    """Say of every request but the first `requests` that it fails."""
    count = iter(range(10**9))
    return lambda: next(count) >= requests


@contextmanager
def nobody() -> Iterator[str]:
    """Name an address that refuses connections."""
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    ("where", "told"),
    [
        pytest.param(nobody(), "no answer from http://127.0.0.1", id="refuses"),
        pytest.param(server(after(3), "stall"), "not everything reached the server", id="stalls later"),
        *(
            pytest.param(*where, id=id_, marks=pytest.mark.exhaustive)
            for id_, *where in [
                ("500", server(after(0), "500"), "(HTTP 500); the run is kept offline"),
                ("stalls", server(after(0), "stall"), "(no answer within 3 s); the run is kept offline"),
                ("500 to the run", server(after(1), "500"), "refuses the run"),
                ("stalls at the run", server(after(1), "stall"), "refuses the run"),
                ("500 later", server(after(3), "500"), "not everything reached the server"),
            ]
        ),
    ],
)
def test_the_run_goes_on_and_keeps_every_row(tiny_overrides, tmp_path, read_wandb, where, told):
    with where as url:
        environment = os.environ | {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0123456789" * 4}
        command = [sys.executable, "-m", "train", *tiny_overrides, "logger=[csv,wandb]", "run_dir=run"]
        ended = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
    assert ended.returncode == 0, ended.stderr
    assert told in ended.stdout
    assert "wandb sync" in ended.stdout.splitlines()[-1]
    with Path("run/metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    (found,) = [kept for kept in read_wandb(Path("run")) if kept.rows]
    assert [row["train/loss"] for row in found.rows if "train/loss" in row] == losses
    assert len(losses) == 4


@pytest.mark.exhaustive
def test_a_killed_run_that_the_server_then_refuses_keeps_its_id(tiny_overrides, tmp_path, disturb, read_wandb):
    """Both parts are whole runs offline, under the id that was noted before the run was killed."""
    command = [sys.executable, "-m", "train", *tiny_overrides, "callbacks=[]", "logger=[wandb]", "run_dir=run"]
    # in the place of a callback that is no part of the identity
    killed = [part.replace("callbacks.disturb", "callbacks.progress") for part in disturb(0, "SIGKILL")]
    ended = []
    for options in (killed, []):
        with server(after(1), "500") as url:
            environment = os.environ | {"WANDB_BASE_URL": url, "WANDB_API_KEY": "0123456789" * 4}
            ended.append(
                subprocess.run(
                    [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
                )
            )
    assert [each.returncode for each in ended] == [-9, 0], ended[1].stderr
    assert "refuses the run" in ended[1].stdout
    assert "wandb sync" in ended[1].stdout.splitlines()[-1]
    history = json.loads(Path("run/record.json").read_text())["history"]
    assert "resumed" in [event["event"] for event in history]
    (id_,) = {event["id"] for event in history if event.get("logger") == "wandb"}
    kept = [found for found in read_wandb(Path("run")) if found.rows]
    assert {run.run_id for found in kept for run in found.records["run"]} == {id_}
    assert any("exit" in found.records for found in kept)
