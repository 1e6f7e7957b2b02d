"""The ensemble of a sweep: made once, made again when records change, and no reason for the sweep to fail."""

from __future__ import annotations

import logging
import os
from types import SimpleNamespace

import pytest
from tests.unit.report.sweeps import planned

from peftlab.sweep import ensembling
from peftlab.sweep.board import Board, told

pytestmark = pytest.mark.slow


def test_it_is_made_once_for_each_state_of_the_records(tmp_path, monkeypatch, caplog):
    folder = planned(methods=("lora",), seeds=(0, 1)).write(tmp_path / "sweep")
    asked, ends = [], SimpleNamespace(returncode=0, stdout="a table")
    monkeypatch.setattr(logging.getLogger("peftlab"), "propagate", True)
    processes = SimpleNamespace(run=lambda command, **_: asked.append(command) or ends, PIPE=-1)
    monkeypatch.setattr(ensembling, "subprocess", processes)

    def combine(best, status="completed"):
        board = Board("sweep", folder, ["train"], {}, 1, status=status)
        board.tracked, board.told = told(folder)
        asked.clear()
        ensembling.combine(board, best)
        return len(asked)

    caplog.set_level(logging.INFO)
    assert combine(None) == combine(2, "interrupted") == 0
    ends.returncode = 1
    assert combine(2) == 1
    assert f"the sweep has no ensemble, see above; try peftlab ensemble {folder} --best 2" in caplog.text
    ends.returncode = 0
    assert combine(2) == 1
    assert asked[0][3:8] == ["peftlab", "ensemble", str(folder), "--best", "2"]
    assert "a table" in caplog.text
    assert combine(2) == 0
    assert combine(1) == 1
    os.utime(next(folder.glob("*/record.json")), (1, 1))
    assert combine(1) == 1
