"""Every method of ``conf/peft/`` on architectures beside BERT: it trains what it should, or says what it needs."""

from __future__ import annotations

import copy
import functools
import re

import pytest
import torch
import transformers
from tests.method_files import FILES
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from peftlab.errors import ConfigError
from peftlab.methods.head import head_of, is_of_head
from peftlab.methods.method import MethodContext

VOCABULARY, LABELS = 40, 4
SMALL = {"vocab_size": VOCABULARY, "num_labels": LABELS, "hidden_size": 32, "num_attention_heads": 2}
SMALL |= {"num_hidden_layers": 2, "intermediate_size": 64, "pad_token_id": 0}
CONFIGS = {
    "roberta": functools.partial(transformers.RobertaConfig, max_position_embeddings=66, **SMALL),
    "electra": functools.partial(transformers.ElectraConfig, embedding_size=16, max_position_embeddings=64, **SMALL),
    "albert": functools.partial(
        transformers.AlbertConfig, embedding_size=16, num_hidden_groups=2, max_position_embeddings=64, **SMALL
    ),
    "deberta_v2": functools.partial(
        transformers.DebertaV2Config,
        max_position_embeddings=64,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        **SMALL,
    ),
    "distilbert": functools.partial(
        transformers.DistilBertConfig,
        vocab_size=VOCABULARY,
        num_labels=LABELS,
        dim=32,
        n_heads=2,
        n_layers=2,
        hidden_dim=64,
        max_position_embeddings=64,
    ),
    "modernbert": functools.partial(
        transformers.ModernBertConfig,
        global_attn_every_n_layers=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        **SMALL,
    ),
    "mpnet": functools.partial(transformers.MPNetConfig, max_position_embeddings=66, **SMALL | {"pad_token_id": 1}),
}
NO_PAST = ["albert", "deberta_v2", "distilbert", "modernbert", "mpnet"]
"""Their attention takes no earlier keys and values."""
REFUSED = {(name, architecture) for name in ("prefix_tuning", "mam", "unipelt") for architecture in NO_PAST}
REFUSED |= {("sliced", "albert")}  # its layers share their weights
REFUSED |= {(name, "modernbert") for name in ("bitfit", "combined")}  # it has no biases
"""What cannot work, and says so."""
TASKS = {"TOKEN_CLS": AutoModelForTokenClassification, "SEQ_CLS": AutoModelForSequenceClassification}


def inputs():
    ids = torch.arange(5, 35).reshape(3, 10)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def logits(model):
    return model(**inputs()).logits


@functools.cache
def backbone(architecture, task):
    torch.manual_seed(1)
    model = TASKS[task].from_config(CONFIGS[architecture](), attn_implementation="eager")
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):  # which begin as zero, unlike pretrained ones
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def tuned(method, architecture, task, seed=0):
    model = copy.deepcopy(backbone(architecture, task))
    torch.manual_seed(seed)
    context = MethodContext(head_of(model), task, "made here", {"TOKEN_CLS": "token", "SEQ_CLS": "text"}[task])
    return method.apply(model, context).eval(), context


LIBRARY = [name for name, file in FILES.items() if "library" in file._target_]
OTHERS = [architecture for architecture in CONFIGS if architecture != "modernbert"]
ALL = [
    (name, architecture, list(TASKS)[number % 2])
    for name in FILES
    for number, architecture in enumerate(CONFIGS)
    if name not in LIBRARY and (name, architecture) not in REFUSED
]
# to the library a task is a head and no more, and an architecture the names and sizes of linear layers: the oddest, and
# one of the others by turns
ALL += [
    (name, architecture, "TOKEN_CLS")
    for number, name in enumerate(LIBRARY)
    for architecture in ("modernbert", OTHERS[number % len(OTHERS)])
]


ONCE = {name: [given for given in ALL if given[0] == name] for name in FILES}
ONCE = {given[number % len(given)] for number, given in enumerate(ONCE.values())}
"""One architecture for each method, by turns."""


@pytest.mark.slow
def test_what_cannot_work_says_what_it_needs(spec):
    for name, architecture in sorted(REFUSED):
        with pytest.raises(ConfigError, match="needs"):
            tuned(spec(f"peft={name}").peft, architecture, "TOKEN_CLS")


@pytest.mark.one_in(4, "exhaustive")
@pytest.mark.parametrize(
    ("name", "architecture", "task"),
    [pytest.param(*one, marks=pytest.mark.slow if one in ONCE else pytest.mark.exhaustive) for one in ALL],
)
def test_it_trains_what_it_should(name, architecture, task, spec, tmp_path):
    method = spec(f"peft={name}").peft
    model, context = tuned(method, architecture, task)
    method.calibrate(model, [inputs()])
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        logits(model).square().mean().backward()
        optimizer.step()
    assert any(p.requires_grad and not is_of_head(key, context.head) for key, p in model.named_parameters()) or (
        name == "head"
    )
    changed = {key for key, parameter in model.named_parameters() if not torch.equal(parameter, before[key])}
    still = {key for key, parameter in model.named_parameters() if parameter.requires_grad} - changed
    if name == "glora":  # a bias of the keys shifts all weights of a query alike
        still = {key for key in still if not re.search(r"(key|k_lin|key_proj|attn\.k)\.glora_C", key)}
    assert not {key for key in changed if not model.get_parameter(key).requires_grad}
    assert not still, sorted(still)
    method.save(model, tmp_path, context)
    loaded, _ = tuned(method, architecture, task, seed=5)
    method.load(loaded, tmp_path)
    assert torch.equal(logits(loaded), logits(model))
