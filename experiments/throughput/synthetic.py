"""A BERT of any size with random weights, and sentences with entities for it: what needs neither network nor files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

KINDS = ("O", "O", "O", "O", "O", "LOC", "ORG", "PER")
"""What the words of a vocabulary are, in turn: a word is always of the same kind, so there is something to learn."""
FIRST = 5
"""The words before are [PAD], [UNK], [CLS], [SEP] and [MASK]."""


class Sizes(NamedTuple):
    """The shape of a BERT."""

    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int
    positions: int


TINY = Sizes(layers=2, hidden=32, heads=2, intermediate=64, vocabulary=200, positions=128)
"""So small that a step is hardly more than the work of the host."""
BASE = Sizes(layers=12, hidden=768, heads=12, intermediate=3072, vocabulary=30522, positions=512)
"""Of BERT-base (Devlin et al. 2019)."""


def make_bert(folder: Path, sizes: Sizes, seed: int = 0) -> Path:
    """Write such a BERT and a tokenizer to `folder`, one token for each word, and return the folder."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(_word, range(FIRST, sizes.vocabulary))]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    BertTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    config = BertConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.intermediate,
        max_position_embeddings=sizes.positions,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    return folder


def make_sentences(
    folder: Path, vocabulary: int, tokens: tuple[int, int], train: int, validation: int, seed: int = 0
) -> Path:
    """Write so many sentences to `folder` as CoNLL columns, of lengths in `tokens` (special tokens included)."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in {"train": train, "dev": validation, "test": validation}.items():
        with open(folder / f"{name}.txt", "w", encoding="utf-8") as file:
            for _ in range(count):
                words = (draw.randrange(FIRST, vocabulary) for _ in range(draw.randint(*tokens) - 2))
                file.writelines(f"{_word(word)} {_tag(word)}\n" for word in words)
                file.write("\n")
    return folder


def on(model: Path, data: Path) -> list[str]:
    """Return the overrides that choose both."""
    return ["model=folder", f"model.path={model}", "data=files", f"data.path={data}"]


def _word(number: int) -> str:
    return f"w{number}"


def _tag(number: int) -> str:
    kind = KINDS[number % len(KINDS)]
    return kind if kind == "O" else f"B-{kind}"
