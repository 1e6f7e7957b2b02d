"""Who is told: lines, mails, webhooks; once each, and again after failures."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from peftlab.errors import ConfigError
from peftlab.opinion import sinks
from peftlab.opinion.sending import Outbox
from peftlab.opinion.sinks import webhook
from peftlab.validation import checked


def alert(number=1, **more):
    return {
        "id": f"{number:016x}",
        "state": "open",
        "text": f"opinion=négative rises: from 30.0% to 4{number}.0%",
        "series": "opinion=négative",
        "window": {"start": "2026-03-01T00:00:00+00:00", "end": "2026-03-02T00:00:00+00:00"},
        "texts_of": "opinion=négative",
        "texts": ["bad\r\nBcc: everybody@example.org", "worse"],
        "notes": [],
        "false_alarms": {"simulated": 0.9, "replayed": 0.5, "replayed_of_series": 0.1},
        **more,
    }


@pytest.fixture
def server():
    """A server that takes what comes, with the statuses that a test sets."""
    taken, statuses = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            status = statuses.pop(0) if statuses else 200
            taken.append((status, dict(self.headers), body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", taken, statuses
    server.shutdown()
    thread.join()
    server.server_close()


def test_lines_once(tmp_path, capsys):
    sink = checked(sinks.chosen("lines"), {"file": "a.jsonl"}, "lines")
    for number in (1, 2, 1):
        sink.send(alert(number), tmp_path)
    assert [json.loads(line)["id"][-1] for line in (tmp_path / "a.jsonl").read_text().splitlines()] == ["1", "2"]
    checked(sinks.chosen("lines"), {"file": "-"}, "lines").send(alert(), tmp_path)
    assert json.loads(capsys.readouterr().out) == alert()


def test_a_mail_is_one_that_others_read(tmp_path):
    values = {"sender": "watch@example.org", "recipients": ["a@example.org", "b@example.org"]}
    checked(sinks.chosen("mail"), values, "mail").send(alert(text="opinion=x\nBcc: y@z.org rises: z"), tmp_path)
    mail = message_from_bytes((tmp_path / "mail" / f"{1:016x}.eml").read_bytes(), policy=default)
    assert mail["To"] == "a@example.org, b@example.org"
    assert mail["Bcc"] is None
    assert mail["Subject"] == "opinion=x Bcc"
    assert mail["Date"].datetime.isoformat() == "2026-03-02T00:00:00+00:00"
    assert "- bad Bcc: everybody@example.org" in mail.get_content()
    assert "in a replay of the baseline 0.50" in mail.get_content()
    with pytest.raises(ConfigError, match="recipients"):
        checked(sinks.chosen("mail"), {"sender": "watch@example.org", "recipients": ["a@b.c\nBcc: d@e.f"]}, "mail")


def test_a_webhook_is_signed(tmp_path, server):
    address, taken, _ = server
    (tmp_path / "key").write_text("0123456789abcdef0123\n")
    sink = checked(sinks.chosen("webhook"), {"url": address, "key": str(tmp_path / "key")}, "webhook")
    sink.check()
    sink.send(alert(), tmp_path)
    ((_, headers, body),) = taken
    assert json.loads(body) == alert()
    expected = hmac.new(b"0123456789abcdef0123", body, hashlib.sha256).hexdigest()
    assert headers[webhook.SIGNATURE] == f"sha256={expected}"
    assert headers["Idempotency-Key"] == alert()["id"]
    assert "127.0.0.1" not in sink.name


def test_what_is_not_there_is_refused_at_the_start(tmp_path, monkeypatch):
    for values, said in (
        ({"url_from": "NOT_THERE"}, "NOT_THERE holds no http"),
        ({"url": "http://x.org", "key": str(tmp_path / "none")}, "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=said):
            checked(sinks.chosen("webhook"), values, "webhook").check()
    monkeypatch.setenv("ADDRESS", "ftp://x.org")
    with pytest.raises(ConfigError, match="no http"):
        checked(sinks.chosen("webhook"), {"url_from": "ADDRESS"}, "webhook").check()
    with pytest.raises(ConfigError):
        checked(sinks.chosen("webhook"), {"url": "file:///etc/passwd"}, "webhook")


def test_what_a_webhook_does_not_take_is_sent_at_the_next_call(tmp_path, server, monkeypatch):
    address, taken, statuses = server
    pauses = []
    monkeypatch.setattr(webhook, "_pause", lambda seconds: pauses.append(seconds) or True)
    sink = checked(sinks.chosen("webhook"), {"url": address, "retries": 2}, "webhook")
    alerts = [alert(n) for n in (1, 2, 3)]
    statuses += [200, 503, 503, 503]
    assert Outbox(tmp_path, [sink], []).send(alerts) == 2
    assert pauses == [1.0, 2.0]
    statuses += [429, 200, 404]
    assert Outbox(tmp_path, [sink], alerts).send(alerts) == 1
    assert Outbox(tmp_path, [sink], alerts).send(alerts) == 0
    assert Outbox(tmp_path, [sink], alerts).send(alerts) == 0
    assert [json.loads(body)["id"][-1] for status, _, body in taken if status == 200] == ["1", "2", "3"]


def test_a_new_sink_is_not_told_of_the_past(tmp_path):
    lines = checked(sinks.chosen("lines"), {}, "lines")
    outbox = Outbox(tmp_path, [lines], [alert(1)])
    outbox.note()
    assert outbox.send([alert(1), alert(2)]) == 0
    assert len((tmp_path / "alerts.jsonl").read_text().splitlines()) == 1
