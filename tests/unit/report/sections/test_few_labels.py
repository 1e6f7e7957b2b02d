"""Few labels: which runs stand in one table, what is paired, and who is flagged."""

from __future__ import annotations

import copy
import statistics

import numpy as np
import pytest
from tests.unit.report.sweeps import planned

from peftlab.report.analysis.few_labels import few_labels_of
from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.as_json import numbers
from peftlab.report.contents import document_of
from peftlab.report.sections import few_labels
from peftlab.report.statistics.two_way import crossed
from peftlab.report.study import reading

pytestmark = pytest.mark.slow

BUDGET = {"trained_on": 48, "selected_on": 0, "selects": ["checkpoint"]}
PATTERNS = ["{text} It was {answer}", "Sentiment: {answer} {text}", "{answer}: {text}"]


def few_shots(draws=4, patterns=PATTERNS, methods=("lora", "head")):
    """Return a sweep of runs on samples: of the first method one for each pattern, of the others one a draw."""
    sweep = planned("classification", methods=methods, seeds=(0,), examples=40)
    runs = []
    for run in sweep.runs:
        of_method = patterns if run.method == methods[0] else [None]
        for draw in range(draws):
            for number, pattern in enumerate(of_method):
                one = copy.deepcopy(run)
                one.config["budget"] |= {"per_class": 16, "sample_seed": draw}
                one.error_rate += 0.03 * number + 0.02 * draw
                overrides = [f"peft={run.method}", "seed=0", "budget.per_class=16", f"budget.sample_seed={draw}"]
                if pattern is not None:
                    one.config["task"] |= {"template": pattern, "name": "prompt"}
                    overrides += ["task=prompt", f"task.template='{pattern}'"]
                selected = 300 if run.method == methods[0] else 0
                one.record |= {"overrides": overrides, "label_budget": BUDGET | {"selected_on": selected}}
                runs.append(one)
    sweep.runs = runs
    return sweep


@pytest.fixture
def analysis_of(tmp_path):
    def make(sweep, check):
        with reading([sweep.write(tmp_path / "sweep")]) as study:
            analysis = analysed(study, Options())
            document_of(analysis)  # all sections can be made
            numbers(analysis)
            return check(analysis)

    return make


def test_methods_of_two_tasks_stand_in_one_table_over_draws_and_patterns(analysis_of):
    (found,) = analysis_of(few_shots(), few_labels_of)
    assert found.columns == "patterns"
    by_name = {one.name: one for one in found.methods}
    assert {name: one.mean.shape for name, one in by_name.items()} == {
        "prompt lora": (4, 3),
        "classification head": (4, 1),
    }
    prompt = by_name["prompt lora"]
    table = np.asarray([[prompt.cells[draw, pattern] for pattern in PATTERNS] for draw in range(4)])
    assert (prompt.mean.value, prompt.mean.rows_sd) == pytest.approx((table.mean(), crossed(table).rows_sd))
    (pair,) = found.differences.items()
    assert pair[0] == ("prompt lora", "classification head")
    head = statistics.fmean(by_name["classification head"].cells.values())
    assert pair[1].value == pytest.approx(table.mean() - head)
    assert pair[1].shape == (4, 3)


def test_a_draw_without_all_patterns_is_left_out(analysis_of):
    sweep = few_shots()
    del sweep.runs[0]
    (found,) = analysis_of(sweep, few_labels_of)
    prompt = next(one for one in found.methods if one.name == "prompt lora")
    assert (prompt.mean.shape, prompt.left_out) == ((3, 3), 2)
    assert found.differences["prompt lora", "classification head"].shape == (3, 3)


def test_runs_that_were_selected_on_more_labels_than_their_shots_are_flagged(analysis_of):
    section = analysis_of(few_shots(), few_labels.section)
    text, methods, _, flagged = section.blocks
    assert "crossed bootstrap" in text.text
    assert [row[-1].text for row in methods.rows if row[0].text == "prompt lora"] == ["300 (!)"]
    assert flagged.text.startswith("Selected on more labels than they were trained on: prompt lora.")


def test_differences_of_many_methods_are_adjusted_for_their_number(analysis_of):
    def check(analysis):
        (found,) = few_labels_of(analysis)
        least = min(found.differences, key=lambda pair: found.differences[pair].p())
        assert len(found.differences) == 3
        assert found.p_values[least] == pytest.approx(min(1.0, 3 * found.differences[least].p()))
        return few_labels.section(analysis)

    differences = analysis_of(few_shots(methods=("lora", "head", "full")), check).blocks[2]
    assert all(row[3].strong == (row[5].value <= 0.05) for row in differences.rows)


def test_no_interval_has_a_score_that_there_cannot_be(analysis_of):
    sweep = few_shots(draws=2, patterns=[None])
    for run in sweep.runs:
        run.error_rate = 0.1 * run.config["budget"]["sample_seed"]
    (found,) = analysis_of(sweep, few_labels_of)
    assert [one.mean.high for one in found.methods] == [1, 1]  # of two draws, it would be far above


def test_without_patterns_the_columns_are_seeds(analysis_of):
    sweep = few_shots(patterns=[None])
    more = copy.deepcopy(sweep.runs)
    for run in more:
        run.seed = run.config["seed"] = 1
        run.record["overrides"] = [text.replace("seed=0", "seed=1", 1) for text in run.record["overrides"]]
    sweep.runs += more
    (found,) = analysis_of(sweep, few_labels_of)
    assert found.columns == "seeds"
    assert {one.mean.shape for one in found.methods} == {(4, 2)}


def test_runs_on_whole_training_splits_have_no_such_section(analysis_of):
    assert analysis_of(planned(), few_labels.section) is None
