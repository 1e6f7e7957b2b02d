from __future__ import annotations

from types import SimpleNamespace

import pytest

from peftlab.abstaining.learning import compared
from peftlab.runs.record import RunRecord


@pytest.mark.parametrize(("select", "number"), [("best", 2), ("last", 1)])
def test_a_validation_that_a_resumed_run_repeats_is_one_checkpoint(tmp_path, select, number):
    record = RunRecord.start(tmp_path, run_id="x", name="x", command=[], overrides=[], identity={"sha256": "0"})
    data = SimpleNamespace(budget=SimpleNamespace(select=select))
    assert compared(record, data) == 1  # the last one, after the training
    for step in (2, 4):
        record.event("validated", step=step)
    record.resume(step=3)
    record.event("validated", step=4)
    assert compared(record, data) == number
