from __future__ import annotations

import io
import logging
from types import SimpleNamespace

import pytest
from rich.console import Console

from peftlab.callbacks import progress as progress_module
from peftlab.callbacks.progress import Progress


@pytest.fixture
def lines(caplog, monkeypatch, clock):
    """The lines of the log, on a clock that only moves when told to."""
    monkeypatch.setattr(logging.getLogger("peftlab"), "propagate", True)
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(perf_counter=clock))
    caplog.set_level(logging.INFO, logger="peftlab")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "peftlab"]


def test_a_line_every_few_seconds(lines, train):
    train(Progress(every_seconds=2), 4, 4, 4, 4, 4, epochs=1, validation=None)
    assert [line.split("  ")[0] for line in lines()] == ["step 2/5", "step 4/5"]
    assert [line.split("  ")[2:] for line in lines()] == [
        ["lr 2.50e-01", "4 samples/s", "ETA 0:03"],
        ["lr 2.50e-01", "4 samples/s", "ETA 0:01"],
    ]


def test_the_loss_is_that_which_is_logged(lines, train, clock):
    module = train.one_layer(clock)
    module.layer.weight.data.fill_(0.5)
    train(Progress(every_seconds=0), 4, epochs=1, validation=None, module=module)
    assert [line.split("  ")[1] for line in lines()] == [f"loss {4 * 4 * 8 * 0.5:.4f}"]


def test_validation_is_shown_and_takes_no_part_in_the_rate(lines, train):
    train(Progress(every_seconds=1), 4, 4, epochs=2)
    assert [line.split("  ")[0] for line in lines()] == [
        "step 1/4",
        "step 2/4",
        "step 2",
        "step 3/4",
        "step 4/4",
        "step 4",
    ]
    assert lines()[2] == "step 2  validation: score 0.5000"
    assert all("4 samples/s" in line for line in lines() if "/4" in line)
    assert "ETA 0:01" in lines()[3]


def test_a_terminal_gets_a_bar_that_is_taken_away(lines, train, monkeypatch):
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=100)
    monkeypatch.setattr(progress_module, "console", terminal)
    callback = Progress()
    train(callback, 4, 4, epochs=1, validation=None)
    assert "step 2/2" in shown.getvalue()
    assert callback._bar is None
    assert lines() == []
