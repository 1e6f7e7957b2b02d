"""torch.compile: the same model under the same names, up to rounding; scored anew, to the last digit."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

from peftlab.one_run import run
from peftlab.use.finished import load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="to compile for a CPU, torch wants g++"),
]


@pytest.mark.parametrize("peft", ["lora", "full"])
def test_compiling_changes_neither_names_nor_weights(compose_config, tiny_overrides, peft):
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
    assert load("compiled").evaluate().equal
