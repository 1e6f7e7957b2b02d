"""Instruction tuning: the loss of TRL's trainer, packed rows of a real model, and kills."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from peftlab.data.rows.conversations import ConversationRows
from peftlab.data.rows.row_files import RowFiles
from peftlab.tasks.causal_lm import CausalLm
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Selection

pytestmark = pytest.mark.slow

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML without a line feed after a turn, which TRL would learn after the end of the answer."""


def pairs(tmp_path, count=12):
    rows = [{"prompt": "what is " * (1 + n % 4) + "it ?", "answer": "rome " * (1 + n % 5)} for n in range(count)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return rows, RowFiles(rows=ConversationRows()).read({"train": tmp_path / "train.jsonl"})["train"]


def test_the_loss_is_that_of_trl(language_model, tmp_path):
    """On the same rows, through TRL's own tokenisation, collator and loss; ours packed and not."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows, examples = pairs(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(language_model("llama"))
    tokenizer.chat_template = TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(language_model("llama"), use_cache=False).eval()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    task = CausalLm(name="causal_lm", selection=Selection(metric="perplexity"))
    encoded = task.encode(examples, Processor("tokenizer", tokenizer), Limits(128, "truncate"))
    with torch.no_grad():
        batches = [collate(examples, encoded, range(len(examples))) for collate in (task.collate, task.apart)]
        own = [float(task.loss(task.outputs(model, batch), batch)) for batch in batches]

    turns = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["answer"]}],
        }
        for row in rows
    ]
    options = SFTConfig(str(tmp_path / "trl"), use_cpu=True, bf16=False, report_to="none", max_length=128)
    trainer = SFTTrainer(model, options, train_dataset=Dataset.from_list(turns), processing_class=tokenizer)
    trainer.model.eval()
    with torch.no_grad():
        batch = trainer.data_collator(list(trainer.train_dataset))
        theirs = float(trainer.compute_loss(trainer.model, batch))
    assert int((batch["labels"] >= 0).sum()) == batches[0].weights.sum()
    assert own == pytest.approx([theirs, theirs], abs=1e-5)
