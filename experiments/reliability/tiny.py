"""What the trials run on: a tiny BERT with random weights, and generated sentences with places and people."""

from __future__ import annotations

import random
from pathlib import Path

PLACES, PEOPLE = ["paris", "rome", "oslo", "new york"], ["ada", "alan turing", "noether"]
SENTENCES = ["{0} moved from {1} to {2} .", "{1} is larger than {2}", "nothing happened today .", "we met {0} in {1}"]


def make_model(folder: Path, seed: int = 0) -> Path:
    """Write a BERT of 2 layers and hidden size 32 with its tokenizer to `folder`."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = sorted({word for text in [*SENTENCES, *PLACES, *PEOPLE] for word in text.split() if "{" not in word})
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    BertTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **sizes)).save_pretrained(folder)
    return folder


def make_data(folder: Path, seed: int = 0) -> Path:
    """Write train.txt, dev.txt and test.txt in two columns to `folder`."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in {"train": 64, "dev": 24, "test": 24}.items():
        lines = [line for _ in range(count) for line in [*_sentence(draw), ""]]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def _sentence(draw: random.Random) -> list[str]:
    lines = []
    for part in draw.choice(SENTENCES).split():
        if "{" in part:
            kind, names = ("PER", PEOPLE) if part == "{0}" else ("LOC", PLACES)
            lines += [f"{word} {'I' if n else 'B'}-{kind}" for n, word in enumerate(draw.choice(names).split())]
        else:
            lines.append(f"{part} O")
    return lines


def overrides(model: Path, data: Path, *more: str) -> list[str]:
    """Return what makes a run of seconds of them, on one thread."""
    given = ["model=folder", f"model.path={model}", "data=files", f"data.path={data}", "data.batch_size=8"]
    given += ["trainer=cpu", "trainer.precision=32-true", "trainer.threads=1", "logger=[]", "callbacks=[]"]
    return [*given, "budget=smoke", "budget.max_steps=24", "optimizer.lr=5e-3", "model.dropout=0.1", *more]
