"""Every method of ``conf/peft/`` learns what a head on the frozen backbone cannot.

The backbone is a tiny BERT that can tell the labels: each depends on two words of the text, wherever they stand. Then
all its embeddings are shifted by one vector, so that the words look much the same to it. A head reads little of what is
left; whatever moves the hidden states back, by a bias, a scale, a prompt or a matrix, finds the rest of the backbone as
able as before.
"""

from __future__ import annotations

import copy
import functools
from typing import NamedTuple

import pytest
import torch
from tests.method_files import FILES, OFTEN
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

from peftlab.methods.head import head_of, is_of_head
from peftlab.methods.method import MethodContext

STEPS = 40
"""In which a method must have learnt."""
SHARE = 0.85
"""Of the loss that the head alone has then; a method's must be below."""
HEAD_RATE = 3e-3
RATES = {
    "fourierft": 1e-3,
    "loreft": 1e-2,
    "prefix_tuning": 3e-2,
    "supertuning": 2e-2,
    "tinylora": 3e-3,
    "waveft": 5e-5,
}
"""Learning rates of methods whose own, thrice, is none for a model of hidden size 32, in so few steps."""

TEXTS, WORDS, VOCABULARY = 64, 8, 60
FIRST_KEYS, SECOND_KEYS, OTHERS = 5, 8, 11
"""The ids of three words that each text has one of, of three more, and from where on are the others."""
ON_TASKS = [
    pytest.param(name, "ner", marks=pytest.mark.slow if name in OFTEN else pytest.mark.exhaustive)
    for name in FILES
    if name != "head"
]
ON_TASKS += [
    pytest.param(name, "classification", marks=pytest.mark.slow if name == "lora" else pytest.mark.exhaustive)
    for name in ("bitfit", "houlsby", "lora", "loreft", "prefix_tuning", "prompt_tuning")
]
"""What the label of a text is read from is the first token's state, which these get at in different ways."""


class Problem(NamedTuple):
    model: torch.nn.Module
    task_type: str
    inputs: dict[str, Tensor]
    labels: Tensor

    def loss(self, model, **further):
        logits = model(**self.inputs, **further).logits
        return F.cross_entropy(logits.flatten(0, -2), self.labels.flatten())


def texts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return texts of words, in each the place of its first key, and the numbers of its first and its second key."""
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(OTHERS, VOCABULARY, (TEXTS, WORDS), generator=draw)
    first, second = (torch.randint(0, 3, (TEXTS,), generator=draw) for _ in range(2))
    places = torch.rand(TEXTS, WORDS, generator=draw).argsort(1)
    rows = torch.arange(TEXTS)
    words[rows, places[:, 0]], words[rows, places[:, 1]] = FIRST_KEYS + first, SECOND_KEYS + second
    return words, places[:, 0], first, second


@functools.cache
def problem(task: str) -> Problem:
    """Return the shifted backbone and what it is to learn: a label a word, or a label a text."""
    words, key, first, second = texts()
    ids = F.pad(F.pad(words, (1, 0), value=2), (0, 1), value=3)
    if task == "ner":
        kind, task_type = BertForTokenClassification, "TOKEN_CLS"
        labels = (words + first[:, None]) % 3
        labels[torch.arange(TEXTS), key] = -100
        labels = F.pad(labels, (1, 1), value=-100)
    else:
        kind, task_type, labels = BertForSequenceClassification, "SEQ_CLS", (first + second) % 3
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    settings = {"vocab_size": VOCABULARY, "max_position_embeddings": 64, "num_labels": 3, "initializer_range": 0.15}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        able = kind(BertConfig(**sizes, **settings, **no_dropout))
        found = Problem(able, task_type, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, labels)
        optimizer = torch.optim.AdamW(able.parameters(), lr=3e-3, weight_decay=0.0)
        for _ in range(300):
            positions = torch.arange(ids.shape[1])[None] + torch.randint(0, 32, (1,))  # prompts will move the words
            loss = found.loss(able, position_ids=positions)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss < 0.01
        with torch.no_grad():
            embeddings = able.bert.embeddings.word_embeddings.weight
            shift = torch.randn(32)
            embeddings += 4 * embeddings.norm(dim=1).mean() * shift / shift.norm()
            for head in head_of(able):
                for name, parameter in able.get_submodule(head).named_parameters():
                    torch.nn.init.normal_(parameter, std=0.02) if name.endswith("weight") else parameter.zero_()
    return found


def learnt(method, task: str) -> list[float]:
    """Return the loss of every step of training, and after the last."""
    given = problem(task)
    model = copy.deepcopy(given.model)
    context = MethodContext(head_of(model), given.task_type, "made here", "token" if task == "ner" else "text")
    torch.manual_seed(0)
    model = method.apply(model, context)
    method.calibrate(model, [given.inputs])
    model.train()
    rate = RATES.get(method.name, 3 * method.learning_rate)
    groups = [
        {"params": [parameter], "lr": HEAD_RATE if is_of_head(name, context.head) else rate}
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    losses = []
    for step in range(STEPS + 1):
        loss = given.loss(model)
        losses.append(loss.item())
        if step < STEPS:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return losses


@functools.cache
def head_alone(spec, task: str) -> list[float]:
    return learnt(spec("peft=head").peft, task)


@pytest.mark.exhaustive
@pytest.mark.parametrize("task", ["ner", "classification"])
def test_the_head_alone_cannot(spec, task):
    first, *_, last = head_alone(spec, task)
    assert 0.3 * first < last < first


@pytest.mark.one_in(6, "exhaustive")
@pytest.mark.parametrize(("name", "task"), ON_TASKS)
def test_every_other_method_does(name, task, spec):
    assert learnt(spec(f"peft={name}").peft, task)[-1] < SHARE * head_alone(spec, task)[-1]
