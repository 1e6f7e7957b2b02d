from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest

from peftlab.loggers import wandb
from peftlab.loggers.wandb import CLOSE_SECONDS, LOCAL_SECONDS, Wandb, what_ails


@contextmanager
def server(status: int | None) -> Iterator[str]:
    """Serve answers with `status`; None: never answer."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if status is None:
                over.wait()
                return
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        over.set()
        http.shutdown()


@pytest.mark.parametrize(
    ("status", "seconds", "trouble"),
    [(200, 30, None), (404, 30, None), (500, 30, "HTTP 500"), (None, 0.2, "no answer within 0.2 s")],
)
def test_a_server_is_asked_whether_it_is_there(status, seconds, trouble):
    with server(status) as url:
        assert what_ails(url, seconds) == trouble


def test_a_server_that_is_gone():
    with server(200) as url:
        pass
    assert what_ails(url, 30) == "ConnectionError"


@pytest.mark.parametrize(
    ("mode", "wall_seconds", "trouble", "asked", "patience"),
    [
        ("online", 1000, None, 40 - CLOSE_SECONDS, 40 - CLOSE_SECONDS),
        ("online", 1000, "HTTP 500", 40 - CLOSE_SECONDS, 0),
        ("online", 20, None, 0.5, 5 - CLOSE_SECONDS),
        ("online", 20, "no answer", 0.5, 0),
        ("online", None, None, 0.5, 5 - CLOSE_SECONDS),
        ("offline", 20, None, None, LOCAL_SECONDS),
    ],
)
def test_how_long_the_end_waits(monkeypatch, tmp_path, mode, wall_seconds, trouble, asked, patience):
    """Of a server that fails no longer than a share of the run's time, closing included, but in short runs."""
    questions = []
    monkeypatch.setattr(wandb, "what_ails", lambda url, seconds: questions.append((url, seconds)) or trouble)
    run = SimpleNamespace(settings=SimpleNamespace(mode=mode, base_url="http://it"))
    record = SimpleNamespace(data={"cost": {"wall_seconds": wall_seconds}})
    assert Wandb(tmp_path)._patience(record, run) == pytest.approx(patience, abs=1)
    assert questions == ([] if asked is None else [("http://it", pytest.approx(asked))])
