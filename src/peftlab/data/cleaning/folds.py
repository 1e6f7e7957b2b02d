"""Folds of the training split, for predictions of every training example by a model that has not seen it."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator

from peftlab.data.duplicates import joined, same_words
from peftlab.data.held_out import kept_together

_FORM = re.compile(r"([1-9]\d{0,3})/([1-9]\d{0,3})")


def parts_of(fold: str) -> tuple[int, int]:
    """Return the number of a fold, from 1, and the number of folds, from a text such as ``2/5``.

    Raises:
        ValueError: it is not of this form.
    """
    match = _FORM.fullmatch(fold)
    number, of = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= of or of < 2:
        raise ValueError(f"expected a fold such as 2/5, the second of five, not '{fold}'")
    return number, of


def _checked(fold: str) -> str:
    parts_of(fold)
    return fold


Fold = Annotated[str, AfterValidator(_checked)]
"""A fold and the number of folds, such as ``2/5``."""


def folds(texts: Sequence[str], number: int, groups: Sequence[str | None] | None = None) -> list[int]:
    """Return the fold of each text, from 1 to `number`; all folds have about the same size.

    Near duplicates, texts with the same words and, with `groups`, texts of one group share a fold: a model would
    otherwise be asked about texts that it has learnt. Neither the order of the data nor the seed of a run decides, but
    the sha256 of the texts.
    """
    pairs = itertools.chain(enumerate(kept_together(texts, groups)), enumerate(same_words(texts)))
    together = joined(len(texts), pairs)
    members: dict[int, list[int]] = {}
    for n, first in enumerate(together):
        members.setdefault(first, []).append(n)
    digest = {n: min(hashlib.sha256(texts[m].encode()).digest() for m in group) for n, group in members.items()}
    sizes, fold_of = [0] * number, [0] * len(texts)
    for first in sorted(members, key=lambda n: (-len(members[n]), digest[n])):  # the largest first, for equal sizes
        smallest = min(range(number), key=lambda fold: sizes[fold])
        sizes[smallest] += len(members[first])
        for member in members[first]:
            fold_of[member] = smallest + 1
    return fold_of
