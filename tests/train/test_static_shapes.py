"""Runs of a few shapes learn what others learn, up to rounding, and are repeated, resumed and used like them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from peftlab.use.finished import load
from peftlab.use.reproduce import reproduce

pytestmark = pytest.mark.slow

EXACT = ["model.dropout=0", "model.attention_dropout=0", "data.batch_size=10", "budget.max_steps=12", "callbacks=[]"]
STATIC = "trainer.static_shapes=true"


def adapter(record):
    return load_file(record.folder / "adapter" / "adapter_model.safetensors")


def scores(record):
    return {(score["split"], score["name"]): score["value"] for score in record.data["metrics"]}


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.parametrize(
    "options",
    [
        ["peft=lora", "data.max_tokens=12"],  # sentences in several rows
        ["peft=prefix_tuning", "model.attention=sdpa", "trainer.accumulate=2"],
        ["peft=lora", "augment=[delete]", "augment.delete.share=1", "data.max_tokens=64"],
        ["peft=head", "trainer.cache_activations=true"],
        ["peft=lora", "data.batch_tokens=100", "trainer.devices=2"],
    ],
    ids=["rows", "parts", "augmented", "cached", "ranks"],
)
def test_they_learn_the_same(run_tiny, options):
    plain = run_tiny(*EXACT, *options, "run_dir=plain")
    static = run_tiny(*EXACT, *options, STATIC, "run_dir=static")
    assert static.data["run_id"] == plain.data["run_id"]
    assert scores(static) == pytest.approx(scores(plain), rel=1e-4)
    for name, tensor in adapter(plain).items():
        torch.testing.assert_close(adapter(static)[name], tensor, rtol=1e-3, atol=1e-5)
    cost = [record.data["cost"] for record in (plain, static)]
    assert 0 < cost[1]["token_share"] < cost[0]["token_share"] <= 1
    assert cost[1]["shapes"] <= cost[0]["shapes"]
    run = load(static.folder)
    assert run.evaluate().equal
    texts = ["Ada Lovelace moved to Paris .", "Rome"]
    alone = [run.predict([text])[0] for text in texts]
    for one, other in zip(run.predict(texts), alone, strict=True):
        assert [entity["text"] for entity in one["entities"]] == [entity["text"] for entity in other["entities"]]


def test_they_are_repeated_bit_for_bit(run_tiny):
    record = run_tiny("peft=full", "data.batch_size=10", "budget.max_steps=12", "callbacks=[]", STATIC)
    assert reproduce(record.folder).verdict == "identical"
