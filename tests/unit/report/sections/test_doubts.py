"""What weakens a result although its runs are sound."""

from __future__ import annotations

import pytest
from tests.unit.report.sweeps import edited_record, planned, run_folders

from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.sections.doubts import findings
from peftlab.report.sections.trade import said, trade_of
from peftlab.report.study import reading

pytestmark = pytest.mark.slow


def result_of(folder, **options):
    with reading([folder]) as study:
        (result,) = analysed(study, Options(**options)).results
        return result, {finding.check: finding.text for finding in findings(result)}


def test_a_best_value_at_the_edge_and_a_rising_curve(tmp_path):
    folder = planned(seeds=(0, 1, 2), trials=3, examples=60).write(tmp_path / "sweep")

    _, found = result_of(folder)
    assert "that was tried" in found["edge_of_search"]
    assert "6 of 6 tested runs" in found["still_improving"]

    def flat(record):
        for event in record["history"]:
            if event["event"] == "validated":
                event["entity_f1"] = 0.5

    for run in run_folders(folder):
        edited_record(run, flat)
    assert "still_improving" not in result_of(folder)[1]


def test_last_weights_that_are_kept_whatever_their_score_are_not_called_the_best(tmp_path):
    folder = planned(seeds=(0, 1, 2), examples=60).write(tmp_path / "sweep")

    def fell_in_between(record):
        events = [event for event in record["history"] if event["event"] == "validated"]
        for event, value in zip(events, (0.9, 0.5, 0.6), strict=True):
            event["entity_f1"] = value

    assert "6 of 6 tested runs" in result_of(folder)[1]["still_improving"]
    for run in run_folders(folder):
        edited_record(run, fell_in_between)
    assert "still_improving" not in result_of(folder)[1]


def test_the_trade_is_the_difference_and_the_costs(tmp_path):
    folder = planned(methods=("full", "head"), seeds=(0, 1, 2), examples=120).write(tmp_path / "sweep")
    result, _ = result_of(folder, price_per_device_hour=2.0)
    trade = trade_of(result)
    assert (trade.best, trade.other) == ("full", "head")
    assert trade.gain == pytest.approx(result.row("full").value - result.row("head").value)
    (pair,) = result.pairs
    assert (trade.low, trade.high) == pytest.approx((-pair.difference.high, -pair.difference.low))
    assert set(trade.times) == {"parameters", "memory", "time", "money"}
    assert "times the money" in said(trade, "entity_f1")


def test_too_few_seeds_have_no_trade(tmp_path):
    result, _ = result_of(planned(seeds=(0, 1), examples=60).write(tmp_path / "sweep"))
    assert trade_of(result) is None


def test_a_seed_far_below_the_others_is_unstable(tmp_path):
    sweep = planned(methods=("full", "lora"), seeds=(0, 1, 2), examples=60)
    sweep.of("lora")[1].error_rate = 0.7
    _, found = result_of(sweep.write(tmp_path / "sweep"))
    assert "lora (" in found["unstable"]
    assert "full" not in found["unstable"]
