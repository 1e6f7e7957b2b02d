"""The files of SemEval-2010 task 8: a numbered sentence with two marked entities, its label, and a comment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.data.text_files import lines_of, read_text
from peftlab.errors import DataError
from peftlab.tasks.inputs.marked_texts import MarkedText

_SENTENCE = re.compile(r'(\d+)\t"?(.*?)"?')


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class SemEval2010Task8:
    """How to read the files ``TRAIN_FILE.TXT`` and ``TEST_FILE_FULL.TXT`` (Hendrickx et al. 2010).

    Each example has a line with its number, a tab and the sentence in quotation marks, a line with the label, and a
    comment, which is left out; blank lines separate examples.
    """

    pair: ClassVar[None] = None

    def read(self, files: Mapping[str, Path]) -> dict[str, Sequence[MarkedText]]:
        """Return the sentences of each split, with the ids ``split:0``, ``split:1``, ...

        Raises:
            DataError: a file is missing, empty or malformed; the message names the file and the line.
        """
        return {split: self._read(split, path) for split, path in files.items()}

    def _read(self, split: str, path: Path) -> list[MarkedText]:
        texts: list[MarkedText] = []
        lines = enumerate(lines_of(read_text(path)), start=1)
        for number, line in lines:
            if not line.strip():
                continue
            numbered = _SENTENCE.fullmatch(line.strip())
            if numbered is None:
                raise DataError(
                    f"{path}:{number}: expected a number, a tab and a sentence in quotation marks, and not "
                    f"{line[:60]!r}. Mend the line."
                )
            _, label = next(lines, (0, ""))
            if not label.strip() or _SENTENCE.fullmatch(label.strip()) or label.startswith("Comment"):
                raise DataError(
                    f"{path}:{number + 1}: expected the label of the sentence before it, such as Other or "
                    "Cause-Effect(e1,e2). Of the test files, TEST_FILE_FULL.TXT has labels."
                )
            try:
                id = f"{split}:{len(texts)}"
                texts.append(MarkedText.of_marked(numbered[2], id, label.strip(), str(path), number))
            except ValueError as error:
                raise DataError(
                    f"{path}:{number}: {error}; expected <e1>...</e1> and <e2>...</e2> around two entities. Mend it."
                ) from None
            for begun, comment in lines:  # which may have several lines
                if not comment.strip():
                    break
                if _SENTENCE.fullmatch(comment.strip()):
                    raise DataError(f"{path}:{begun}: expected a blank line before the next sentence. Insert one.")
        if not texts:
            raise DataError(f"{path}: empty split '{split}': the file holds no sentence.")
        return texts
