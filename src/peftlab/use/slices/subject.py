"""What is sliced: the answers of a run, the spans in them, and the examples that it was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from peftlab.errors import DataError, UserError
from peftlab.runs.folder import RunFolder
from peftlab.scores.bio import entities
from peftlab.scores.entity_scores import EntityScores
from peftlab.scores.paired import counts_of
from peftlab.scores.scorer import Scorer
from peftlab.scores.squad import SquadScores
from peftlab.tasks.inputs.splitting import words_of
from peftlab.use.fairness.groups import are_files


@dataclass(frozen=True)
class Slice:
    """A part of what a run is scored on: whole examples, or entities in them."""

    name: str
    counts: np.ndarray
    """What of the counts of each answer lies in the slice, shape (answers, width): the rest is what is left."""
    size: int
    """Examples, or gold entities."""
    unit: Literal["examples", "entities"]


class Mention(NamedTuple):
    """A span of words that is an entity in the gold, in the prediction, or in both."""

    answer: int
    """The place of its answer."""
    start: int
    end: int
    gold: str | None
    """Its type in the gold; None: it is not there."""
    predicted: str | None

    @property
    def type(self) -> str:
        """The type in the gold; of a spurious one, the predicted type."""
        return str(self.gold or self.predicted)


class Subject:
    """The answers of a run on one split, and what slicers ask about them."""

    def __init__(
        self,
        folder: RunFolder,
        answers: Sequence[Mapping[str, Any]],
        scorer: Scorer,
        first: Subject | None = None,
    ) -> None:
        self.folder, self.answers, self.scorer, self._first = folder, answers, scorer, first

    def of_another(self, answers: Sequence[Mapping[str, Any]]) -> Subject:
        """Return another run's answers to the same examples, sliced as these are: by what this run was trained on."""
        return Subject(self.folder, answers, self.scorer, self)

    @cached_property
    def counts(self) -> np.ndarray:
        """The counts of each answer, shape (answers, width)."""
        return counts_of(self.scorer, self.answers)

    @property
    def has_entities(self) -> bool:
        """Whether the answers are scored entity by entity, so that a slice may be of entities."""
        return isinstance(self.scorer, EntityScores)

    @property
    def asks_questions(self) -> bool:
        """Whether the answers are spans of a text that a question asks for."""
        return isinstance(self.scorer, SquadScores)

    @cached_property
    def mentions(self) -> list[Mention]:
        """Every span that is an entity in the gold or the prediction of an answer."""
        assert isinstance(self.scorer, EntityScores)
        found = []
        for place, answer in enumerate(self.answers):
            gold, predicted = (
                {(one.start, one.end): one.type for one in entities(answer[key], self.scorer.repair)}
                for key in ("gold", "predicted")
            )
            spans = sorted(gold.keys() | predicted.keys())
            found += [Mention(place, *span, gold.get(span), predicted.get(span)) for span in spans]
        return found

    def words(self, mention: Mention) -> list[str]:
        """Return the words of a mention."""
        return list(self.answers[mention.answer]["input"][mention.start : mention.end])

    @cached_property
    def texts(self) -> list[list[str]]:
        """The texts of each answer's input: one, two of a pair, or all of an object; words make one text.

        Raises:
            UnsuitedError: the inputs are files, such as pictures.
        """
        if self.has_entities:
            return [[" ".join(answer["input"])] for answer in self.answers]
        if are_files([answer["input"] for answer in self.answers]):
            raise UnsuitedError("its inputs are files, and have no words")
        return [[*_texts(answer["input"])] for answer in self.answers]

    @cached_property
    def text_words(self) -> list[list[str]]:
        """The words of all texts of each answer."""
        if self.has_entities:
            return [list(answer["input"]) for answer in self.answers]
        return [[text[start:end] for text in texts for start, end in words_of(text)] for texts in self.texts]

    @cached_property
    def documents(self) -> list[list[int]]:
        """The places of the answers of each document, in the order of the file; without groups, one each."""
        groups: dict[object, list[int]] = {}
        for place in sorted(range(len(self.answers)), key=self._number):
            group = self.answers[place].get("group")
            groups.setdefault(place if group is None else str(group), []).append(place)
        return list(groups.values())

    def _number(self, place: int) -> tuple[int, int]:
        number = str(self.answers[place]["id"]).rpartition(":")[2]
        return (int(number) if number.isdigit() else place, place)

    @cached_property
    def training(self) -> Training:
        """What the run was trained on.

        Raises:
            UserError: the data cannot be read, or has changed.
        """
        return _training(self.folder) if self._first is None else self._first.training

    def of_examples(self, name: str, inside: Sequence[bool] | np.ndarray) -> Slice:
        """Return the slice of whole examples for which `inside` is true."""
        mask = np.asarray(inside, bool)
        return Slice(name, self.counts * mask[:, None].astype(self.counts.dtype), int(mask.sum()), "examples")

    def of_mentions(self, name: str, inside: Callable[[Mention], bool]) -> Slice:
        """Return the slice of the entities for which `inside` is true, spurious ones among them."""
        assert isinstance(self.scorer, EntityScores)
        counts, size = np.zeros_like(self.counts), 0
        for mention in self.mentions:
            if inside(mention):
                counts[mention.answer, self.scorer.cell(mention.gold, mention.predicted)] += 1
                size += mention.gold is not None
        return Slice(name, counts, size, "entities")


@dataclass(frozen=True)
class Training:
    """What the training examples of a run say about slices."""

    classes: Counter[str]
    """How often each label is in the gold."""
    mentions: Mapping[str, frozenset[str]]
    """By the words of an entity in the training split, in lower case, its types."""
    answers: frozenset[str]
    """The gold answers of its questions, in lower case."""


def _training(folder: RunFolder) -> Training:
    from peftlab.data.listed import of_list
    from peftlab.data.reading import read_data_set
    from peftlab.data.sampling import sampled
    from peftlab.data.spec import BudgetSpec, DataSpec
    from peftlab.specs import build, prefixes_of
    from peftlab.tasks.inputs.words import Sentence
    from peftlab.tasks.task import Task
    from peftlab.validation import checked

    config = folder.read_config(unused=("callbacks", "logger", "regularizer", "augment"))
    sections = {"data": DataSpec, "budget": BudgetSpec}
    prefixes = prefixes_of(config)
    made = build({key: config[key] for key in ("task", *sections)}, "", prefixes)
    data, budget = (checked(kind, made[key], key) for key, kind in sections.items())
    task: Task = made["task"]
    splits, facts = read_data_set(data, task)
    if facts.sha256["train"] != folder.record.data["identity"]["data_sha256"]["train"]:
        raise DataError(f"{facts.origin}: its training split is no longer what the run was trained on")
    examples = sampled("train", of_list(splits, budget.listed)["train"], task, budget)
    classes: Counter[str] = Counter()
    mentions: dict[str, set[str]] = {}
    answers: set[str] = set()
    for example in examples:
        classes.update(task.classes(example))
        if isinstance(example, Sentence):
            for type_, start, end in entities(example.tags):
                mentions.setdefault(" ".join(example.words[start:end]).lower(), set()).add(type_)
        gold = task.gold(example)
        if isinstance(gold, list) and all(isinstance(one, str) for one in gold):
            answers.update(one.lower() for one in gold)
    return Training(classes, {name: frozenset(types) for name, types in mentions.items()}, frozenset(answers))


class UnsuitedError(UserError):
    """A slicer has nothing to divide in a run; says why."""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, Sequence):
        for part in value:
            yield from _texts(part)
