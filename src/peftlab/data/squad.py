"""Questions about texts in the JSON of SQuAD, versions 1.1 and 2.0: articles, their paragraphs, their questions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.text_files import read_text
from peftlab.errors import DataError, did_you_mean
from peftlab.tasks.inputs.questions import Answer, Question, check_answers

_KINDS: Mapping[type, str] = {str: "a text", list: "a list", dict: "an object", int: "a whole number"}

Place = Annotated[int, Field(ge=0)]
Split = Annotated[str, Field(pattern="^(train|validation|test)$")]


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class SquadJson:
    """How to read SQuAD's JSON: ``{"data": [{"paragraphs": [{"context": ..., "qas": [{"question": ..., "id": ...,
    "answers": [{"text": ..., "answer_start": ...}]}]}]}]}``. A question of version 2.0 whose ``answers`` are empty has
    none.
    """

    pair: ClassVar[None] = None

    group: Literal["context", "article"] = "context"
    """The group of a question: its text, or its article. A group is held out whole, and uncertainty is over groups."""
    articles: dict[Split, tuple[Place, Place]] | None = None
    """By split, the first of its articles in the file, from 0, and the one after its last: so that several splits come
    from one file, or from parallel files in several languages without sharing an article. None: all of each file."""

    def read(self, files: Mapping[str, Path]) -> dict[str, list[Question]]:
        """Return the questions of each split, with the ids ``split:0``, ``split:1``, ...

        Args:
            files: the file of each split.

        Raises:
            DataError: a file is missing, not JSON or not of this form, or an answer is not where it says; the message
                names the file and the place in it.
        """
        return {split: self._read_file(split, path) for split, path in files.items()}

    def _read_file(self, split: str, path: Path) -> list[Question]:
        articles = _articles(path)
        first, end = (self.articles or {}).get(split, (0, len(articles)))
        if not first < end <= len(articles):
            raise DataError(
                f"{path}: data.format.articles={{{split}: [{first}, {end}]}}: the file has {len(articles)} articles, "
                f"counted from 0: the first must be before the end, and the end at most {len(articles)}."
            )
        questions: list[Question] = []
        for number in range(first, end):
            for one in self._questions(articles[number], f"{path}: data[{number}]"):
                questions.append(Question(f"{split}:{len(questions)}", *one))
        if not questions:
            raise DataError(f"{path}: empty split '{split}': the file holds no question.")
        sources: dict[str, str] = {}
        for each in questions:
            if each.source_id is not None and (earlier := sources.setdefault(each.source_id, each.place)) != each.place:
                raise DataError(
                    f"{each.place}: the id '{each.source_id}' is that of {earlier.removeprefix(f'{path}: ')}, too. "
                    "Give each question its own."
                )
        return questions

    def _questions(self, article: Any, place: str) -> Iterator[tuple[Any, ...]]:
        """Yield the fields of each question of an article after its id."""
        paragraphs = _value(article, "paragraphs", list, place)
        title = article.get("title")
        for n, paragraph in enumerate(paragraphs):
            where = f"{place}.paragraphs[{n}]"
            context = _text(paragraph, "context", where)
            group = title if self.group == "article" and isinstance(title, str) and title.strip() else None
            if group is None:
                whole = (
                    context if self.group == "context" else _text(paragraphs[0], "context", f"{place}.paragraphs[0]")
                )
                group = hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()[:16]
            for m, entry in enumerate(_value(paragraph, "qas", list, where)):
                yield _question(entry, context, group, f"{where}.qas[{m}]")


def _articles(path: Path) -> Sequence[Any]:
    text = read_text(path)
    try:
        whole = json.loads(text)
    except RecursionError:
        raise DataError(f"{path}: is JSON that is nested too deeply. {_FORM}") from None
    except json.JSONDecodeError as error:
        lines = " Is it JSON Lines, one object a line? Read it with data=question_rows." if _has_lines(text) else ""
        raise DataError(f"{path}:{error.lineno}: is not JSON ({error.msg}).{lines}") from None
    except ValueError as error:  # a number of too many digits
        raise DataError(f"{path}: is not JSON that can be read ({error}).") from None
    if not isinstance(whole, dict) or not isinstance(whole.get("data"), list):
        raise DataError(f"{path}: has no list 'data' of articles. {_FORM}")
    articles: list[Any] = whole["data"]
    return articles


_FORM = "Expected SQuAD's form: data, in it paragraphs with a context and qas, in them question and answers."


def _has_lines(text: str) -> bool:
    """Return whether the first line is an object by itself."""
    try:
        return isinstance(json.loads(text.lstrip().partition("\n")[0]), dict)
    except (ValueError, RecursionError):
        return False


def _question(entry: Any, context: str, group: str, place: str) -> tuple[Any, ...]:
    """Return the fields of a `Question` after its id."""
    question = _text(entry, "question", place)
    source_id = entry.get("id")
    if source_id is not None and not isinstance(source_id, str | int):
        raise DataError(f"{place}.id: is {_shown(source_id)}, expected a text. Write one, or leave it out.")
    answers = []
    for n, answer in enumerate(_value(entry, "answers", list, place)):
        where = f"{place}.answers[{n}]"
        start = _value(answer, "answer_start", int, where)
        one = Answer(_value(answer, "text", str, where), start)
        check_answers(Question("", question, context, (one,), where))
        answers.append(one)
    impossible = entry.get("is_impossible")
    if impossible is not None and impossible is not (not answers):
        said = f"is_impossible is {_shown(impossible)}"
        raise DataError(f"{place}: {said}, and the question has {len(answers)} answers. Mend one of them.")
    return question, context, tuple(answers), place, group, None if source_id is None else str(source_id)


def _text(holder: Any, key: str, place: str) -> str:
    text: str = _value(holder, key, str, place)
    if not text.strip():
        raise DataError(f"{place}.{key}: is empty. Write a text, or leave out {place.rpartition('.')[2]}.")
    return text


def _value(holder: Any, key: str, kind: type, place: str) -> Any:
    """Return the value of a key in an object of the file.

    Raises:
        DataError: it is none, lacks the key, or its value is of another kind.
    """
    if not isinstance(holder, dict):
        raise DataError(f"{place}: is {_shown(holder)}, expected an object with '{key}'.")
    if key not in holder:
        keys = ", ".join(map(str, holder)) or "none"
        raise DataError(f"{place}: there is no key '{key}'.{did_you_mean(key, holder)} Keys: {keys[:200]}. {_FORM}")
    value = holder[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{place}.{key}: is {_shown(value)}, expected {_KINDS[kind]}.")
    return value


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."
