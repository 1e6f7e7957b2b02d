"""Multiple choice: a run, its answers, and what is done with it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import peftlab
from peftlab.errors import ConfigError, DataError

pytestmark = pytest.mark.slow

QUESTION = {"context": "maria moved from paris to rome .", "question": "which?", "choices": ["move", "hire", "report"]}


@pytest.fixture
def train(tiny_run, tiny_choices):
    def make(*overrides, run_dir="run"):
        data = ["task=choice", "data=choices", f"data.path={tiny_choices}", "data.format.rows.context=context"]
        record = peftlab.run(*tiny_run, *data, "data.max_tokens=64", f"run_dir={run_dir}", *overrides)
        assert record.data["status"] == "completed"
        return record

    return make


def test_a_run(train):
    record = train("peft=lora", "trainer.accumulate=2", "augment=[typo]", "model.pooling=mean", "regularizer=[rdrop]")
    run = peftlab.load("run")
    assert run.evaluate().equal
    rows = [json.loads(line) for line in Path("run/predictions/test.jsonl").read_text().splitlines()]
    assert len(rows) == 16
    for row in rows:
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert row["choices"] == len(row["probabilities"]) == len(row["input"]["choices"])
        assert row["probabilities"][row["predicted"]] == max(row["probabilities"])
    right = sum(row["predicted"] == row["gold"] for row in rows) / 16
    assert record.score("test", "accuracy") == right
    assert 0.2 < record.score("test", "guessing") < 0.6
    assert Path("run/tables/test/positions.csv").read_text().startswith("position,accuracy,support,predicted")
    (answer,) = run.predict([QUESTION])
    assert answer["choice"] == QUESTION["choices"][answer["predicted"]]
    with pytest.raises(DataError, match=r"texts\[0\]: expected `question` or `context`"):
        run.predict(["paris"])
    assert run.robustness(["typo"], limit=8).outcomes


def test_what_is_fast_and_what_is_exported_gives_the_same(train):
    """Frozen activations, and shapes of a few sizes, change the scores by no more than rounding."""
    given = ["peft=head", "model.dropout=0", "model.attention_dropout=0"]
    plain = train(*given, "trainer.cache_activations=false")
    cached = train(*given, "trainer.cache_activations=true", run_dir="cached")
    static = train(*given, "trainer.cache_activations=false", "trainer.static_shapes=true", run_dir="static")
    for other in (cached, static):
        assert other.score("test", "loss") == pytest.approx(plain.score("test", "loss"), rel=1e-5)
    run = peftlab.load("run")
    assert run.export("exported").largest_difference < 1e-4
    card = Path("exported/README.md").read_text()
    assert "pipeline_tag: multiple-choice" in card


def test_rows_of_different_examples_are_not_mixed(train):
    with pytest.raises(ConfigError, match=r"regularizer\.mixup: it mixes rows of different examples"):
        train("regularizer=[mixup]")
