"""The texts without labels that a run learns from, beside its labelled ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.data.hashes import among, hashes
from peftlab.data.masked.examples import ExampleMask, masked_examples
from peftlab.data.module import DataModule
from peftlab.data.reading import plain
from peftlab.data.sampling import random_sample
from peftlab.data.text_lines import texts_in
from peftlab.data.views import chosen, mapped
from peftlab.errors import ConfigError, DataError
from peftlab.reading.unicode_text import Door
from peftlab.storage.digests import file_sha256

log = logging.getLogger("peftlab")

REST = "rest"
"""The value of ``semi.unlabelled`` for the training texts that the budget's sample leaves out."""


@dataclass(frozen=True)
class Unlabelled:
    """Texts without labels."""

    examples: Sequence[Any]
    """The examples, all with the same gold, see `Task.without_gold`."""
    hidden: Sequence[Any] | None
    """The same with the gold of their file, for the record alone; None: their file has none."""
    held_out: int
    """Texts that are left out because the validation or the test split has them too."""


def read_unlabelled(data: DataModule, unlabelled: str, at_most: int | None) -> Unlabelled:
    """Return the texts that `data` has no labels for, and add the digest of their file to its own.

    Args:
        data: the loaded data.
        unlabelled: `REST`, or a file: ``.jsonl`` with an object in each line, whose keys may be those of the training
            data; or ``.txt``, a text in each line.
        at_most: the size of a random sample of them; None: all.

    Raises:
        ConfigError: there are none, or the task has none.
        DataError: the file cannot be read; the message names the line.
    """
    texts = data.rest if unlabelled == REST else _read_file(data, Path(unlabelled).expanduser())
    kept = np.flatnonzero(~_held_out(texts, data))
    held_out = len(texts) - len(kept)
    if at_most is not None:
        kept = kept[random_sample(len(kept), at_most, data.budget.sample_seed)]
    if not len(kept):
        raise ConfigError(
            "semi.unlabelled=rest: the sample leaves no training text out. Choose a smaller one, such as "
            "budget.per_class=4, or name a file of texts, semi.unlabelled=FILE"
            if unlabelled == REST and not len(texts)
            else f"semi.unlabelled={unlabelled}: each of its {len(texts)} texts is in the validation or the test split"
        )
    log.info("semi: %d texts without labels; %d more are in the validation or the test split", len(kept), held_out)
    texts = chosen(texts, kept)
    return Unlabelled(mapped(texts, data.task.without_gold), texts if unlabelled == REST else None, held_out)


def _held_out(texts: Sequence[Any], data: DataModule) -> np.ndarray:
    """Return whether each text, in any case and with any white space, is one that the model is scored on."""
    own = hashes(plain(data.task.text_key(text)) for text in texts)
    scored = (data.splits[split].examples for split in ("validation", "test") if split in data.splits)
    return among(own, hashes(plain(data.task.text_key(text)) for split in scored for text in split))


def _read_file(data: DataModule, path: Path) -> Sequence[Any]:
    if path.suffix not in (".jsonl", ".txt"):
        raise ConfigError(
            f"semi.unlabelled={path}: expected rest, or a file: .jsonl with an object in each line, such as "
            '{"text": ...}, or .txt with a text in each line'
        )
    if not path.is_file():
        raise ConfigError(f"semi.unlabelled={path}: there is no such file. Name one, or rest")
    data.facts.sha256["unlabelled"] = file_sha256(path)
    texts: Sequence[Any] = [text.mapped(Door()) for text in texts_in(path, data.task, data.spec.format, "unlabelled")]
    if not texts:
        raise DataError(f"{path}: the file holds no text. Expected one a line")
    if data.spec.mask_pii is not None:
        texts, _ = masked_examples(texts, ExampleMask(data.spec.mask_pii.masker()))
    return texts
