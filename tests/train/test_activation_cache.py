"""Runs that start from activations on disk: the results of those that compute everything, and what the record says."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from peftlab.errors import ConfigError
from peftlab.finished_run import load
from peftlab.sources import cache_root

HEAD = ["peft=head", "budget.max_steps=12", "model.dropout=0", "model.attention_dropout=0", "model.head_dropout=0.1"]


def scores(record):
    return {(metric["split"], metric["name"]): metric["value"] for metric in record.data["metrics"]}


def trained(record):
    return load_file(record.folder / "adapter" / "adapter_model.safetensors")


def files():
    return sorted(cache_root().glob("activations/*.safetensors*"))


def test_a_probe_from_activations_is_the_probe_that_computes_everything(run_tiny):
    plain = run_tiny(*HEAD, "trainer.cache_activations=false")
    assert not files()
    cached = run_tiny(*HEAD, "run_dir=cached")
    assert cached.data["run_id"] == plain.data["run_id"]
    assert scores(cached) == pytest.approx(scores(plain), rel=1e-5)
    assert trained(cached).keys() == trained(plain).keys()
    for name, tensor in trained(plain).items():
        assert torch.allclose(trained(cached)[name], tensor, rtol=1e-4, atol=1e-6), name
    assert "activation_cache" not in plain.data["cost"]
    about = cached.data["cost"]["activation_cache"]
    assert (about["layers"], about["of_layers"]) == (2, 2)
    assert about["computed"] == ["train", "validation", "test"]
    assert "cache_activations: true" in (cached.folder / "config.yaml").read_text()
