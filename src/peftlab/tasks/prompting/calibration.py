"""Calibration: which label a language model expects of a template before it has read a text, taken off its answers.

All kinds do the same: the probabilities of the labels are divided by the mean probabilities over texts that say nothing
of the label, and differ in these texts only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from peftlab.reading.words import SPACELESS
from peftlab.tasks.inputs.texts import Text

Calibration = Literal["none", "contextual", "domain", "batch"]
"""The texts that are taken: none; texts without content (Zhao et al. 2021); random words of the training texts (Fei et
al. 2023); or the training texts themselves, whose labels play no part (Zhou et al. 2024)."""

FITTED_ON = {
    "contextual": "texts without content",
    "domain": "random words of training texts",
    "batch": "training texts without their labels",
}
"""The texts of each kind in words, for the record."""

CONTENT_FREE = ("N/A", "[MASK]", "")
"""The texts without content of Zhao et al. 2021, section 4."""

_RANDOM_TEXTS = 20
"""The number of texts of random words of Fei et al. 2023, section 4."""

_WORD = re.compile(rf"[{SPACELESS}]|[^\s{SPACELESS}]+")
_BETWEEN = re.compile(rf"(?<=[{SPACELESS}]) (?=[{SPACELESS}])")


def reference_texts(kind: Calibration, seen: Sequence[Text], seed: int) -> list[Text]:
    """Return the texts over which labels should be equally probable.

    Those of `batch` are the training texts rather than those that are to be answered, as in the paper: an answer then
    depends neither on what else is asked, nor on how batches are divided, and no test text has a part in it.

    Args:
        kind: which texts.
        seen: the training examples.
        seed: draws random words.
    """
    is_pair = any(one.pair is not None for one in seen)
    if kind == "batch":
        return list(seen)
    if kind == "domain":
        drawn = (
            _random_texts([one.text for one in seen], seed),
            _random_texts([one.pair or "" for one in seen], seed + 1),
        )
    else:
        drawn = list(CONTENT_FREE), list(CONTENT_FREE)
    both = zip(*drawn, strict=True)
    return [Text(f"{kind}:{n}", text, None, pair if is_pair else None) for n, (text, pair) in enumerate(both)]


def _random_texts(texts: Sequence[str], seed: int) -> list[str]:
    """Return texts of the mean number of words of `texts`, each word drawn from all of them."""
    words = [word for text in texts for word in _WORD.findall(text)]
    if not words:
        return [""] * _RANDOM_TEXTS
    random, length = np.random.default_rng(seed), max(1, round(len(words) / len(texts)))
    drawn = [" ".join(words[n] for n in random.integers(len(words), size=length)) for _ in range(_RANDOM_TEXTS)]
    return [_BETWEEN.sub("", text) for text in drawn]
