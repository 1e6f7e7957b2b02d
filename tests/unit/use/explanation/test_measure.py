"""The measurement of explainers on many examples."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from peftlab.use.explanation import measure as measuring


def test_an_interruption_says_what_is_lost(monkeypatch, caplog):
    def drawn(*_):
        yield None, "first"
        yield None, "second"
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring, "examples_of", lambda run, split: ["first", "second", "third"])
    monkeypatch.setattr(measuring, "_drawn", drawn)
    monkeypatch.setattr(measuring, "_explained", lambda subject, example, *_: example)
    with pytest.raises(KeyboardInterrupt):
        measuring.measure(SimpleNamespace(folder=None), examples=3)
    assert caplog.messages == [
        "interrupted: 2 of 3 examples were explained, and nothing is kept; --examples 2 takes the same ones"
    ]
