"""Rows with the words of a sentence, and their tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.rows import cells
from peftlab.data.rows.row_reader import Place, RowReader
from peftlab.errors import DataError
from peftlab.scores.bio import TagError, explain, is_tag, to_bio
from peftlab.tasks.words import Sentence


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class SentenceRows(RowReader):
    """How to read sentences as a list of words and a list of as many tags, in the BIO scheme (B-PER I-PER O)."""

    example: ClassVar[type] = Sentence
    pair: ClassVar[None] = None

    words: str = "tokens"
    """The column of the words."""
    tags: str = "ner_tags"
    """The column of the tags."""
    group: str | None = None
    """The column of the sentence's group, such as its document: groups are held out whole."""
    skip_empty: bool = False
    """Whether rows without words are left out, for data that is not yours to mend; otherwise they are errors."""

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
            to_bio(tags, "bio")
        except TagError as error:
            raise DataError(f"{place}: '{self.tags}[{error.position}]': {error.reason}. Mend the tag.") from None
        group = None if self.group is None else cells.name(row, self.group, "group", place)
        return Sentence(id, words, tags, place.file, [place.line] * len(words), group=group)
