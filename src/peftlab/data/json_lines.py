"""JSON lines: an object a line, with a text, or a pair of texts, and its label."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.text_files import read_text
from peftlab.errors import DataError, did_you_mean
from peftlab.tasks.texts import Text


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class JsonLines:
    """How to read JSON lines; empty lines are left out. Labels are texts, whole numbers, true or false."""

    text: str = "text"
    """The key of the text."""
    label: str = "label"
    """The key of the label."""
    pair: str | None = None
    """The key of the second text, of pairs."""

    def read(self, files: Mapping[str, Path]) -> dict[str, list[Text]]:
        """Return the texts of each split, with the ids ``split:0``, ``split:1``, ...

        Args:
            files: the file of each split.

        Raises:
            DataError: a file is missing, empty or not UTF-8, or a line does not fit; the message names the file and the
                line.
        """
        return {split: self._read_file(split, path) for split, path in files.items()}

    def _read_file(self, split: str, path: Path) -> list[Text]:
        texts: list[Text] = []
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                one = json.loads(line)
            except ValueError as error:
                raise DataError(f"{where}: is not JSON ({error}). Write one object a line.") from None
            if not isinstance(one, dict):
                raise DataError(f"{where}: is no JSON object. Write one a line, with '{self.text}' and '{self.label}'.")
            label = _value(one, self.label, "label", where)
            if not isinstance(label, str | int):
                raise DataError(f"{where}: '{self.label}' is {json.dumps(label)}; a label is a text or a whole number.")
            label = json.dumps(label) if isinstance(label, bool) else str(label).strip()
            if not label:
                raise DataError(f"{where}: the label is empty. Write one, or remove the line.")
            pair = None if self.pair is None else _text(one, self.pair, "pair", where)
            text = _text(one, self.text, "text", where)
            texts.append(Text(f"{split}:{len(texts)}", text, label, pair, str(path), number))
        if not texts:
            raise DataError(f"{path}: empty split '{split}': the file holds no object. Expected one a line.")
        return texts


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
