"""A run whose frozen linear layers are quantised, and what is done with it afterwards."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer, BitsAndBytesConfig

from peftlab.errors import ConfigError
from peftlab.use.export import MERGE_TOLERANCE
from peftlab.use.finished import load
from peftlab.use.reproduce import reproduce

QUANTIZED = ["peft=lora", "model.quantize=nf4", "budget.max_steps=12"]
TEXT = "Marie Curie moved from Warsaw to Paris."


@pytest.fixture(scope="module")
def record(run_once):
    return run_once("quantized", *QUANTIZED)


@pytest.fixture
def run(record):
    return load(record.folder)


def logits_of(model, folder):
    with torch.no_grad():
        return model.eval()(**AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")).logits


@pytest.mark.slow
def test_it_is_another_run_with_the_same_number_of_weights_in_less_memory(record, run_once):
    plain = run_once("plain", "peft=lora", "budget.max_steps=12")
    assert record.data["identity"]["sha256"] != plain.data["identity"]["sha256"]
    assert record.data["method"] == plain.data["method"]
    memory, more = (each.data["cost"]["memory"]["weights_gib"] for each in (record, plain))
    assert memory < 0.8 * more


@pytest.mark.slow
def test_it_is_evaluated_and_reproduced_to_the_last_digit(run, record):
    assert run.evaluate().equal
    assert reproduce(record.folder).verdict == "identical"


@pytest.mark.slow
def test_it_is_exported_with_the_weights_that_it_was_scored_with(run, tiny_model):
    exported = run.export("plain")
    assert exported.largest_difference < MERGE_TOLERANCE
    assert "weights, which training had rounded to nf4: it is" in Path("plain/README.md").read_text()
    plain = AutoModelForTokenClassification.from_pretrained("plain")
    torch.testing.assert_close(logits_of(plain, "plain"), logits_of(run.model, "plain"), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_the_library_loads_its_adapter_on_a_model_that_it_quantises(run, record, tiny_model):
    """The bits of the weights are the same, so that the outputs are too."""
    options = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", llm_int8_skip_modules=["classifier"])
    labels = len(run.spec.task.labels)
    theirs = AutoModelForTokenClassification.from_pretrained(
        tiny_model, num_labels=labels, quantization_config=options, device_map="cpu"
    )
    theirs = peft.PeftModel.from_pretrained(theirs, record.folder / "adapter")
    for module in theirs.modules():  # the kernel of some processors takes no layer that is narrower than a block
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    torch.testing.assert_close(logits_of(theirs, tiny_model), logits_of(run.model, tiny_model), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_its_adapter_goes_on_from_plain_weights(record, run_tiny):
    again = run_tiny("peft=lora", f"adapter={record.folder / 'adapter'}", "budget.max_steps=1", "run_dir=again")
    assert again.data["status"] == "completed"


@pytest.mark.slow
def test_a_run_that_begins_by_correcting_the_rounding(run_tiny):
    """With as many directions as a layer has, it begins with the plain model, and is another program's too."""
    at_the_start = ["budget.max_steps=1", "optimizer.lr=1e-12"]
    plain = run_tiny("peft=lora", *at_the_start, "run_dir=plain")
    rounded = run_tiny("peft=lora", "model.quantize=nf4", *at_the_start, "run_dir=rounded")
    corrected = run_tiny("peft=qera", "peft.r=128", "model.quantize=nf4", *at_the_start, "run_dir=corrected")
    losses = [record.score("validation", "loss") for record in (plain, rounded, corrected)]
    assert abs(losses[1] - losses[0]) > 3e-5
    assert losses[2] == pytest.approx(losses[0], abs=5e-6)
    assert load(corrected.folder).evaluate().equal
    assert reproduce(corrected.folder).verdict == "identical"


def test_what_shards_weights_is_refused(run_tiny):
    with pytest.raises(ConfigError, match=r"model\.quantize=nf4: quantised layers are whole .* trainer=ddp, not fsdp"):
        run_tiny(*QUANTIZED, "trainer.strategy=fsdp", "trainer.devices=2")


@pytest.mark.slow
def test_gradient_checkpointing_makes_the_same_steps(record, run_tiny):
    other = run_tiny(*QUANTIZED, "trainer.gradient_checkpointing=true", "run_dir=other")
    assert other.score("test", "loss") == pytest.approx(record.score("test", "loss"), rel=1e-6)
