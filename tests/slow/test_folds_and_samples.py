"""Runs on folds, and on samples of the training split, in one report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftlab import cli
from peftlab.one_run import run

pytestmark = pytest.mark.slow


@pytest.fixture
def report_of(compose_config, tiny_overrides):
    """Return the report of runs with both of two seeds, and each of some choices."""

    def make(*choices):
        for seed in (0, 1):
            for choice in choices:
                short = ["budget.max_steps=6", "callbacks=[]", f"seed={seed}", choice, "name=study"]
                overrides = [*tiny_overrides, *short]
                run(compose_config(*overrides), ["train"], overrides)
        assert cli.main(["report", "runs/study", "--out", "report"]) == 0
        return json.loads(Path("report/report.json").read_text()), Path("report/report.md").read_text()

    return make


def test_a_cross_validation_is_scored_as_a_whole(report_of):
    numbers, text = report_of("data.fold=1/3", "data.fold=2/3", "data.fold=3/3")
    (comparison,) = numbers["comparisons"]
    (group,) = comparison["groups"]
    assert len(group["runs"]) == 6
    assert list(group["scores"]["by_seed"]) == ["0", "1"]
    assert comparison["examples"] == 48  # all of the training split, once
    assert "## Cross-validation" in text


@pytest.mark.exhaustive
def test_samples_make_a_learning_curve(report_of):
    numbers, text = report_of("budget.train_examples=12", "budget.train_examples=24", "budget.train_examples=0.9")
    assert "## By number of training examples" in text
    (comparison,) = numbers["comparisons"]
    assert len(comparison["groups"]) == 3
