"""Instruction tuning: the loss of TRL's trainer, and packed rows of a real model."""

from __future__ import annotations

import json
import os

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from peftlab.composing.compose import conf_dir
from peftlab.config import build
from peftlab.data.rows.conversations import ConversationRows
from peftlab.data.rows.row_files import RowFiles
from peftlab.models import backbone
from peftlab.tasks.causal_lm import CausalLm
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Selection

pytestmark = pytest.mark.slow

CACHE = os.environ.get("PEFTLAB_CACHE")  # read before any test gets one of its own: what is fetched is kept

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
        for number, weight in enumerate(model.parameters()):
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)))
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


@pytest.mark.exhaustive
@pytest.mark.one_in(2, "exhaustive")
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_rows_of_a_real_model_have_the_logits_of_rows_of_their_own(attention, tmp_path, monkeypatch):
    if CACHE is None:
        monkeypatch.delenv("PEFTLAB_CACHE")
    else:
        monkeypatch.setenv("PEFTLAB_CACHE", CACHE)
    node = yaml.safe_load((conf_dir() / "model" / "smollm2_135m.yaml").read_text(encoding="utf-8"))
    task = CausalLm(name="causal_lm", selection=Selection(metric="perplexity"))
    pretrained = backbone.fetch(backbone.ModelSpec(**build(node, "model")), task)
    processor = pretrained.processor("tokenizer")
    model = pretrained.backbone(task).eval()
    model.set_attn_implementation(attention)
    _, examples = pairs(tmp_path, 8)
    encoded = task.encode(examples, processor, Limits(256, "truncate"))
    packed, apart = (collate(examples, encoded, range(8)) for collate in (task.collate, task.apart))
    assert len(packed.rows) < 8
    with torch.no_grad():
        ours, theirs = (model(**batch.inputs).logits for batch in (packed, apart))
    for n, length in enumerate(encoded.lengths.tolist()):
        assert (ours[packed.pieces == n] - theirs[n, :length]).abs().max() <= 1e-4
