"""Counterfactual augmentation: the text as it would be about somebody of another group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from peftlab.data.augmentation.augmentation import Augmentation, Material, spec, spellable
from peftlab.data.augmentation.wordnet import FUNCTION_WORDS
from peftlab.data.identities.terms import Identities, identities
from peftlab.errors import ConfigError, SourceError
from peftlab.storage.digests import sha256_of
from peftlab.tasks.inputs.editable import EditableText

Move = tuple[Identities, int]
"""A theme, and by how many groups its terms go on."""


@spec
class Counterfactual(Augmentation):
    """Replaces every term that says who a text is about by its counterpart (Lu et al. 2018, "Gender bias in neural
    natural language processing"; Zhao et al. 2018).

    All terms of an example move together: with two groups they change places, with more, all go on by as many groups,
    one number drawn for each example and theme. Labels stay: a text is taken to have the same one whoever it is about.
    """

    terms: list[str] = Field(default=["gender"], min_length=1)
    """Themes of the package, or files, see `peftlab.data.identities.terms`; of two with a term, the first counts."""
    mentions: bool = False
    """Whether words of mentions change too, such as first names (``terms=[gender,names]``); their types stay."""
    sha256: str | None = None
    """The digest of the terms, set by the run; a run that continues or repeats it needs the same."""
    themes: list[Identities] = field(default_factory=list, init=False, repr=False)
    in_place: ClassVar[bool] = True
    needs: ClassVar[str] = "a term that has a counterpart in another group"

    @override
    def prepare(self, material: Material) -> None:
        self.themes = [identities(theme) for theme in self.terms]
        for name, theme in zip(self.terms, self.themes, strict=True):
            if len(theme.groups) < 2:
                raise ConfigError(f"terms: {name} has the one group '{theme.groups[0]}', and no term a counterpart")
        digest = sha256_of([theme.sha256 for theme in self.themes])
        if self.sha256 not in (None, digest):
            raise SourceError(
                "the terms have changed since this run began with them: put the old file back, or begin anew with "
                "sha256=null"
            )
        self.sha256 = digest

    @override
    def resolved(self) -> dict[str, Any]:
        return {"sha256": self.sha256}

    @override
    def edit(self, text: EditableText, random: np.random.Generator) -> EditableText:
        (edited,) = self.edit_all([text], random)
        return edited

    @override
    def edit_all(self, texts: Sequence[EditableText], random: np.random.Generator) -> list[EditableText]:
        # drawn once: a pair that has become about two groups need not have its label any more
        moves = [(theme, 1 + int(random.integers(len(theme.groups) - 1))) for theme in self.themes]
        return [self._moved(text, moves) for text in texts]

    def _moved(self, text: EditableText, moves: Sequence[Move]) -> EditableText:
        changes: dict[int, tuple[str]] = {}
        for place in spellable(text, self.mentions):
            word = text.words[place]
            move = next(((theme, by) for theme, by in moves if word.lower() in theme.places), None)
            if move is not None and (other := _counterpart(move[0], text, place, move[1])):
                changes[place] = (_cased(other, word),)
        return text.replaced(changes) if changes else text


def _counterpart(theme: Identities, text: EditableText, place: int, by: int) -> str:
    """Return the term in the place of that at `place`, `by` groups further; empty if there is none."""
    group, rows = theme.places[text.words[place].lower()]
    target = (group + by) % len(theme.groups)
    others = [other for row in rows if (other := theme.rows[row][target])]
    if {"him", "his"} <= {*others}:  # of "her", which stands for both
        return "his" if _owns(text, place) else "him"
    return others[0] if others else ""


def _owns(text: EditableText, place: int) -> bool:
    """Return whether a noun seems to follow the word at `place`: a word without grammar of its own."""
    following = text.words[place + 1].lower() if place + 1 < len(text.words) else ""
    return following[:1].isalpha() and following not in FUNCTION_WORDS


def _cased(word: str, like: str) -> str:
    """Return `word` with the capitals of `like`."""
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word.capitalize() if like[:1].isupper() else word
