"""What records say of trials."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from functools import partial

import pytest
from tests.unit.sweep.conftest import begin, cell, end

from peftlab.errors import UserError
from peftlab.runs.record import RunRecord
from peftlab.sweep.ledger import SELECTION, Ledger, outcome, value_at
from peftlab.sweep.plan import Evaluation


def test_a_completed_run_gives_its_objectives_and_evaluations(tmp_path):
    found = outcome(end(begin(tmp_path, cell("a=1")), value=0.8), [SELECTION, "cost.wall_seconds"])
    assert (found.status, found.values, found.steps, found.seconds) == ("completed", (0.8, 2.0), 40, 2.0)
    assert found.evaluations == tuple(Evaluation(n / 4, pytest.approx(0.2 * n)) for n in range(1, 5))


def test_a_run_without_a_number_to_compare_counts_as_failed(tmp_path):
    record = end(begin(tmp_path, cell("a=1")), value=math.nan)
    assert outcome(record, [SELECTION]).status == "failed"
    assert outcome(record, ["cost.nothing"]).values == ()


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_what_did_not_end_well_has_no_values_and_still_its_cost(tmp_path, status):
    found = outcome(end(begin(tmp_path, cell("a=1")), status), [SELECTION])
    assert (found.status, found.values, found.seconds) == ("failed", (), 2.0)


def test_a_validation_that_was_repeated_after_a_resume_counts_once(tmp_path):
    record = begin(tmp_path, cell("a=1"))
    for value in (0.1, 0.3):
        record.event("validated", step=10, of=40, f1=value)
    assert outcome(end(record, "pruned", value=0.4), [SELECTION]).evaluations == (Evaluation(0.25, 0.1),)


def test_a_number_is_found_at_a_dotted_key():
    data = {"a": {"b": [1, {"c": 2}]}}
    assert value_at(data, "a.b") != value_at(data, "a.b")  # nan
    assert math.isnan(value_at(data, "x.y"))
    assert value_at({"a": {"b": 3}}, "a.b") == 3.0


@pytest.mark.slow
def test_a_second_controller_is_kept_out_as_long_as_there_is_the_first(tmp_path):
    code = f"from pathlib import Path; from peftlab.sweep.ledger import Ledger; Ledger(Path({str(tmp_path)!r}))"
    second = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=False)
    with Ledger(tmp_path):
        ended = second()
        assert f"process {os.getpid()} on" in ended.stderr
        assert "is writing this sweep" in ended.stderr
    assert second().returncode == 0


def test_only_looking_leaves_nothing_behind(tmp_path):
    with Ledger(tmp_path / "sweep", look_only=True) as books:
        assert list(books.records()) == []
    assert not (tmp_path / "sweep").exists()


def test_a_folder_with_another_run_in_it_is_refused(tmp_path):
    books = Ledger(tmp_path, look_only=True)
    mine, other = cell("a=1"), cell("a=2")
    assert books.record(mine) is None
    begin(tmp_path, other).folder.rename(tmp_path / mine.run_id)
    with pytest.raises(UserError, match="holds another run"):
        books.record(mine)


def test_the_record_of_a_dead_run_says_so_and_others_are_left_alone(tmp_path):
    books = Ledger(tmp_path, look_only=True)
    dead, done = begin(tmp_path, cell("a=1")), end(begin(tmp_path, cell("a=2")))
    for record in (dead, done):
        books.end_dead(record, "ended by SIGKILL")
    assert RunRecord.load(dead.folder).data["error"] == {"type": "Died", "message": "ended by SIGKILL"}
    assert RunRecord.load(done.folder).data["status"] == "completed"
