"""Predictions as counts."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.report.sweeps import planned

from peftlab.report.analysis.counts import counted
from peftlab.report.study import reading


def first_run(folder):
    with reading([folder]) as study:
        return next(run for run in study.runs if run.is_tested)


@pytest.mark.parametrize("task", ["ner", "classification"])
def test_the_scores_of_the_record_follow_from_the_counts(tmp_path, task):
    run = first_run(planned(task, examples=60, groups=12).write(tmp_path / "sweep"))
    one = counted(run)
    assert one is not None
    assert (one.units, one.examples, len(one.counts)) == ("groups", 60, 12)
    for name, value in one.scorer.scores(one.counts.sum(axis=0)).items():
        assert value == run.score("test", name)
    each = counted(run, "example")
    assert each is not None
    assert (each.units, len(each.counts)) == ("examples", 60)
    assert np.array_equal(each.counts.sum(axis=0), one.counts.sum(axis=0))


def test_without_groups_examples_are_the_units_unless_groups_are_asked_for(tmp_path):
    run = first_run(planned(groups=0).write(tmp_path / "sweep"))
    one = counted(run)
    assert one is not None
    assert one.units == "examples"
    with pytest.raises(ValueError, match="--cluster example"):
        counted(run, "group")
    (run.record.folder / "predictions" / "test.jsonl").unlink()
    assert counted(run) is None
