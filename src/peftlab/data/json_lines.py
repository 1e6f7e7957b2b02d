"""JSON lines: one object per line, with a text or a text pair, and its label."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.indexed_examples import Index, LinesOfFile
from peftlab.data.json_objects import read_object
from peftlab.errors import DataError, did_you_mean
from peftlab.tasks.inputs.texts import Text

log = logging.getLogger("peftlab")


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class JsonLines:
    """How to read JSON lines; empty lines are skipped. Labels are strings, integers, true or false."""

    example: ClassVar[type] = Text

    text: str = "text"
    """The key of the text."""
    label: str = "label"
    """The key of the label."""
    pair: str | None = None
    """The key of the second text, for pairs."""
    group: str | None = None
    """The key of the text's group, such as its document or author: groups are held out whole."""
    weight: str | None = None
    """The key of the text's weight in the loss of the training split, a number above 0; texts without count as 1."""

    def read(self, files: Mapping[str, Path]) -> dict[str, Sequence[Text]]:
        """Return the texts of each split, with the ids ``split:0``, ``split:1``, ...

        Those of a large file are read and parsed again when they are accessed, see `IndexedExamples`.

        Args:
            files: the file of each split.

        Raises:
            DataError: a file is missing, empty or not UTF-8, or a line is malformed; the message names the file and the
                line.
        """
        return {split: self._read_file(split, path) for split, path in files.items()}

    def _read_file(self, split: str, path: Path) -> Sequence[Text]:
        texts: list[Text] = []
        index = Index(path, partial(self._parsed, split, path))
        kinds: dict[str, dict[type, int]] = {}
        file = LinesOfFile(path)
        lines = iter(file)
        for line in lines:
            if not line.content.strip():
                continue
            where, expected = f"{path}:{line.number}", f"with '{self.text}' and '{self.label}'"
            one = read_object(line.content, where, expected, (following.content for following in lines))
            text = self._text_of(one, f"{split}:{len(texts) + len(index)}", path, line.number)
            assert text.label is not None
            kinds.setdefault(text.label, {}).setdefault(type(one[self.label]), line.number)
            if file.is_large:
                index.add(line.offset, line.number)
            else:
                texts.append(text)
        if not (texts or index):
            raise DataError(f"{path}: empty split '{split}': the file holds no object. Expected one a line.")
        for label, by_kind in kinds.items():
            if len(by_kind) > 1:
                as_what = " and ".join(f"{_KINDS[kind]} (line {line})" for kind, line in by_kind.items())
                log.info("%s: the label '%s' appears as %s: these are one label", path, label, as_what)
        return index.examples(file.state, file.sha256) if file.is_large else texts

    def _parsed(self, split: str, path: Path, lines: bytes, place: int, number: int) -> Text:
        """Return the text in the first of some lines, which was read before and is well-formed."""
        return self._text_of(json.loads(lines.partition(b"\n")[0]), f"{split}:{place}", path, number)

    def _text_of(self, one: dict[str, Any], id: str, path: Path, number: int) -> Text:
        """Return the text in the object of a line.

        Raises:
            DataError: a key is missing, or its value is not what it must be.
        """
        where = f"{path}:{number}"
        label = _name(_value(one, self.label, "label", where), self.label, "label", where)
        pair = None if self.pair is None else _text(one, self.pair, "pair", where)
        text = _text(one, self.text, "text", where)
        group = None
        if self.group is not None:
            group = _name(_value(one, self.group, "group", where), self.group, "group", where)
        return Text(id, text, label, pair, str(path), number, group, self._weight(one, where))

    def _weight(self, one: dict[str, Any], where: str) -> float | None:
        if self.weight is None or (weight := one.get(self.weight)) is None:
            return None
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise DataError(
                f"{where}: '{self.weight}' is {json.dumps(weight)}; a weight is a number above 0. Write one, or remove "
                "the line."
            )
        return float(weight)


_KINDS: Mapping[type, str] = {str: "a text", int: "a number", bool: "true or false"}


def _value(one: dict[str, Any], name: str, key: str, where: str) -> Any:
    if name not in one:
        raise DataError(
            f"{where}: there is no key '{name}'.{did_you_mean(name, one)} Keys: {', '.join(one) or 'none'}. Set "
            f"data.format.{key} to one of them."
        )
    return one[name]


def _text(one: dict[str, Any], name: str, key: str, where: str) -> str:
    text = _value(one, name, key, where)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: '{name}' is {json.dumps(text)}; expected a text. Write one, or remove the line.")
    return text


def _name(value: Any, name: str, key: str, where: str) -> str:
    """Return a label or a group as text."""
    if not isinstance(value, str | int):
        way_out = f' Put it in quotes, "{value}".' if isinstance(value, float) else ""
        raise DataError(f"{where}: '{name}' is {json.dumps(value)}; a {key} is a text or a whole number.{way_out}")
    text = json.dumps(value) if isinstance(value, bool) else str(value).strip()
    if not text:
        raise DataError(f"{where}: the {key} is empty. Write one, or remove the line.")
    return text
