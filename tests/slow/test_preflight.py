"""What is foretold of a step's memory is what its tensors take: the growth of a process of its own, measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

STEP = """
import json, resource, sys
from contextlib import nullcontext
from types import SimpleNamespace

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from peftlab.devices.peak_memory import peak_memory
from peftlab.tasks.batch import Batch
from peftlab.tasks.outputs.deferred_logits import deferred_logits
from peftlab.tasks.losses.token_losses import token_losses
from peftlab.training.preflight import expected

attention, method, checkpoints = sys.argv[1:]


def outputs(model, batch):
    with deferred_logits(model):
        return model(**batch.inputs, use_cache=False)


torch.manual_seed(0)
sizes = dict(hidden_size=256, intermediate_size=704, num_hidden_layers=6, num_attention_heads=8, vocab_size=8192)
model = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True))
model.set_attn_implementation(attention)
if checkpoints == "checkpoints":
    model.gradient_checkpointing_enable({"use_reentrant": False})
if method == "lora":
    model = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], lora_dropout=0.1))
model.train()
ids = torch.randint(8192, (4, 500))
batch = Batch({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, {}, torch.ones(4), torch.arange(4), [], 2000)
trained = [weight for weight in model.parameters() if weight.requires_grad]
optimizer = torch.optim.AdamW(trained)
state = torch.get_rng_state()
foretold = expected(model, SimpleNamespace(outputs=outputs), batch, 2.0, nullcontext)
assert torch.get_rng_state().equal(state)
assert not any(weight.grad is not None for weight in trained)
with open("/proc/self/statm") as file:
    before = int(file.read().split()[1]) * resource.getpagesize()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak begins anew
losses = token_losses(outputs(model, batch).logits[:, :-1], ids[:, 1:])
losses.mean().backward()
optimizer.step()
grown = peak_memory() - before
print(json.dumps([(sum(foretold.values()) - foretold["weights_gib"]) * 2**30, grown]))
"""


pytestmark = pytest.mark.slow


@pytest.mark.exhaustive
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_it_is_what_a_step_takes():
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)}  # tensors beside the heap, which has gaps
    for kind in (
        ("sdpa", "lora", "plain"),
        ("sdpa", "full", "plain"),
        ("sdpa", "lora", "checkpoints"),
        ("eager", "lora", "plain"),
    ):
        ran = subprocess.run([sys.executable, "-c", STEP, *kind], capture_output=True, text=True, env=env, check=False)
        assert ran.returncode == 0, ran.stderr
        foretold, measured = json.loads(ran.stdout.splitlines()[-1])
        print(*kind, f"foretold {foretold / 2**20:.0f} MiB, measured {measured / 2**20:.0f}: {foretold / measured:.2f}")
        assert 0.8 < foretold / measured < 1.3, kind
