"""One folder per class: every file in it is a text."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.examples import Examples
from peftlab.data.text_files import Encoding, read_text
from peftlab.errors import DataError
from peftlab.storage.entries import oddity
from peftlab.tasks.inputs.texts import Text

log = logging.getLogger("peftlab")


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class Folders:
    """How to read a folder of folders that are named by the labels. Hidden files are skipped; other skipped files are
    logged.

    A split is such a folder: the source's own, or those in it that are called train, validation (valid, val, dev) and
    test.
    """

    example: ClassVar[type] = Text
    takes_folders: ClassVar[bool] = True
    pair: ClassVar[None] = None

    suffix: str = ".txt"
    """The file name suffix of texts; other files are left out."""
    encodings: list[Encoding] = Field(default=["utf-8"], min_length=1)
    """The encodings of the files: each file is read in the first that fits."""

    def read(self, files: Mapping[str, Path]) -> dict[str, list[Text]]:
        """Return the texts of each split, sorted by label and file, with the ids ``split:0``, ``split:1``, ...

        Args:
            files: the folder of each split.

        Raises:
            DataError: a folder holds no text, or a file is empty or in none of the encodings; the message names it.
        """
        return {split: self._read_folder(split, path) for split, path in files.items()}

    def _read_folder(self, split: str, path: Path) -> list[Text]:
        if not path.is_dir():
            raise DataError(f"{path}: is not a folder; expected one that holds a folder for each class.")
        texts: list[Text] = []
        left_out: Counter[str] = Counter()
        advice = "Save the file as UTF-8, or name its encoding too, data.format.encodings=[utf-8,latin-1] for instance"
        for folder in sorted(each for each in path.iterdir() if not each.name.startswith(".")):
            if not folder.is_dir():
                left_out[_what(folder) or "a file beside the classes"] += 1
                continue
            of_class = len(texts)
            for file in sorted(each for each in folder.iterdir() if not each.name.startswith(".")):
                if odd := self._unread(file):
                    left_out[odd] += 1
                    continue
                text = read_text(file, *self.encodings, advice=advice).strip()
                if not text:
                    raise DataError(f"{file}: the text is empty. Write one, or remove the file.")
                texts.append(Text(f"{split}:{len(texts)}", text, folder.name, file=str(file)))
            if len(texts) == of_class:
                left_out[f"a class without a text ({folder.name})"] += 1
        if not texts:
            raise DataError(
                f"{path}: empty split '{split}': no folder in it holds a file *{self.suffix}. Expected a folder for "
                "each class, with a file for each text; set data.format.suffix to how their names end."
            )
        if left_out:
            log.info("%s: left out: %s", path, ", ".join(f"{n} x {what}" for what, n in sorted(left_out.items())))
        return Examples(texts, {"left_out": left_out.total()})

    def _unread(self, path: Path) -> str | None:
        """Return a description of an entry in a class folder that is not a text; None for a text."""
        if odd := _what(path):
            return odd
        if path.is_dir():
            return "a folder within a class"
        return None if fnmatchcase(path.name, f"*{self.suffix}") else f"a file not called *{self.suffix}"


def _what(path: Path) -> str | None:
    """Return a description of `path` if it is neither a file nor a folder, else None."""
    odd = oddity(path)
    return "a link to where nothing is" if odd and odd.startswith("a link") else odd
