"""Predictions as counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.unit.report.sweeps import planned

from peftlab.report.analysis.counts import Counted, counted, joined
from peftlab.report.statistics.measured import counts_of_clusters
from peftlab.report.study import reading
from peftlab.scores.class_scores import ClassScores


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


def test_counts_without_zeros_are_joined_as_whole_ones():
    scorer = ClassScores([f"label {number}" for number in range(70)])
    parts = []
    for fold in range(2):
        answers = [{"gold": f"label {n}", "predicted": f"label {n + fold}"} for n in range(3)]
        counts = counts_of_clusters(scorer, answers, [f"{fold}-{n}" for n in range(3)])
        parts.append(Counted(counts, tuple(f"{fold}-{n}" for n in range(3)), "groups", 3, scorer))
    both = joined(parts)
    whole = joined([replace(part, counts=part.dense) for part in parts])
    assert isinstance(whole.counts, np.ndarray)
    assert np.array_equal(both.dense, whole.counts)
    assert (both.counting, both.counts.shape) == (whole.counting, whole.counts.shape) == (6, (6, 4900))
    assert both.counts.sum(axis=0).tolist() == whole.counts.sum(axis=0).tolist()
