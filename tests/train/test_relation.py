"""Whole runs on relations between two marked entities."""

from __future__ import annotations

import json

import pytest
from transformers import AutoModelForSequenceClassification

from peftlab.errors import ConfigError, UserError
from peftlab.use.finished import load

pytestmark = pytest.mark.slow

LEARNING = ["optimizer.lr=1e-2", "budget.max_steps=150", "model.dropout=0"]


@pytest.fixture(scope="session")
def run_relations(run_tiny, tiny_relations):
    """Run the tiny model on the tiny relations with further overrides, LoRA by default."""
    return lambda *overrides: run_tiny("task=relation", "data=relations", f"data.path={tiny_relations}", *overrides)


def test_a_run_learns_relations_and_their_directions_and_is_used(run_relations):
    record = run_relations(*LEARNING, "model.pooling=entity_start", "regularizer=[]", "data.eval_batch_size=16")
    scores = {metric["name"]: metric["value"] for metric in record.data["metrics"] if metric["split"] == "test"}
    assert scores["relation_f1"] > 0.6
    run = load(record.folder)
    assert run.evaluate().equal
    (kept, *_) = map(json.loads, (record.folder / "predictions" / "test.jsonl").read_text().splitlines())
    (answer,) = run.predict([kept["input"]])
    assert answer["predicted"] == kept["predicted"]
    with pytest.raises(UserError, match=r"model\.pooling=entity_start"):
        run.export("exported")


def test_rows_that_are_read_at_their_entities_are_not_mixed(run_relations):
    for pooling in ("entity_start", "entity_mean"):
        with pytest.raises(ConfigError, match=rf"regularizer\.mixup: it mixes rows .* model\.pooling={pooling} reads"):
            run_relations(f"model.pooling={pooling}", "regularizer=[mixup]")


def test_what_reads_the_first_token_is_exported(run_relations):
    record = run_relations("peft=full", "model.pooling=cls", "budget.max_steps=6")
    exported = load(record.folder).export("exported")
    AutoModelForSequenceClassification.from_pretrained(exported.folder)
    mark, _, other, _ = load(record.folder).predictor.task.marks
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    assert f"`{mark}` before and `{mark}` after the first argument of the relation (e1), `{other}` before" in card


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.parametrize("peft", ["prompt_tuning", "prefix_tuning", "houlsby", "ia3", "adalora", "bitfit", "full"])
def test_methods_of_every_kind_are_saved_with_the_layer_of_the_entities(run_relations, peft):
    record = run_relations(f"peft={peft}", "model.pooling=entity_mean", "trainer.accumulate=2", "budget.max_steps=6")
    assert load(record.folder).evaluate().equal


def test_frozen_layers_are_cached_and_shapes_may_be_static(run_relations):
    options = ["peft=head", "model.pooling=entity_mean", "model.dropout=0", "model.attention_dropout=0", "seed=3"]
    options += ["budget.max_steps=12"]
    plain = run_relations(*options, "trainer.cache_activations=false", "run_dir=plain")
    cached = run_relations(*options, "trainer.cache_activations=true", "run_dir=cached")
    static = run_relations(*options, "trainer.cache_activations=false", "trainer.static_shapes=true", "run_dir=static")
    losses = [
        [metric["value"] for metric in run.data["metrics"] if metric["name"] == "loss"]
        for run in (plain, cached, static)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)
