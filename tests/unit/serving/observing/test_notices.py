from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from peftlab.errors import ConfigError
from peftlab.serving.observing.notices import Notices
from peftlab.serving.observing.rules import LinesFile, Webhook
from peftlab.transfer import posting


class Hook:
    """A server that answers with the next of some statuses, and keeps what it was sent; 0: it never answers."""

    def __init__(self, *statuses: int) -> None:
        hook, self.sent, self.statuses, self.released = self, [], list(statuses), threading.Event()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.sent.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                status = hook.statuses.pop(0) if hook.statuses else 200
                if status == 0:
                    hook.released.wait(20)
                    return
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/secret-path"

    def __enter__(self) -> Hook:
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(posting, "_FIRST_PAUSE", 0.01)


def until(condition) -> None:
    for _ in range(2_000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come about")


MESSAGE = {"state": "firing", "alert": "slow", "text": "slow: it is slow"}


def test_a_message_goes_to_a_file_and_to_a_webhook_that_fails_at_first(tmp_path, monkeypatch):
    file = tmp_path / "alerts.jsonl"
    with Hook(503, 429) as hook:
        monkeypatch.setenv("HOOK", hook.address)
        both = Notices([LinesFile(file=str(file)), Webhook(webhook_from="HOOK")])
        both.send(MESSAGE)
        until(lambda: len(hook.sent) == 3)
        both.close()
    assert hook.sent == [MESSAGE] * 3
    assert [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] == [MESSAGE]


def test_what_cannot_be_sent_is_said_without_the_address_and_the_next_is_tried(caplog):
    with Hook(404, 302, 500, 500) as hook:
        one = Notices([Webhook(webhook=hook.address, retries=1)])
        for _ in range(4):
            one.send(MESSAGE)
        until(lambda: len(hook.sent) == 5)  # a refusal is final, a redirect is not followed, a failure is tried again
        one.close()
    assert [record.args[1] for record in caplog.records] == ["status 404", "status 302", "status 500"]
    assert "secret-path" not in caplog.text


def test_a_webhook_that_hangs_holds_up_nobody(tmp_path):
    file = tmp_path / "alerts.jsonl"
    with Hook(0, 0) as hook:
        both = Notices([Webhook(webhook=hook.address, timeout=0.05, retries=1), LinesFile(file=str(file))])
        both.send(MESSAGE)
        until(lambda: len(hook.sent) == 2)
        both.close()
    assert json.loads(file.read_text(encoding="utf-8")) == MESSAGE


def test_who_cannot_be_told_is_said_at_the_start(tmp_path, monkeypatch):
    monkeypatch.delenv("HOOK", raising=False)
    with pytest.raises(ConfigError, match="HOOK holds no http"):
        Notices([Webhook(webhook_from="HOOK")])
    with pytest.raises(ConfigError, match="cannot be written"):
        Notices([LinesFile(file=str(tmp_path / "none" / "alerts.jsonl"))])
