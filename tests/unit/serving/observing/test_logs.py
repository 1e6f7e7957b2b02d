from __future__ import annotations

import json
import logging
import stat

import pytest

from peftlab.errors import ConfigError
from peftlab.serving.events import Answered
from peftlab.serving.observing import logs
from peftlab.serving.observing.logs import RequestLog

KEY = "sk-proj-" + "a1B2c3D4e5F6g7H8i9J0" * 2
TRACE = "0af7651916cd43dd8448eb211c80319c"


def request(**more) -> Answered:
    return Answered(**{"request_id": "r-1", "route": "/v1/predict", "status": 200, "seconds": 0.0412345678, **more})


def lines(file) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_each_request_is_a_line_of_json(tmp_path):
    file = tmp_path / "requests.jsonl"
    log = RequestLog(file)
    log.answered(
        request(
            caller="alice", model="ner", inputs=2, refused=1, tokens=9, traceparent=f"00-{TRACE}-b7ad6b7169203331-01"
        )
    )
    log.answered(request(request_id="r-2", status=429, error="overloaded", traceparent="00-nonsense"))
    log.close()
    first, second = lines(file)
    assert first.pop("time")
    assert first == {
        "event": "request",
        "request_id": "r-1",
        "caller": "alice",
        "route": "/v1/predict",
        "status": 200,
        "seconds": 0.041235,
        "model": "ner",
        "inputs": 2,
        "refused": 1,
        "input_tokens": 9,
        "trace": TRACE,
    }
    assert second["error"] == "overloaded"
    assert "trace" not in second
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_text_is_in_it_unless_asked_for_and_then_it_is_masked_and_short(tmp_path):
    silent, spoken = tmp_path / "silent.jsonl", tmp_path / "spoken.jsonl"
    for log in (
        RequestLog(silent),
        RequestLog(spoken, mask=lambda one: json.loads(json.dumps(one).replace("Ann", "[NAME]"))),
    ):
        log.predicted("ner", ["Ann met Bob", {"text": "y" * 5_000}], [{}, {}], request_id="r-1", tokens=[3, 9])
        log.close()
    assert silent.read_text(encoding="utf-8") == ""
    (line,) = lines(spoken)
    assert line["request_id"] == "r-1"
    assert line["inputs"][0] == "[NAME] met Bob"
    assert line["inputs"][1]["text"].endswith("y [... 3000 more]")


def test_what_cannot_be_masked_is_not_written(tmp_path, caplog):
    file = tmp_path / "requests.jsonl"

    def mask(one: object) -> object:
        raise ValueError(f"no: {one}")

    log = RequestLog(file, mask)
    log.predicted("ner", ["Ann met Bob"], [{}])
    log.answered(request())
    log.close()
    assert len(lines(file)) == 1
    assert "Ann" not in caplog.text + file.read_text(encoding="utf-8")


def test_secrets_are_masked_and_nothing_breaks_a_line(tmp_path):
    file = tmp_path / "requests.jsonl"
    log = RequestLog(file, mask=lambda one: one)
    log.answered(request(request_id=KEY, caller='a"\n\u2028b'))
    log.predicted("ner", [f"the key is {KEY}\n"], [{}])
    log.close()
    first, second = lines(file)
    assert KEY not in file.read_text(encoding="utf-8")
    assert first["caller"] == 'a"\n\u2028b'
    assert second["inputs"][0].startswith("the key is ")


def test_without_a_file_the_lines_go_where_other_messages_go(caplog):
    caplog.set_level(logging.INFO, "peftlab")
    log = RequestLog()
    log.answered(request())
    log.close()
    (record,) = caplog.records
    assert json.loads(record.getMessage())["request_id"] == "r-1"


def test_lines_that_find_no_room_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "MOST_WAITING", 2)
    file = tmp_path / "requests.jsonl"
    log = RequestLog(file)
    log._waiting.put(None)
    log._thread.join()  # it writes nothing for a while
    for _ in range(5):
        log.answered(request())
    assert log._lost == 3
    log._waiting.get()
    log.answered(request())
    assert list(log._waiting.queue)[-1]["lines_lost_before"] == 3
    assert log._lost == 0


def test_a_file_that_cannot_be_written_is_said_at_the_start(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for file in (tmp_path / "none" / "requests.jsonl", link):
        with pytest.raises(ConfigError, match="--request-log"):
            RequestLog(file)
