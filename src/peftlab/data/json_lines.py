"""JSON lines: one object per line, with a text or a text pair, and its label."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.indexed_examples import Index, LinesOfFile
from peftlab.errors import DataError, did_you_mean
from peftlab.tasks.texts import Text

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
        return Text(id, text, label, pair, str(path), number, group)


_KINDS: Mapping[type, str] = {str: "a text", int: "a number", bool: "true or false"}


class _Object(dict[str, Any]):
    """A JSON object with a list of its `repeated` keys, of which the last one counts."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: list[str] = []
        if len(self) < len(pairs):
            keys = [key for key, _ in pairs]
            self.repeated = sorted({key for key in keys if keys.count(key) > 1})


def read_object(line: str, where: str, expected: str, following: Iterable[str]) -> dict[str, Any]:
    """Return the JSON object in a line.

    Args:
        line: the line.
        where: its file and number, at the start of messages.
        expected: description of the expected object, for messages.
        following: the lines after it, to explain an object that spans several; read only if this one is invalid.

    Raises:
        DataError: it is not JSON, not an object, or has a repeated key.
    """
    try:
        one = json.loads(line, object_pairs_hook=_Object)
    except RecursionError:
        raise DataError(f"{where}: is JSON that is nested too deeply. Write flat objects.") from None
    except ValueError as error:
        raise DataError(f"{where}: is not JSON ({error}). {_way_out(line, following)}") from None
    if isinstance(one, list) and one and all(isinstance(each, dict) for each in one):
        raise DataError(f"{where}: is an array of {len(one)} objects. {_ARRAY}")
    if not isinstance(one, _Object):
        raise DataError(f"{where}: is not a JSON object. Write one a line, {expected}.")
    if one.repeated:
        raise DataError(f"{where}: the key '{one.repeated[0]}' appears twice. Remove one of them.")
    return one


_ARRAY = "Write one object a line: `jq -c '.[]' FILE` does."
_SEVERAL = "Write one object a line: `jq -c . FILE` does."


def _way_out(line: str, following: Iterable[str]) -> str:
    """Return advice on a line that is not JSON by itself."""
    begun = "\n".join([line, *itertools.islice(following, _FOLLOWING)]).lstrip()
    try:
        one, end = json.JSONDecoder().raw_decode(begun)
    except (ValueError, RecursionError):
        return "Write one object a line."
    lines = begun.count("\n", 0, end) + 1
    if lines > 1:
        what = "array" if isinstance(one, list) else "object"
        return f"The {what} that begins here goes over {lines} lines. {_ARRAY if isinstance(one, list) else _SEVERAL}"
    rest = line.lstrip()[end:].strip()
    return "Leave out the comma after the object." if rest == "," else f"There is more than one value in it. {_SEVERAL}"


_FOLLOWING = 1_000_000
"""Lines read after an invalid one."""


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
