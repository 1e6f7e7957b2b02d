"""Whole runs on texts with a number each, and what is done with a finished one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import pipeline

from peftlab.errors import ConfigError, NonFiniteError, UserError
from peftlab.runs.folder import RunFolder, read_config, read_predictions
from peftlab.runs.record import RunRecord
from peftlab.use.check import check
from peftlab.use.clean import label_errors_of
from peftlab.use.finished import load

LEARNING = ["optimizer.lr=5e-3", "budget.max_steps=60", "model.dropout=0"]


@pytest.fixture(scope="session")
def numbers(tiny_numbers):
    return ["task=regression", "data=csv", f"data.path={tiny_numbers}"]


@pytest.fixture(scope="session")
def finished_numbers(run_once, numbers):
    """A finished run; tests only read it."""
    return run_once("finished_numbers", *numbers, *LEARNING)


@pytest.mark.slow
def test_it_learns_and_its_scale_is_that_of_the_training_split(finished_numbers):
    task = read_config(finished_numbers.folder)["task"]
    assert finished_numbers.score("test", "pearson") > 0.7
    assert finished_numbers.score("test", "rmse") < task["sd"]
    assert 0.5 < task["mean"] < 8.5


@pytest.mark.slow
def test_a_run_that_diverges_says_so(run_tiny, numbers):
    """A validation without a score comes before the step that finds the weights not finite, and ends nothing."""
    diverging = ["optimizer.lr=1e30", "peft=full", "budget.max_steps=4", "budget.validate_every=0.17"]
    with pytest.raises(NonFiniteError, match=r"weights are not finite.*lower optimizer\.lr"):
        run_tiny(*numbers, *diverging, "callbacks=[early_stopping]")


@pytest.mark.slow
def test_the_record_agrees_with_the_predictions(finished_numbers):
    scorer = load(finished_numbers.folder).parts.task.scorer
    rows = read_predictions(finished_numbers.folder / "predictions" / "test.jsonl")
    recorded = {score["name"]: score["value"] for score in finished_numbers.scores("test")}
    assert scorer.measured(rows) == {name: value for name, value in recorded.items() if name != "loss"}
    assert "spearman" in recorded
    assert check(RunFolder(finished_numbers)).causes == []


@pytest.mark.slow
def test_it_is_scored_again_and_answers(finished_numbers):
    run = load(finished_numbers.folder)
    assert run.evaluate().equal
    rows = read_predictions(finished_numbers.folder / "predictions" / "test.jsonl")[:4]
    answers = run.predict([row["input"] for row in rows])
    assert [one["predicted"] for one in answers] == pytest.approx([row["predicted"] for row in rows], rel=1e-5)


@pytest.mark.slow
def test_the_exported_model_gives_standardised_numbers(finished_numbers, tmp_path):
    run = load(finished_numbers.folder)
    run.export(tmp_path / "exported")
    (answer,) = run.predict(["Marie Curie moved from Paris to Rome ."])
    given = pipeline("text-classification", str(tmp_path / "exported"), function_to_apply="none")(answer["text"])
    task = run.parts.task
    assert given[0]["score"] * task.sd + task.mean == pytest.approx(answer["predicted"], rel=1e-4)
    assert f"times {task.sd}, plus {task.mean}" in (tmp_path / "exported" / "README.md").read_text()
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert config["problem_type"] == "regression"


def test_what_needs_labels_says_so(finished_numbers):
    with pytest.raises(UserError, match="its task has no labels"):
        label_errors_of(finished_numbers.folder)


@pytest.mark.slow
def test_a_constant_is_never_the_best(run_tiny, numbers):
    """On a scale so small, all predictions are equal, and nothing correlates with them; a loss can still select."""
    flat = [*numbers, "budget.max_steps=2", "task.sd=1e-9", "optimizer.lr=1e-9"]
    with pytest.raises(RuntimeError, match="no validation gave a pearson that is a number"):
        run_tiny(*flat)
    record = RunRecord.load(run_tiny(*flat, "task.selection.metric=loss").folder)
    assert record.score("test", "pearson") is None
    assert record.score("test", "rmse") > 0
    assert check(RunFolder(record)).causes == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["focal", "confidence_penalty"])
def test_what_reshapes_distributions_is_refused_before_anything_is_written(run_tiny, numbers, name):
    with pytest.raises(ConfigError, match=f"regularizer.{name}: .* task=regression has none"):
        run_tiny(*numbers, f"regularizer={name}")
    assert not Path("runs").exists()


@pytest.mark.slow
def test_changed_inputs_are_measured(finished_numbers):
    run = load(finished_numbers.folder)
    measured = run.robustness(["typo", "pgd"], limit=16)
    assert {one.perturbation for one in measured.outcomes} == {"typo", "pgd"}
    assert measured.metric == "pearson"
    with pytest.raises(UserError, match="greedy: none of these 16 examples is answered rightly"):
        run.robustness(["greedy"], limit=16)
