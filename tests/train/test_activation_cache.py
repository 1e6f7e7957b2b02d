"""Runs that start from activations on disk: the results of those that compute everything, and what the record says."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from peftlab.sources import cache_root
from peftlab.use.finished import load

pytestmark = pytest.mark.slow

NO_DROPOUT = ["model.dropout=0", "model.attention_dropout=0"]
TOP = ["1.output.dense", "1.attention.output.dense"]
"""Linear layers of the upper of the tiny model's two layers."""


def scores(record):
    return {(metric["split"], metric["name"]): metric["value"] for metric in record.data["metrics"]}


def adapter(record):
    return load_file(record.folder / "adapter" / "adapter_model.safetensors")


def files():
    return sorted(cache_root().glob("activations/*.safetensors"))


@pytest.mark.parametrize(
    ("method", "layers"),
    [
        (["peft=head", "model.head_dropout=0.1"], 2),
        (["peft=lora", f"peft.target=[{','.join(TOP)}]", "peft.lora_dropout=0.1", "trainer.accumulate=2"], 1),
    ],
    ids=["head", "lora in the top layer"],
)
def test_the_results_are_those_of_a_run_that_computes_everything(run_tiny, method, layers):
    """Up to rounding: rows that are padded otherwise may differ in the last bits of their activations."""
    options = [*method, *NO_DROPOUT, "budget.max_steps=12"]
    plain = run_tiny(*options, "trainer.cache_activations=false", "run_dir=plain")
    assert not files()
    cached = run_tiny(*options, "run_dir=cached")
    assert cached.data["run_id"] == plain.data["run_id"]
    assert scores(cached) == pytest.approx(scores(plain), rel=1e-5)
    assert adapter(cached).keys() == adapter(plain).keys()
    for name, tensor in adapter(plain).items():
        assert torch.allclose(adapter(cached)[name], tensor, rtol=1e-4, atol=1e-5), name

    assert "activation_cache" not in plain.data["cost"]
    about = cached.data["cost"]["activation_cache"]
    assert (about["layers"], about["of_layers"]) == (layers, 2)
    assert about["computed"] == ["train", "validation", "test"]
    assert load(cached.folder).spec.trainer.cache_activations is True
    assert load(plain.folder).spec.trainer.cache_activations is False
    evaluation = load(cached.folder).evaluate()  # which computes every layer
    assert evaluation.equal


def test_another_run_above_the_same_layers_finds_them_there(run_tiny):
    options = ["peft=head", *NO_DROPOUT, "budget.max_steps=2"]
    run_tiny(*options)
    kept = files()
    again = run_tiny(*options, "seed=1", "optimizer.lr=1e-3")
    assert again.data["cost"]["activation_cache"]["computed"] == []
    assert files() == kept


def test_without_a_disk_to_write_to_the_run_goes_on(run_tiny):
    cache_root().mkdir(parents=True)
    (cache_root() / "activations").write_text("a file")
    record = run_tiny("peft=head", *NO_DROPOUT, "budget.max_steps=2")
    assert record.data["status"] == "completed"
    assert "activation_cache" not in record.data["cost"]
    assert "activations_not_cached" in [event["event"] for event in record.data["history"]]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["peft=head"], "model.dropout=0 model.attention_dropout=0"),
        (["peft=head", *NO_DROPOUT, "trainer.activation_cache_gib=1e-5"], "trainer.activation_cache_gib=1e-05"),
        (["peft=head", *NO_DROPOUT, "trainer.compile=true"], "trainer.compile=false"),
        (["peft=head", *NO_DROPOUT, "trainer.devices=2"], "trainer.devices=1"),
        (["peft=full"], "trained from the first layer on"),
    ],
    ids=["dropout", "budget", "compiled", "devices", "full"],
)
def test_where_it_cannot_be_asking_for_it_is_a_mistake(command, overrides, said, tmp_path):
    ended = command(*overrides, "trainer.cache_activations=true")
    assert ended.code == 2
    assert "trainer.cache_activations=true" in ended.err
    assert said in ended.err
    assert not (tmp_path / "runs").exists()


def test_where_it_would_be_possible_the_user_is_told_how(run_tiny, capsys):
    record = run_tiny("peft=head", "budget.max_steps=2")
    assert "model.dropout=0 model.attention_dropout=0" in capsys.readouterr().out
    assert "activation_cache" not in record.data["cost"]
    assert not files()
