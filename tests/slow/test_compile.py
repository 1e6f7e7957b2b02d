"""torch.compile: the same model under the same names, up to rounding; scored anew, to the last digit."""

from __future__ import annotations

import functools

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from peftlab.one_run import run
from peftlab.use.finished import load

pytestmark = pytest.mark.slow


@pytest.mark.exhaustive
@pytest.mark.parametrize("peft", ["lora", "full"])
def test_compiling_changes_neither_names_nor_weights(compose_config, tiny_overrides, monkeypatch, peft):
    """Compiled as far as to graphs of forward and backward: machine code takes minutes, and tests/slow/test_gpus.py."""
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="aot_eager"))
    options = [
        *tiny_overrides,
        f"peft={peft}",
        "optimizer=sgd",
        "optimizer.lr=0.1",
        "model.dropout=0",
        "model.attention_dropout=0",
    ]
    plain = run(compose_config(*options, "run_dir=plain"))
    compiled = run(compose_config(*options, "run_dir=compiled", "trainer.compile=true"))
    assert compiled.data["run_id"] == plain.data["run_id"]
    for file in ("checkpoints/best.safetensors", "adapter/adapter_model.safetensors"):
        expected, found = load_file(plain.folder / file), load_file(compiled.folder / file)
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.allclose(found[name], tensor, rtol=1e-3, atol=1e-5), name
    assert compiled.data["cost"]["compile"]["seconds"] > 0
    assert load("compiled").evaluate().equal
