"""A sweep tells of itself, in its report and in W&B, when there is something new to tell."""

from __future__ import annotations

import os

import pytest
from tests.unit.report.sweeps import planned

from peftlab.sweep import sweep
from peftlab.sweep.board import Board, Trial, told

pytestmark = pytest.mark.slow


@pytest.fixture
def telling(tmp_path, monkeypatch):
    """A finished sweep, and what it has made."""
    folder = planned(methods=("lora",), seeds=(0,)).write(tmp_path / "sweep")
    made = []

    def report_on(folder, price):
        made.append("report")
        (folder / "report").mkdir(exist_ok=True)
        (folder / "report" / "report.html").touch()
        return folder / "report" / "report.html"

    monkeypatch.setattr(sweep, "report_on", report_on)
    monkeypatch.setattr(sweep, "tell_wandb", lambda *_: made.append("wandb") or True)

    def tell(*trials: Trial, wandb=True, **changes):
        """Tell as a new command does; return what is made, and whether there is a page."""
        board = Board("sweep", folder, ["train"], {}, 1, trials=list(trials), **changes)
        board.tracked, board.told = told(folder)
        made.clear()
        page = sweep._told(board, True, {} if not wandb else {"project": "p"}, {})
        return [*made], page is not None

    return folder, tell


def test_report_and_summary_are_made_again_when_something_has_changed(telling):
    folder, tell = telling
    assert tell() == (["report", "wandb"], True)
    assert tell() == ([], True)
    os.utime(next(folder.glob("*/record.json")), (1, 1))
    assert tell() == (["report", "wandb"], True)
    assert tell(price_per_device_hour=2.0) == (["report", "wandb"], True)
    assert tell(price_per_device_hour=2.0) == ([], True)
    worked = Trial([], {}, "a", "", state="completed", attempts=1)
    assert tell(worked, price_per_device_hour=2.0) == (["report", "wandb"], True)
    (folder / "report" / "report.html").unlink()
    assert tell(price_per_device_hour=2.0) == (["report"], True)


def test_what_could_not_be_told_is_told_by_the_next_command(telling, monkeypatch):
    folder, tell = telling
    monkeypatch.setattr(sweep, "report_on", lambda *_: None)
    monkeypatch.setattr(sweep, "tell_wandb", lambda *_: False)
    assert tell() == ([], False)
    assert told(folder) == (None, {})
    assert tell(status="interrupted", wandb=False) == ([], False)
