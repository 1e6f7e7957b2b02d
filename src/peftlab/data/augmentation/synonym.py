"""Replacement of words by synonyms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from typing_extensions import override

from peftlab.data.augmentation.augmentation import Material, WordAugmentation, spec
from peftlab.data.augmentation.neighbours import nearest
from peftlab.data.augmentation.wordnet import FUNCTION_WORDS, INDEX, synonyms
from peftlab.errors import SourceError
from peftlab.sources import FilesSource, IndexSource
from peftlab.storage.digests import sha256_of
from peftlab.tasks.inputs.editable import EditableText


@spec
class Synonym(WordAugmentation):
    """Replaces words outside spans by synonyms (Zhang et al. 2015; Wei & Zou 2019, "EDA", synonym replacement).

    Function words stay, and so do words with capitals, except at the start of a text: they are often names.
    """

    source: Literal["wordnet", "embeddings"] = "wordnet"
    """WordNet, for English; or the words whose input embeddings in the pretrained model are the most similar, for any
    language, which are often related words rather than synonyms."""
    wordnet: IndexSource | FilesSource
    """Where WordNet's file ``index.sense`` is, for the source ``wordnet``."""
    senses: int = Field(default=1, ge=1)
    """Number of senses of a word, the most frequent ones, whose synonyms are used, for the source ``wordnet``."""
    neighbours: int = Field(default=5, ge=1)
    """Number of the most similar words to choose from, for the source ``embeddings``."""
    sha256: str | None = None
    """The digest of the synonyms from WordNet, set by the run; a run that continues or repeats it needs the same."""
    table: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False)
    """The synonyms of each word of the training split that has any, set by `prepare`."""
    in_place: ClassVar[bool] = True
    of_examples: ClassVar[tuple[str, ...]] = ("sha256",)
    needs: ClassVar[str] = "a word outside spans that has a synonym"

    @override
    def prepare(self, material: Material) -> None:
        words = {_looked_up(text, n) for text in material.texts for n in text.free} - FUNCTION_WORDS
        if self.source == "wordnet":
            self.table = synonyms(self.wordnet.fetch().file(INDEX), words, self.senses)
            digest = sha256_of(self.table)
            if self.sha256 not in (None, digest):
                raise SourceError(
                    "the synonyms have changed since this run began with them: put the old file of WordNet back, or "
                    "begin anew with sha256=null"
                )
            self.sha256 = digest
        else:
            alone = sorted(word for word in words if word.isalpha() and word == word.lower())
            self.table = nearest(alone, material.processor.tokenizer, material.embeddings(), self.neighbours)

    @override
    def resolved(self) -> dict[str, Any]:
        return {} if self.sha256 is None else {"sha256": self.sha256}

    @override
    def positions(self, text: EditableText) -> list[int]:
        return [n for n in text.free if _looked_up(text, n) in self.table]

    @override
    def words(self, text: EditableText, position: int, random: np.random.Generator) -> Sequence[str]:
        others = self.of(text, position)
        return (others[random.integers(len(others))],)

    def of(self, text: EditableText, position: int) -> list[str]:
        """Return the synonyms of the word at `position`, written as it is; empty if it has none."""
        word = text.words[position]
        others = self.table.get(_looked_up(text, position), ())
        return [other.capitalize() if word[:1].isupper() else other for other in others]


def _looked_up(text: EditableText, position: int) -> str:
    """Return the word at `position` as it is looked up."""
    word = text.words[position]
    return word.lower() if position == 0 and word.istitle() else word
