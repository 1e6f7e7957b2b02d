"""Preference optimisation: the loss of TRL's trainer, and the same values on two devices and in little memory."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import peftlab
from peftlab.data.rows.preferences import PreferenceRows
from peftlab.data.rows.row_files import RowFiles
from peftlab.tasks.dpo import Dpo
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.reference import with_reference
from peftlab.tasks.task import Selection

pytestmark = pytest.mark.slow

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML without a line feed after a turn, which TRL would learn after the end of the answer."""


def messages(text, role):
    return text if isinstance(text, list) else [{"role": role, "content": text}]


def test_the_loss_is_that_of_trl(language_model, tiny_preferences, tmp_path):
    """On the same pairs, with a model that is no longer its reference, through TRL's own tokenisation and forward."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    folder = language_model("llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    base = AutoModelForCausalLM.from_pretrained(folder).eval()
    model = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    examples = RowFiles(rows=PreferenceRows()).read({"train": tiny_preferences / "dev.jsonl"})["train"]
    dpo = Dpo(name="dpo", selection=Selection(metric="accuracy"), beta=0.3)
    encoded = dpo.encode(examples, Processor("tokenizer", tokenizer), Limits(128, "truncate"))
    with torch.no_grad():
        before = dpo.collate(examples, encoded, range(len(examples)))
        values = dpo.reference_by_example(base, before)
        batch = dpo.collate(examples, with_reference(encoded, dict(enumerate(values))), range(len(examples)))
        own = dpo.loss(dpo.outputs(model, batch), batch)

    rows = [json.loads(line) for line in (tiny_preferences / "dev.jsonl").read_text().splitlines()]
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    data = Dataset.from_list([{name: messages(row[name], role) for name, role in roles.items()} for row in rows])
    options = DPOConfig(str(tmp_path / "trl"), beta=0.3, use_cpu=True, bf16=False, report_to="none", max_length=128)
    trainer = DPOTrainer(model, base, options, train_dataset=data, processing_class=tokenizer)
    trainer.model.eval()
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model, trainer.data_collator(list(trainer.train_dataset)))
    assert float(own) == pytest.approx(float(theirs), abs=1e-5)
    assert abs(float(own) - 0.693) > 0.01


def test_two_devices_compute_the_reference_of_one(tiny_run, tiny_preferences, language_model, monkeypatch, tmp_path):
    """Each its own batches, to the same bits; and what they train is what one does."""
    options = [*tiny_run, f"model.path={language_model('llama')}", "task=dpo", "data=preferences", "peft=lora"]
    options += [f"data.path={tiny_preferences}", "data.max_tokens=64", "data.eval_batch_size=4", "callbacks=[]"]
    options += ["optimizer=sgd", "optimizer.lr=0.05", "optimizer.algorithm.fused=false", "trainer.threads=1"]
    stored, losses = [], []
    for name, more in {"one": [], "two": ["trainer.devices=2"]}.items():
        monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / f"cache_{name}"))
        record = peftlab.run(*options, *more, f"run_dir={name}")
        assert [event["splits"] for event in record.events("reference computed")] == [["train", "validation", "test"]]
        files = sorted((tmp_path / f"cache_{name}" / "encoded").glob("*.safetensors"))
        stored.append({file.name: file.read_bytes() for file in files})
        losses.append(record.score("test", "loss"))
    assert stored[0] == stored[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] != pytest.approx(math.log(2), rel=1e-5)
