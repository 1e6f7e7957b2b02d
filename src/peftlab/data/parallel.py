"""Parallel files: one holds the texts, line by line, and others the tags of their words, or their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.text_files import Encoding, lines_of, read_text
from peftlab.errors import DataError
from peftlab.scores.bio import TagError, explain, is_tag, to_bio
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.utterances import Utterance


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Parallel:
    """How to read a folder of parallel files for each split: the nth line of each belongs to the nth example.

    With tags, the examples are utterances of words that white space divides; without, they are texts with a label.
    """

    takes_folders: ClassVar[bool] = True
    pair: ClassVar[None] = None

    text: str = "seq.in"
    """The file of the texts."""
    tags: str | None = "seq.out"
    """The file of the BIO tags of their words; None: there is none."""
    label: str = "label"
    """The file of the labels, or the intents."""
    encoding: Encoding = "utf-8"
    """The encoding of the files."""

    def read(self, files: Mapping[str, Path]) -> dict[str, list[Any]]:
        """Return the examples of each split, with the ids ``split:0``, ``split:1``, ...

        Args:
            files: the folder of each split.

        Raises:
            DataError: a file is missing or malformed, or the files differ in length; the message names file and line.
        """
        return {split: self._read_folder(split, path) for split, path in files.items()}

    def _read_folder(self, split: str, folder: Path) -> list[Any]:
        names = [self.text, self.label, *([] if self.tags is None else [self.tags])]
        texts, *others = ([*map(str.strip, lines_of(read_text(folder / name, self.encoding)))] for name in names)
        for name, lines in zip(names[1:], others, strict=True):
            if len(lines) != len(texts):
                raise DataError(
                    f"{folder / name}:{min(len(lines), len(texts)) + 1}: the file has {len(lines)} lines, and "
                    f"{self.text} has {len(texts)}. The nth line of each belongs to the nth example."
                )
        if not texts:
            raise DataError(f"{folder / self.text}: empty split '{split}': the file holds no text.")
        for name, lines in zip(names, (texts, *others), strict=True):
            for number, line in enumerate(lines, start=1):
                if not line:
                    raise DataError(f"{folder / name}:{number}: the line is empty. Remove it from every file.")
        labels, *tags = others
        examples = zip(texts, labels, *tags, strict=True)
        return [self._example(f"{split}:{n}", folder, n + 1, *lines) for n, lines in enumerate(examples)]

    def _example(self, id: str, folder: Path, number: int, text: str, label: str, tags: str | None = None) -> Any:
        """Return the example of the lines with a number, from 1."""
        file = folder / self.text
        if self.tags is None or tags is None:
            return Text(id, text, label, file=str(file), line=number)
        words, own = text.split(), tags.split()
        self._check(words, own, f"{folder / self.tags}:{number}")
        return Utterance(id, words, own, str(file), [number] * len(words), intent=label)

    def _check(self, words: Sequence[str], tags: Sequence[str], place: str) -> None:
        if len(words) != len(tags):
            raise DataError(f"{place}: {len(tags)} tags, and {self.text} has {len(words)} words there. Mend the line.")
        for tag in tags:
            if not is_tag(tag):
                raise DataError(f"{place}: {explain(tag)}")
        try:
            to_bio(tags, "bio")
        except TagError as error:
            raise DataError(f"{place}: tag {error.position + 1}: {error.reason}. Mend the tag.") from None
