"""PubTator files: title, abstract and entities of articles, by the places of their characters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.examples import Examples
from peftlab.data.standoff import Document, Mention, Offsets, Standoff, check_type, whole
from peftlab.data.text_files import lines_of, read_text
from peftlab.errors import DataError
from peftlab.tasks.inputs.words import Sentence

_TEXT = re.compile(r"(?P<name>[^|\t]+)\|(?P<kind>[ta])\|(?P<text>.*)")


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class PubTator:
    """How to read PubTator files, as of NCBI-disease and BC5CDR.

    An article has a line ``ID|t|TITLE``, one ``ID|a|ABSTRACT``, and for each entity one of ID, start, end, text and
    type, with tabs between them; a blank line ends it. Offsets count the characters of title and abstract with one
    character between them; the end is behind the last one. Lines of relations (four columns) are left out and counted.
    An article is a document: it is held out whole.
    """

    example: ClassVar[type] = Sentence
    pair: ClassVar[None] = None
    documents: ClassVar[bool] = True

    offsets: Offsets = "characters"
    """What the offsets count."""
    overlaps: Literal["error", "longest"] = "error"
    """Treatment of entities that overlap or consist of several pieces: stop; or keep the longest, and leave out and
    count the others."""
    sentences: bool = True
    """Whether an example is a sentence, found by rule; else it is a whole document."""

    def read(self, files: Mapping[str, Path]) -> dict[str, Examples[Sentence]]:
        """Return the sentences of each split, with the ids ``split:0``, ``split:1``, ...

        Args:
            files: the file of each split.

        Raises:
            DataError: a file is missing, empty or malformed, or an entity is not where it says; names file and line.
        """
        return {split: self._read_file(split, path) for split, path in files.items()}

    def _read_file(self, split: str, path: Path) -> Examples[Sentence]:
        counts: Counter[str] = Counter()
        documents = whole(_documents(path, counts), split, path)
        read = Standoff(self.offsets, self.overlaps, self.sentences).read(split, documents, counts)
        return Examples(read, {name: count for name, count in counts.items() if count} | {"documents": len(documents)})


def _documents(path: Path, counts: Counter[str]) -> Iterator[Document]:
    texts: dict[str, str] = {}
    mentions: list[Mention] = []
    name, first = "", 1
    for number, line in enumerate([*lines_of(read_text(path)), ""], start=1):
        place = f"{path}:{number}"
        if not line.strip():
            if texts:
                text = f"{texts.get('t', '')}\n{texts.get('a', '')}"  # a title is a sentence
                yield Document(name, text, mentions, str(path), first)
            texts, mentions, name = {}, [], ""
        elif match := _TEXT.fullmatch(line):
            if name not in ("", match["name"]) or match["kind"] in texts:
                raise DataError(f"{place}: article {match['name']} begins within {name}: a blank line is missing")
            first = first if texts else number
            name, texts[match["kind"]] = match["name"], match["text"]
        else:
            fields = line.split("\t")
            if fields[0] != name or len(fields) < 4:
                raise DataError(
                    f"{place}: expected ID|t|TITLE, ID|a|ABSTRACT, or ID, start, end, text and type of an entity of "
                    f"article {name or 'in the lines before'} between tabs"
                )
            if not (fields[1].isdigit() and fields[2].isdigit()):
                counts["relations"] += 1
            elif len(fields) < 5:
                raise DataError(f"{place}: an entity has start, end, text and type, and this line has no type")
            else:
                pieces = ((int(fields[1]), int(fields[2])),)
                mentions.append(Mention(check_type(fields[4], place), pieces, fields[3], place))
