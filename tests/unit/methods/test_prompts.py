"""Prompt methods beside the plain peft library where it works, and where it does not."""

from __future__ import annotations

from dataclasses import replace

import peft
import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DebertaV2Config,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
)

from peftlab.errors import ConfigError
from peftlab.methods.head import head_of
from peftlab.methods.mam import MixAndMatch
from peftlab.methods.method import MethodContext
from peftlab.methods.prompts import PrefixTuning, PromptTuning, PTuning
from peftlab.methods.unipelt import UniPELT
from peftlab.models.positions import check_length, reserve

GIVEN = {"name": "x", "learning_rate": 1e-3, "num_virtual_tokens": 4}
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 30}
BERT = BertConfig(**SIZES, max_position_embeddings=20, initializer_range=0.2)
ROBERTA = RobertaConfig(**SIZES, max_position_embeddings=24, initializer_range=0.2, pad_token_id=1)
ELECTRA = ElectraConfig(**SIZES, max_position_embeddings=20, initializer_range=0.2, embedding_size=8)
METHODS = {
    "prompt_tuning": PromptTuning(**GIVEN),
    "p_tuning": PTuning(**GIVEN),
    "p_tuning_lstm": PTuning(encoder_reparameterization_type="LSTM", encoder_hidden_size=5, **GIVEN),
    "prefix_tuning": PrefixTuning(**GIVEN),
    "prefix_projection": PrefixTuning(prefix_projection=True, **GIVEN),
}


def make(config, kind=AutoModelForSequenceClassification, attention="eager"):
    torch.manual_seed(0)
    return kind.from_config(config, attn_implementation=attention).eval()


def applied(method, model, task_type="SEQ_CLS"):
    context = MethodContext(head_of(model), task_type, "here", "token" if task_type == "TOKEN_CLS" else "text")
    torch.manual_seed(1)
    model = method.apply(model, context).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.5)
    return model, context


def texts(types=True):
    torch.manual_seed(2)
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
    ids = torch.where(mask.bool(), torch.randint(5, 30, (2, 7)), 1)
    given = {"input_ids": ids, "attention_mask": mask}
    return given | {"token_type_ids": torch.tensor([[0, 0, 0, 1, 1, 1, 1]] * 2) * mask} if types else given


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_classifier_is_that_of_the_library(name, attention, tmp_path):
    model, context = applied(METHODS[name], make(BERT, attention=attention))
    METHODS[name].save(model, tmp_path, context)
    with torch.no_grad():
        expected = peft.PeftModel.from_pretrained(make(BERT, attention=attention), tmp_path).eval()(**texts()).logits
        torch.testing.assert_close(model(**texts()).logits, expected)
        assert not torch.allclose(make(BERT)(**texts()).logits, expected, atol=1e-3)


@pytest.mark.parametrize("config", [BERT, ROBERTA, ELECTRA], ids=lambda config: config.model_type)
@pytest.mark.parametrize("name", METHODS)
class TestTaggers:
    def test_there_is_a_row_of_logits_for_each_token_of_the_text(self, name, config):
        model, _ = applied(METHODS[name], make(config, AutoModelForTokenClassification), "TOKEN_CLS")
        given = texts(types=config.model_type == "bert")
        logits = model(**given).logits
        assert logits.shape == (2, 7, 2)
        alone = {key: tensor[1:, :5] for key, tensor in given.items()}
        torch.testing.assert_close(model(**alone).logits, logits[1:, :5], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(logits, make(config, AutoModelForTokenClassification)(**given).logits, atol=1e-3)

    def test_embeddings_may_be_given_in_the_place_of_ids(self, name, config):
        if config is ROBERTA and "prefix" in name:
            pytest.skip("of embeddings, RoBERTa in transformers counts positions without what is before them")
        model, _ = applied(METHODS[name], make(config, AutoModelForTokenClassification), "TOKEN_CLS")
        whole = {key: tensor[:1] for key, tensor in texts(types=False).items()}
        embedded = {**whole, "inputs_embeds": model.get_input_embeddings()(whole["input_ids"])}
        del embedded["input_ids"]
        torch.testing.assert_close(model(**embedded).logits, model(**whole).logits)

    @pytest.mark.one_in(3, "slow")
    def test_what_is_saved_is_loaded(self, name, config, tmp_path):
        method = METHODS[name]
        model, context = applied(method, make(config, AutoModelForTokenClassification), "TOKEN_CLS")
        method.save(model, tmp_path, context)
        torch.manual_seed(9)
        again = method.apply(make(config, AutoModelForTokenClassification), context).eval()
        method.load(again, tmp_path)
        given = texts(types=False)
        assert torch.equal(again(**given).logits, model(**given).logits)


@pytest.mark.parametrize("name", ["p_tuning_lstm", "prefix_projection"])
def test_training_goes_on_with_the_same_network_only(name, tmp_path):
    model, context = applied(METHODS[name], make(BERT))
    METHODS[name].save(model, tmp_path, context)
    begun, _ = applied(METHODS[name], make(BERT))
    assert METHODS[name].adopt(begun, tmp_path, context) == []
    other = replace(METHODS[name], encoder_hidden_size=3)
    begun, _ = applied(other, make(BERT))
    before = {key: tensor.clone() for key, tensor in begun.state_dict().items()}
    with pytest.raises(ConfigError, match="options of peft that begin with encoder_"):
        other.adopt(begun, tmp_path, context)
    assert all(torch.equal(tensor, before[key]) for key, tensor in begun.state_dict().items())


def test_a_prefix_takes_the_gradient_under_checkpointing_too():
    gradients = []
    for checkpointing in (False, True):
        model = make(BERT)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model, _ = applied(METHODS["prefix_projection"], model)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model(**texts()).logits.square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    assert all(torch.allclose(one, other) and other.any() for one, other in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    "method",
    [
        METHODS["prefix_tuning"],
        MixAndMatch(name="x", learning_rate=1e-3, prefix=3, prefix_std=0.1, bottleneck=4),
        UniPELT(name="x", learning_rate=1e-3, rank=2, prefix=3, prefix_std=0.1, bottleneck=4),
    ],
    ids=lambda method: type(method).__name__,
)
@pytest.mark.parametrize(
    "config",
    [
        DebertaV2Config(**SIZES, max_position_embeddings=20, type_vocab_size=0),
        ModernBertConfig(**SIZES, pad_token_id=1, cls_token_id=0, sep_token_id=2, bos_token_id=0, eos_token_id=2),
    ],
    ids=lambda config: config.model_type,
)
def test_a_prefix_says_which_models_it_needs(method, config):
    with pytest.raises(ConfigError, match="takes no earlier keys and values; it needs BERT, RoBERTa, XLM-RoBERTa"):
        applied(method, make(config, AutoModelForTokenClassification), "TOKEN_CLS")


def test_virtual_tokens_take_positions():
    model = make(BERT)
    reserve(model, METHODS["p_tuning"].virtual_tokens)
    check_length(model, 16)
    with pytest.raises(ConfigError, match=r"a row has 17 tokens, and 4 virtual ones before them; .*max_tokens=16"):
        check_length(model, 17)


def test_prompts_begin_as_words():
    model = make(BERT)
    words = model.get_input_embeddings().weight
    model = PromptTuning(**GIVEN).apply(model, MethodContext(head_of(model), "SEQ_CLS", "here"))
    prompts = model.bert.prompt_encoder.embedding.weight
    assert all((words == prompt).all(1).any() for prompt in prompts)


def test_the_file_of_a_network_counts_as_part_of_the_adapter(tmp_path):
    method = METHODS["p_tuning"]
    model, context = applied(method, make(BERT))
    size = method.save(model, tmp_path, context)
    assert size == sum(file.stat().st_size for file in tmp_path.glob("*.safetensors"))
    assert sum(tensor.nbytes for tensor in method.written(model).values()) > 0.9 * size - 2000
