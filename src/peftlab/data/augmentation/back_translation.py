"""Translation into another language and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from typing_extensions import override

from peftlab.data.augmentation import translation
from peftlab.data.augmentation.augmentation import Augmentation, Material, is_word, spec
from peftlab.errors import SourceError
from peftlab.storage.digests import sha256_of
from peftlab.tasks.inputs.editable import EditableText


@spec
class BackTranslation(Augmentation):
    """Replaces texts by what comes back from translation into another language (Sennrich et al. 2016).

    Of a text with spans, only the stretches between them are translated, each by itself (Yaseen & Langer 2021, "Data
    Augmentation for Low-Resource Named Entity Recognition Using Backtranslation"). All texts are translated before the
    training, so that an epoch costs no more than with other augmentations.
    """

    to: str
    """The model that translates into the other language: ``organisation/name`` on the hub, or with ``@revision``, or a
    folder. It translates from one language into one other, such as the Marian models."""
    back: str
    """The model that translates back."""
    shortest: int = Field(default=3, ge=1)
    """Number of words of the shortest stretch that is translated."""
    beams: int = Field(default=1, ge=1)
    """Hypotheses of the beam search; 1: greedy."""
    batch_size: int = Field(default=32, ge=1)
    """Number of texts that are translated at once."""
    sha256: str | None = None
    """The digest of both models, set by the run; a run that continues or repeats it needs the same."""
    table: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    """The translations by stretch, set by `prepare`."""
    first: ClassVar[bool] = True
    needs: ClassVar[str] = "a stretch of words outside spans that comes back changed"

    @override
    def prepare(self, material: Material) -> None:
        self.to, to = translation.fetch(self.to)
        self.back, back = translation.fetch(self.back)
        digest = sha256_of([translation.digest(to), translation.digest(back)])
        if self.sha256 not in (None, digest):
            raise SourceError(
                "the translation models have changed since this run began with them: put the old ones back, or begin "
                "anew with sha256=null"
            )
        self.sha256 = digest
        stretches = (_text(text, *place) for text in material.texts for place in self._stretches(text))
        self.table = translation.back_translated(stretches, to, back, self.beams, self.batch_size)

    @override
    def resolved(self) -> dict[str, Any]:
        return {"to": self.to, "back": self.back, "sha256": self.sha256}

    @override
    def edit(self, text: EditableText, random: np.random.Generator) -> EditableText:
        changes: dict[int, tuple[str, ...]] = {}
        for start, end in self._stretches(text):
            returned = EditableText.of_text(self.table.get(_text(text, start, end), ""))
            if returned.words and returned.words != text.words[start:end]:
                if not text.spans:
                    return returned
                changes |= dict.fromkeys(range(start, end), ())
                changes[start] = returned.words
        return text.replaced(changes) if changes else text

    def _stretches(self, text: EditableText) -> Iterator[tuple[int, int]]:
        """Yield the first position of each stretch between spans that is long enough, and the one after its last."""
        borders = [(0, 0), *((span.start, span.end) for span in text.spans), (len(text.words), len(text.words))]
        for (_, start), (end, _) in pairwise(borders):
            if sum(map(is_word, text.words[start:end])) >= self.shortest:
                yield start, end


def _text(text: EditableText, start: int, end: int) -> str:
    """Return the stretch of `text` between two positions, without the white space around it."""
    return "".join(map(str.__add__, ("", *text.spaces[start + 1 : end]), text.words[start:end]))
