from __future__ import annotations

import statistics

import pytest
from tests.unit.report.sweeps import LABELS, cross_validated, planned

from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.contents import document_of
from peftlab.report.sections import folds
from peftlab.report.study import reading

pytestmark = pytest.mark.slow


@pytest.fixture
def result_of(tmp_path):
    def make(sweep, check=lambda result: result):
        with reading([sweep.write(tmp_path / "sweep")]) as study:
            analysis = analysed(study, Options())
            document_of(analysis)  # all sections can be made
            (result,) = analysis.results
            return check(result)

    return make


def test_the_folds_of_a_seed_are_one_repetition(result_of):
    sweep = cross_validated(planned(methods=("full", "lora"), seeds=(0, 1, 2)))
    result = result_of(sweep)
    assert result.comparison.keys == ("peft",)
    assert [row.measured.seeds for row in result.rows] == [(0, 1, 2)] * 2
    assert [len(row.group.final) for row in result.rows] == [9, 9]
    assert (result.units, result.clusters, result.examples) == ("groups", 12, 60)
    assert result.findings == ()
    scorer = sweep.scorer
    for row in result.rows:
        for seed, value in zip(row.measured.seeds, row.measured.scores, strict=True):
            answers = [answer for run in sweep.of(row.name) if run.seed == seed for answer in run.answers["test"]]
            assert len(answers) == 60
            assert value == pytest.approx(scorer.scores(scorer.total(answers))["entity_f1"])


def test_each_fold_is_in_the_table(result_of):
    sweep = cross_validated(planned(methods=("full", "lora")))
    section = result_of(sweep, folds.section)
    table = section.blocks[1]
    assert [column.title.split()[0] for column in table.columns] == ["peft", "1/3", "2/3", "3/3", "SD"]
    for row in table.rows:
        *means, spread = [cell.value for cell in row[1:]]
        assert spread == pytest.approx(statistics.stdev(means))


def test_a_cross_validation_stands_apart_from_runs_on_the_test_split(result_of):
    sweep = planned(methods=("lora",))
    sweep.runs += cross_validated(planned(methods=("lora",))).runs
    result = result_of(sweep)
    assert "data.fold" in result.comparison.keys
    assert sorted(len(row.group.final) for row in result.rows) == [3, 9]


def test_runs_without_folds_have_no_such_section(result_of):
    assert result_of(planned(), folds.section) is None


@pytest.mark.parametrize("labels", [[*LABELS, "mixed"], LABELS[::-1]])
def test_folds_with_different_labels_are_not_scored_together(result_of, labels):
    sweep = cross_validated(planned("classification", methods=("lora",)))
    run = sweep.runs[4]  # the second fold of the second seed
    run.record["data"] = run.record["data"] | {"labels": labels}
    result = result_of(sweep)
    ((reason, runs),) = result.notes
    assert reason == "the folds have different labels, scorers or groups"
    assert len(runs) == 3
    (row,) = result.rows
    assert row.measured.seeds == (0, 1, 2)
    assert (row.counted, row.test_set) == ({}, None)
