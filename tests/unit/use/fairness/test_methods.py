"""Methods are compared by what all of their runs have been measured of, each metric with itself."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tests.unit.report.sweeps import LABELS, planned

from peftlab.report.statistics.measures import Sums
from peftlab.report.study import reading
from peftlab.use.fairness import methods as of_methods
from peftlab.use.fairness.groups import Attribute
from peftlab.use.fairness.measure import Divided, Settings
from peftlab.use.fairness.methods import methods


@pytest.mark.parametrize("cut", ["full", "lora"])
def test_a_metric_that_some_runs_lack_is_left_out_and_the_others_keep_their_names(tmp_path, cut):
    sweep = planned("classification", methods=("full", "lora"), seeds=(0,), examples=90, groups=0)
    for run in sweep.runs:
        draw = random.Random(run.method)
        run.answers["test"] = [
            _answer(draw, number, example, run.method == cut) for number, example in enumerate(sweep.gold["test"])
        ]
    with reading([sweep.write(tmp_path / "sweep")]) as study:
        compared = methods(study.runs, Settings(("terms=gender",), metrics=("bpsn_auc", "bnsp_auc"), min_group=5))
    by_metric = {}
    for row in compared.rows:
        by_metric.setdefault(row.metric, {})[row.method] = row.gap.value
    assert all(len(of) == 2 for of in by_metric.values())
    kept = f"bpsn_auc/{LABELS[1]}"
    assert kept in by_metric
    assert f"bpsn_auc/{LABELS[0]}" not in by_metric
    note = f"terms=gender, bpsn_auc/{LABELS[0]}: 1 of 2 runs lack it, {cut}, seed 0 for one"
    assert any(one.startswith(note) for one in compared.notes)
    # with the metric alone, which all have, the gap is the same
    with reading([tmp_path / "sweep"]) as study:
        alone = methods(study.runs, Settings(("terms=gender",), metrics=("bpsn_auc",), labels=LABELS[1:2], min_group=5))
    assert {row.method: row.gap.value for row in alone.rows if row.metric == kept} == by_metric[kept]


def _answer(draw, number, example, cut):
    """Return an answer about a woman or a man; where it is `cut`, the first label may lack its probability."""
    weights = {label: draw.random() + (label == example["gold"]) for label in LABELS}
    probabilities = {label: weight / sum(weights.values()) for label, weight in weights.items()}
    predicted = max(probabilities, key=probabilities.get)
    answer = {"predicted": predicted, "probability": probabilities[predicted], "probabilities": probabilities}
    if cut and predicted != LABELS[0]:
        del probabilities[LABELS[0]]
    return {**example, "input": f"{('she', 'he')[number % 2]} {example['input']}", **answer}


def test_a_group_in_which_a_score_is_no_number_is_none_of_the_pair(tmp_path, monkeypatch):
    sweep = planned("classification", methods=("full", "lora"), seeds=(0,), examples=90, groups=0)
    totals = np.zeros((90, 2))
    totals[:, 0], totals[:, 1] = np.repeat([1.0, 3.0, 0.0], 30), np.repeat([10.0, 10.0, 0.0], 30)

    def ratio(sums):
        return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)

    made = Divided(Attribute("a", (*"x" * 30, *"y" * 30, *"z" * 30)), [Sums("one", totals, ratio)], np.arange(90))
    monkeypatch.setattr(of_methods, "divided", lambda *args: [made])
    with reading([sweep.write(tmp_path / "sweep")]) as study:
        rows = methods(study.runs, Settings(("a",), min_group=5)).rows
    assert {row.pair for row in rows} == {("y", "x")}
