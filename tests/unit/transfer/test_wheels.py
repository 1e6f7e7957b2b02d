"""Wheels: what pip says of its failures. How they are fetched and unpacked: ``test_sources.py``."""

from __future__ import annotations

from peftlab.transfer import wheels


def test_passwords_in_an_index_url_are_not_shown() -> None:
    shown = wheels._reason("ERROR: 403 for url: https://user:hunter2@index.example/simple/corpus/\n")
    assert shown == "403 for url: https://****@index.example/simple/corpus/"


def test_a_failure_of_pip_without_an_error_line_is_still_told() -> None:
    assert wheels._reason("Traceback\nMemoryError\n") == "MemoryError"
    assert wheels._reason("") == "pip gave no reason"
