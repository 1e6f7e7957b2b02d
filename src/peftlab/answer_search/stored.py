"""The answers in a folder: each file of text or Markdown is one, and each line of a JSON Lines file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from peftlab.errors import DataError

SUFFIXES = (".md", ".txt", ".jsonl")


@dataclass(frozen=True)
class Stored:
    """An answer that may be given."""

    id: str
    """Its file within the folder, or the ``id`` of its object."""
    text: str
    question: str = ""
    """A question that it answers, which is searched too; empty: there is none."""

    @property
    def searched(self) -> str:
        """What a question is compared with."""
        return f"{self.question}\n{self.text}" if self.question else self.text


def stored_answers(folder: Path) -> list[Stored]:
    """Return the answers in the files of a folder and of those below it, in the order of the files' names.

    Raises:
        DataError: there are none, a file cannot be read, or two answers have one id.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. Name one with answers in .md, .txt or .jsonl files")
    answers: dict[str, Stored] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            for one in _of_file(file, file.relative_to(folder).as_posix()):
                if one.id in answers:
                    raise DataError(f"{file}: a second answer has the id '{one.id}'. Give each one of its own")
                answers[one.id] = one
    if not answers:
        raise DataError(f"{folder}: it holds no answers. Expected files {', '.join(SUFFIXES)} with text in them")
    return list(answers.values())


def _of_file(file: Path, name: str) -> Iterator[Stored]:
    try:
        content = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read as UTF-8 ({error})") from error
    if file.suffix.lower() != ".jsonl":
        if content.strip():
            yield Stored(name, content.strip())
        return
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            text, question, id = fields["text"], fields.get("question", ""), fields.get("id", f"{name}:{number}")
            if not all(isinstance(part, str) for part in (text, question, id)) or not text.strip():
                raise ValueError("text, question and id are strings, and text is not empty")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f'{file}:{number}: expected an object such as {{"id": "hours", "text": "We open at 9."}} ({error})'
            ) from error
        yield Stored(id, text, question)
