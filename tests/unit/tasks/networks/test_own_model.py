"""Heads of our own on encoders of several architectures."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import transformers
from torch import nn

from peftlab.methods.head import head_of, output_of
from peftlab.methods.method import MethodContext
from peftlab.methods.prompts import PromptTuning
from peftlab.tasks.networks.heads import Head, model_class
from peftlab.tasks.networks.own_model import OwnModel

SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = {**SMALL, "intermediate_size": 24, "max_position_embeddings": 40, "num_labels": 3}
CONFIGS = {
    "Bert": transformers.BertConfig(**WIDE),
    "Roberta": transformers.RobertaConfig(**WIDE, pad_token_id=1),
    "DebertaV2": transformers.DebertaV2Config(**WIDE),
    "ModernBert": transformers.ModernBertConfig(**WIDE, pad_token_id=0),
}
HEAD = Head(f"{__name__}.TwoHeads", "TOKEN_CLS", "token-classification", "token", of_texts=("first_logits",))


@dataclasses.dataclass
class TwoLogits(transformers.modeling_outputs.ModelOutput):
    """The outputs of two heads."""

    first_logits: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class TwoHeads(OwnModel):
    """A head on the first token and one on each."""

    suffix = "ForTwo"

    def build(self, config):
        self.first = nn.Linear(config.hidden_size, 2)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def read(self, states, attention_mask):
        return TwoLogits(self.first(states[:, 0]), self.classifier(states))


@pytest.mark.parametrize("kind", CONFIGS)
@torch.no_grad()
def test_it_is_loaded_and_saved_as_transformers_own_classes_are(kind, tmp_path):
    torch.manual_seed(0)
    plain = getattr(transformers, f"{kind}ForTokenClassification")(CONFIGS[kind]).eval()
    plain.save_pretrained(tmp_path / "plain")
    cls = model_class(HEAD)
    assert cls is TwoHeads
    model, report = cls.from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert type(model).__name__ == f"{kind}ForTwo"
    assert type(model) is cls.on(model.config)
    assert sorted(report["missing_keys"]) == ["first.bias", "first.weight"]
    assert not report["mismatched_keys"]
    assert "classifier" in head_of(model)
    assert "first" in head_of(model)
    assert output_of(model, head_of(model)) == "classifier"

    ids = torch.arange(5).unsqueeze(0) + 20
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    outputs = model.eval()(**inputs, labels=None)
    assert outputs.first_logits.shape == (1, 2)
    if kind != "ModernBert":  # whose own head has layers before the last
        torch.testing.assert_close(outputs.logits, plain(**inputs).logits)
    model.save_pretrained(tmp_path / "saved")
    again = TwoHeads.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(again(**inputs).logits, outputs.logits)
    assert TwoHeads.from_config(model.config).classifier.weight.shape == (3, 16)


def test_logits_of_whole_texts_lose_no_virtual_tokens():
    model = TwoHeads.from_config(CONFIGS["Bert"]).eval()
    context = MethodContext(head_of(model), HEAD.task_type, "here", HEAD.outputs, of_texts=HEAD.of_texts)
    model = PromptTuning(name="prompt_tuning", learning_rate=1e-3, num_virtual_tokens=1).apply(model, context)
    ids = torch.arange(5).unsqueeze(0) + 20
    outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert outputs.first_logits.shape == (1, 2)
    assert outputs.logits.shape == (1, 5, 3)


def test_an_unknown_architecture_is_named():
    with pytest.raises(ValueError, match="no encoder for GenerationConfig"):
        TwoHeads.on(transformers.GenerationConfig())
