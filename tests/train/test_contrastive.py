"""Contrastive fine-tuning: a run, its fitted head, and what is done with it afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

import peftlab
from peftlab.errors import ConfigError
from peftlab.use.evaluate import tuner_of
from peftlab.use.examples import data_of

pytestmark = pytest.mark.slow

LEARNING = ["optimizer.lr=5e-3", "budget.max_steps=20", "budget.validate_every=2", "data.max_tokens=40"]


@pytest.fixture
def train(run_tiny, tiny_texts):
    def make(*overrides):
        return run_tiny("task=contrastive", "data=csv", f"data.path={tiny_texts}", *LEARNING, "run_dir=run", *overrides)

    return make


def head_of(run_dir):
    tensors = load_file(Path(run_dir, "adapter", "adapter_model.safetensors"))
    weight, bias = (
        next(t for name, t in tensors.items() if f"classifier.{kind}" in name) for kind in ("weight", "bias")
    )
    return weight.double().numpy(), bias.double().numpy()


def embeddings_of(run, split):
    """Return the embeddings of a split by a finished run, one text at a time, and its labels."""
    data, tuner = data_of(run), tuner_of(run)
    members = data.splits[split]
    with torch.inference_mode():
        batches = [data.task.collate(members.examples, members.encoded, [n]) for n in range(members.rows)]
        vectors = [data.task.outputs(tuner.model, batch).embeddings[0].double().numpy() for batch in batches]
    return np.stack(vectors), np.asarray([data.task.labels.index(one.label) for one in members.examples])


def test_a_run_has_the_classifier_that_fits_its_best_checkpoint(train):
    record = train("peft=lora", "trainer.accumulate=2", "budget.train_examples=null", "budget.per_class=4")
    assert record.score("test", "accuracy") > 0.5
    run = peftlab.load("run")
    assert run.evaluate().equal
    embeddings, labels = embeddings_of(run, "train")
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1)
    own = LogisticRegression(C=10, tol=1e-6, max_iter=10_000).fit(embeddings, labels)
    weight, bias = head_of("run")
    np.testing.assert_allclose(weight, own.coef_, atol=2e-3)
    np.testing.assert_allclose(bias, own.intercept_, atol=2e-3)
    answer = run.predict(["maria moved from paris to rome ."])[0]
    assert answer["probabilities"][answer["predicted"]] == answer["probability"]


def test_without_training_it_is_the_classifier_of_the_pretrained_embeddings(train):
    record = train("peft=head", "budget.max_steps=0", "task.classifier=prototype")
    assert record.data["cost"]["steps"] == 0
    run = peftlab.load("run")
    embeddings, labels = embeddings_of(run, "train")
    means = np.stack([embeddings[labels == n].mean(axis=0) for n in range(5)])
    np.testing.assert_allclose(head_of("run")[0] * 0.1, means, atol=1e-5)
    assert run.evaluate().equal


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["peft=head"], "trains the head alone"),
        (["augment=[typo]"], r"would stay unchanged\. Leave out typo"),
        (["regularizer=[mixup]"], "mixes rows of different examples"),
        (["regularizer=[rdrop]"], "trains embeddings"),
        (["model.pooling=cls"], "does not read the first position"),
        (["+task.label_smoothing=0.1"], "label_smoothing"),
        (["privacy=dp", "data.labels=[compare,hire,move,nothing,report]"], "fits its head to the training examples"),
    ],
)
def test_what_does_not_go_with_it(train, overrides, message):
    with pytest.raises(ConfigError, match=message):
        train("budget.max_steps=1", *overrides)


def test_how_a_batch_is_divided_and_filled_changes_no_more_than_rounding(train):
    exact = ["model.dropout=0", "model.attention_dropout=0", "optimizer=sgd", "optimizer.lr=0.05"]
    exact += ["optimizer.algorithm.fused=false", "budget.max_steps=5"]
    whole = train(*exact)
    for override in ("trainer.accumulate=3", "trainer.static_shapes=true", "trainer.devices=2"):
        other = train(*exact, override, f"run_dir={override.partition('=')[0]}")
        assert other.score("test", "loss") == pytest.approx(whole.score("test", "loss"), rel=1e-4)


def test_an_average_of_weights_gets_a_head_of_its_own(train):
    train("peft=full", "regularizer=[ema]", "optimizer.lr=1e-3", "task.classifier=prototype")
    run = peftlab.load("run")
    assert run.evaluate().equal
    embeddings, labels = embeddings_of(run, "train")
    weight, _ = head_of("run")
    means = np.stack([embeddings[labels == n].mean(axis=0) for n in range(5)])
    np.testing.assert_allclose(weight * 0.1, means, atol=1e-5)


def test_it_is_exported_and_done_again(train):
    record = train("budget.select=last", "callbacks=[progress]")  # the last step has a point of the trail
    run = peftlab.load("run")
    assert run.export("exported").largest_difference < 1e-4
    assert "EmbeddingClassifier" in Path("exported/README.md").read_text()
    again = train("budget.select=last", "callbacks=[progress]", "run_dir=again")
    assert [m["value"] for m in again.data["metrics"]] == [m["value"] for m in record.data["metrics"]]
