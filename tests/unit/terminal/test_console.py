"""What a run says."""

from __future__ import annotations

import logging
import sys

import pytest

from peftlab.masking.streams import mask_streams
from peftlab.terminal.console import VERBATIM, clock, console, log, log_file, start_logging


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00"),
        (5, "0:05"),
        (59.6, "1:00"),
        (65, "1:05"),
        (3599, "59:59"),
        (3661, "1:01:01"),
        (3665, "1:01:05"),
    ],
)
def test_times_are_written_as_on_a_clock(seconds, shown):
    assert clock(seconds) == shown


def test_lines_are_masked_but_those_that_show_data(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train"])
    monkeypatch.setattr(console, "stderr", False)
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "propagate", False)
    mask_streams()
    start_logging(level=logging.INFO)
    with log_file(tmp_path / "log.txt"):
        log.info("labels: password: reset", extra=VERBATIM)
        for line in ("password: opensesame", "-----BEGIN PRIVATE KEY-----", "opensesame", "-----END PRIVATE KEY-----"):
            log.info(line)
        log.info("after")
    shown = capsys.readouterr().out
    assert shown == "labels: password: reset\npassword: ****\n****\n****\n****\nafter\n"
    kept = (tmp_path / "log.txt").read_text()
    assert "labels: password: reset" in kept
    assert "after" in kept
    assert "opensesame" not in kept
