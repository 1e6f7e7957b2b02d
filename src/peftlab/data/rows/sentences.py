"""Rows with the words of a sentence, and their tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.columns import SCHEMES
from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place, RowReader
from peftlab.errors import DataError
from peftlab.scores.bio import TagError, explain, is_tag, repaired_bio, to_bio
from peftlab.tasks.inputs.words import Sentence


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class SentenceRows(RowReader):
    """How to read sentences as a list of words and a list of as many tags."""

    example: ClassVar[type] = Sentence
    pair: ClassVar[None] = None

    words: str = "tokens"
    """The column of the words."""
    tags: str = "ner_tags"
    """The column of the tags."""
    group: str | None = None
    """The column of the sentence's group, such as its document: groups are held out whole."""
    weight: str | None = None
    """The column of the sentence's weight in the loss of the training split, a number above 0; rows without count
    as 1."""
    scheme: Literal["iob1", "bio", "bioes", "bilou", "bmes", "bmewo", "ioe1", "ioe2"] = "bio"
    """The scheme of the tags, see `peftlab.scores.bio`; it cannot be detected, as rows are read one at a time."""
    invalid_tags: Literal["error", "repair"] = "error"
    """Treatment of a tag that its scheme does not allow at its position: stop, or read it as the CoNLL scorer does."""
    skip_empty: bool = False
    """Whether rows without words are left out, for data that is not yours to mend; otherwise they are errors."""

    @property
    def columns(self) -> dict[str, str]:
        """The names of the columns, by setting."""
        own = super().columns
        return {setting: column for setting, column in own.items() if setting not in ("scheme", "invalid_tags")}

    def example_of(self, row: Mapping[str, Any], id: str, place: Place) -> Sentence | None:
        """Return the sentence in a row, None if it is left out; raises DataError."""
        words = cells.texts(row, self.words, "words", place)
        tags = cells.names(row, self.tags, "tags", place)
        if not words and not tags and self.skip_empty:
            return None
        if not words:
            raise DataError(
                f"{place}: '{self.words}' is empty. Write words, remove the row, or leave out all such rows with "
                "data.format.rows.skip_empty=true."
            )
        if len(words) != len(tags):
            raise DataError(
                f"{place}: '{self.words}' has {len(words)} words, and '{self.tags}' {len(tags)} tags. Give each word "
                "one tag."
            )
        for position, tag in enumerate(tags):
            if not is_tag(tag):
                raise DataError(f"{place}: '{self.tags}[{position}]': {explain(tag)}")
        try:
            tags = repaired_bio(tags) if self.invalid_tags == "repair" else to_bio(tags, SCHEMES[self.scheme])
        except TagError as error:
            raise DataError(
                f"{place}: '{self.tags}[{error.position}]': {error.reason}. Mend the tag, set data.format.rows.scheme="
                f"{', '.join(SCHEMES)}, or set data.format.rows.invalid_tags=repair to read it as the CoNLL scorer "
                "does."
            ) from None
        group = None if self.group is None else cells.name(row, self.group, "group", place)
        weight = cells.weight(row, self.weight, place)
        return Sentence(id, words, tags, place.file, [place.line] * len(words), group=group, weight=weight)
