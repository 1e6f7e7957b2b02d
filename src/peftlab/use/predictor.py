"""Answers of a fine-tuned model to texts: plain PyTorch and transformers, no run, no record, no Lightning.

One bad object is one error in its place, and not the end of the others.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import torch
from torch import nn

from peftlab.data.batching import in_order_of_length
from peftlab.data.form import Form
from peftlab.devices.spec import AUTOCAST
from peftlab.errors import DataError
from peftlab.reading.unicode_text import Door
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Task

log = logging.getLogger("peftlab")

Answer = dict[str, Any]
"""What an object has, and beside it what the model finds in it."""


@dataclass(frozen=True)
class Refused:
    """An object that has no answer."""

    given: dict[str, Any]
    """What it has; empty where it is no object."""
    reason: DataError

    def at(self, place: str) -> Answer:
        """Return what stands in the place of an answer: the object, and the ``error``, which begins with `place`."""
        reason = str(self.reason)
        return beside(self.given, {"error": reason if reason.startswith(f"{place}: ") else f"{place}: {reason}"})


@dataclass
class Predictor:
    """A fine-tuned model with all that it takes to answer texts.

    Args:
        model: takes the inputs that `task` makes of texts.
        task: has learnt its labels.
        processor: the model's.
        form: what the texts of an object are called, and whether there are two.
        max_tokens: the most tokens of a row.
        long: what becomes of a longer text: several rows, or its end is lost.
        batch_size: texts that are computed together.
        precision: of the arithmetic, as ``trainer.precision`` has it.
        device: where it is computed.
    """

    model: nn.Module
    task: Task
    processor: Processor
    form: Form = field(default_factory=Form)
    max_tokens: int = 128
    long: Literal["split", "truncate"] = "truncate"
    batch_size: int = 64
    precision: str = "32-true"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        """Move the model to its device, have it compute without dropout, and tell the task its processor."""
        self.model = self.model.eval().to(self.device)
        self.task.bind(self.processor)

    def answers(self, objects: Iterable[Any], at_once: int = 1024) -> Iterator[Answer | Refused]:
        """Yield the answer to each of `objects`, or why there is none, in their order.

        At the end it logs what of all texts the model has not seen, and what is odd about their characters.

        Args:
            objects: texts, lists of words (where the task is one of words), or mappings such as ``{"text": ...,
                "text_pair": ...}``; a DataError stands for an object that could not be read, and stays in its place.
            at_once: how many are sorted by length and computed together.
        """
        door, lost = Door(), Counter[str]()
        numbered = enumerate(objects)
        while chunk := list(islice(numbered, at_once)):
            yield from self._of_chunk([(number, _admitted(one, door)) for number, one in chunk], lost)
        if text := ", ".join(f"{count:,} {what}" for what, count in lost.items() if count):
            log.warning("not seen of what was given (data.max_tokens=%d): %s", self.max_tokens, text)
        if door.findings:
            log.warning("the texts have odd characters: %s", door.findings)

    def example(self, given: Mapping[str, Any], id: str) -> Any:
        """Return the example in an object, which has to be of the form of the data that the model was trained on.

        Raises:
            DataError: it is not; says what is expected.
        """
        return self.task.from_input(self.form.usual(given), id)

    def _of_chunk(
        self, chunk: Sequence[tuple[int, dict[str, Any] | DataError]], lost: Counter[str]
    ) -> Iterator[Answer | Refused]:
        """Yield the answers to numbered objects, and add to `lost` what the model does not see of them."""
        found: dict[int, Answer | Refused] = {}
        given: dict[int, dict[str, Any]] = {}
        examples: dict[int, Any] = {}
        for number, one in chunk:
            if isinstance(one, DataError):
                found[number] = Refused({}, one)
                continue
            given[number] = one
            try:
                examples[number] = self.example(one, f"text:{number}")
            except DataError as error:
                found[number] = Refused(one, error)
        try:
            found |= zip(examples, self._answered(list(examples.values()), lost), strict=True)
        except DataError:  # of one of them, or because they do not go together: each by itself
            for number, example in examples.items():
                try:
                    (found[number],) = self._answered([example], lost)
                except DataError as error:
                    found[number] = Refused(given[number], error)
        for number, _ in chunk:
            answer = found[number]
            yield answer if isinstance(answer, Refused) else beside(given[number], answer)

    def _answered(self, examples: Sequence[Any], lost: Counter[str]) -> list[Answer]:
        """Return what is found in each of `examples`.

        Raises:
            DataError: one of them cannot be encoded.
        """
        if not examples:
            return []
        task = self.task
        encoded = task.encode(examples, self.processor, Limits(self.max_tokens, self.long))
        found: dict[int, Answer] = {}
        dtype = AUTOCAST.get(self.precision)
        with torch.inference_mode(), torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            for indices in in_order_of_length(encoded.lengths, self.batch_size):
                batch = task.collate(examples, encoded, indices).to(self.device)
                answers = task.answers(self.model(**batch.inputs), batch, self.model, final=True)
                found |= zip(indices, map(task.reply, batch.examples, answers), strict=True)
        lost.update(task.all_lost(encoded))
        return [found[n] | task.lost(encoded, n) for n in range(len(examples))]


def beside(given: Mapping[str, Any], answer: Mapping[str, Any]) -> Answer:
    """Return what an object has and the answer to it; where both have a key, the object's own is ``given_KEY``."""
    names = {key: key for key in given}
    for key in given.keys() & answer.keys():
        while names[key] in {*given, *answer}:
            names[key] = f"given_{names[key]}"
    return {names[key]: value for key, value in given.items()} | dict(answer)


def _admitted(one: Any, door: Door) -> dict[str, Any] | DataError:
    """Return what was given as an object whose texts are valid Unicode, or why it is none."""
    if isinstance(one, Mapping):
        admitted: dict[str, Any] = door.value(dict(one))
        return admitted
    if isinstance(one, str):
        return {"text": door(one)}
    if isinstance(one, Sequence) and not isinstance(one, bytes):
        return {"words": door.value(list(one))}
    if isinstance(one, DataError):
        return one
    return DataError(f"is a {type(one).__name__}; expected a text, a list of words, or an object")
