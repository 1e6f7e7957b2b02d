"""What a scorecard is worth: intervals, cut-offs, and gaps as fairlearn and statsmodels have them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame, selection_rate, true_positive_rate
from statsmodels.stats.proportion import proportion_confint

from peftlab.tables.calibrators import Sigmoid
from peftlab.tables.fitting import BOTH, COLUMNS, TEXTS, Rows
from peftlab.tables.judging import cut_offs, group_gaps, says, scored
from peftlab.tables.measures import Interval, auc_difference

RANDOM = np.random.default_rng(3)
Y = RANDOM.random(300) < 0.3
P = np.clip(RANDOM.normal(0.3 + 0.2 * Y, 0.15), 0.01, 0.99)


@dataclass
class Scoring:
    """A model whose margins are known."""

    values: np.ndarray
    calibrator = Sigmoid()

    def margins(self, rows):
        return self.values


def test_gaps_are_those_of_the_libraries():
    approved, sex = P < 0.35, RANDOM.choice(["f", "m", "x"], 300)
    found = {one["rate"]: one for one in group_gaps(approved, Y, {"sex": sex.tolist()}, None, seed=0)}
    for rate, metric in (("approval_rate", selection_rate), ("equal_opportunity", true_positive_rate)):
        theirs = MetricFrame(metrics=metric, y_true=~Y, y_pred=approved, sensitive_features=sex)
        gap = found[rate]["gap"]
        assert gap["value"] == pytest.approx(theirs.difference(), abs=1e-12)
        assert {one["name"]: one["value"] for one in gap["groups"]} == pytest.approx(theirs.by_group.to_dict())
        assert 0 <= gap["low"] <= gap["value"] <= gap["high"]
        assert found[rate]["p"] >= gap["p"]
    women = next(one for one in found["approval_rate"]["gap"]["groups"] if one["name"] == "f")
    limits = proportion_confint(approved[sex == "f"].sum(), (sex == "f").sum(), method="wilson")
    assert [women["low"], women["high"]] == pytest.approx(limits, abs=0.01)
    small = group_gaps(approved, Y, {"town": ["a"] * 295 + ["b"] * 5}, None, seed=0)
    assert [one["gap"] for one in small] == [None, None]


def test_cut_offs_count_what_approving_means():
    rows = cut_offs(P, Y, 0.25, loss=5, gain=1)
    assert [row["approved"] for row in rows[:10]] == pytest.approx(np.linspace(0.1, 1, 10), abs=0.01)
    assert [row["bad_refused"] for row in rows[:10]] == sorted((row["bad_refused"] for row in rows[:10]), reverse=True)
    assert (rows[9]["lift"], rows[9]["bad_among_approved"]) == (None, Y.mean())
    chosen = rows[-1]
    approved = P < 0.25
    assert chosen["chosen"]
    assert chosen["bad_among_approved"] == Y[approved].mean()
    assert chosen["lift"] == pytest.approx(Y[~approved].mean() / Y.mean())
    assert chosen["earned_per_application"] == pytest.approx(((approved & ~Y).sum() - 5 * (approved & Y).sum()) / 300)


def test_each_row_of_the_cut_offs_is_what_choosing_its_cut_off_gives():
    steps = np.round(P, 1)  # as isotonic calibration makes them: many rows have one probability
    for row in cut_offs(steps, Y, 0.25, loss=5, gain=1):
        assert row | {"chosen": True} == cut_offs(steps, Y, row["refused_from"], loss=5, gain=1)[-1]


@pytest.mark.exhaustive
def test_differences_are_paired_and_of_groups_where_there_are_some():
    margins = {COLUMNS: P + RANDOM.normal(size=300), BOTH: P, TEXTS: RANDOM.normal(size=300)}
    chosen = {name: Scoring(values) for name, values in margins.items()}
    rows = Rows([{}] * 300, [""] * 300, Y)
    found = scored(chosen, rows, None, seed=0)
    gain = found["gains"][f"{BOTH} - {COLUMNS}"]["auc"]
    assert gain == auc_difference(margins[BOTH], margins[COLUMNS], Y).__dict__
    assert found["says"] == "the text adds to the columns"
    model = found["models"][BOTH]
    assert model["gini"]["low"] == pytest.approx(2 * model["auc"]["low"] - 1)
    paired = found["gains"][f"{BOTH} - {TEXTS}"]["brier"]
    apart = [found["models"][name]["brier"]["value"] for name in (BOTH, TEXTS)]
    assert paired["value"] == pytest.approx(apart[0] - apart[1])
    grouped = scored(chosen, rows, np.arange(300) // 10, seed=0)["models"][BOTH]["auc"]
    assert grouped["value"] == pytest.approx(model["auc"]["value"])
    assert grouped["low"] != model["auc"]["low"]


@pytest.mark.parametrize("clusters", [None, np.arange(300) // 2])
def test_a_perfect_model_is_not_certain(clusters):
    chosen = {name: Scoring(Y.astype(float) if name == BOTH else P) for name in (COLUMNS, TEXTS, BOTH)}
    found = scored(chosen, Rows([{}] * 300, [""] * 300, Y), clusters, seed=0)["models"][BOTH]
    assert found["auc"]["value"] == found["auc"]["high"] == 1
    assert 0.9 < found["auc"]["low"] < 0.97
    assert found["gini"]["low"] == pytest.approx(2 * found["auc"]["low"] - 1)


def test_a_gain_whose_interval_holds_zero_is_not_claimed():
    for interval, word in (((0.01, 0.0, 0.02), "not shown"), ((0.01, 0.001, 0.02), "adds"), ((-1, -2, -0.1), "takes")):
        assert word in says(Interval(*interval))
