"""Answers of a fine-tuned model to texts: plain PyTorch and transformers, no run, no record, no Lightning.

A bad object gives an error in its place, and the others are still answered.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, Literal

import torch
from torch import nn

from peftlab.abstaining.scope import Scope, is_escalated
from peftlab.answer_search.fallback import Fallback
from peftlab.data.batching import in_order_of_length
from peftlab.data.form import Form
from peftlab.data.static_shapes import StaticShapes
from peftlab.devices.products import products
from peftlab.devices.spec import AUTOCAST
from peftlab.errors import ConfigError, DataError
from peftlab.generation.options import Generation
from peftlab.models.pooling import Pooling
from peftlab.personal_data.masker import Masker
from peftlab.reading.unicode_text import Door
from peftlab.speed.attention import attention_kernels
from peftlab.tasks.batch import Batch
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.reference import with_reference
from peftlab.tasks.task import Encoded, Task
from peftlab.validation import checked

log = logging.getLogger("peftlab")

Answer = dict[str, Any]
"""The entries of an object, and those of the model's answer."""


@dataclass(frozen=True)
class Refused:
    """An object that has no answer."""

    entries: dict[str, Any]
    """The entries of the object; empty if it is none."""
    reason: DataError

    def at(self, place: str) -> Answer:
        """Return the object with an ``error`` that begins with `place`, in place of an answer."""
        reason = str(self.reason)
        return beside(self.entries, {"error": reason if reason.startswith(f"{place}: ") else f"{place}: {reason}"})


@dataclass
class Predictor:
    """A fine-tuned model with all that it needs to answer texts.

    Args:
        model: takes the inputs that `task` makes of texts.
        task: a task with its labels.
        processor: the model's processor.
        form: the keys of the texts of an object, and whether there are two.
        max_tokens: the maximum number of tokens of a row.
        long: whether a longer text is split into several rows or truncated.
        batch_size: texts per batch.
        precision: the precision of the arithmetic, as in ``trainer.precision``.
        device: the device of the model.
        static: pads batches to a few shapes; None: rows are as wide as the longest of their batch.
        cudnn_attention, tf32: whether attention takes cuDNN's kernels, and products are in TF32, as in ``trainer``.
        pooling: what the head of a text reads, as in ``model.pooling``.
        initial: loads the model that training started from, if the task compares the model with it.
        masks: mask personal data in objects before they are read, in turn: answers stand beside the masked entries,
            which places refer to, and beside ``masked``, how often each kind was found.
        scope: says of each answer whether its text is in scope; None: nothing is said.
        fallback: the stored answers that are given to a text that is not; None: there are none.
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
    static: StaticShapes | None = None
    cudnn_attention: bool = False
    tf32: bool = False
    pooling: Pooling | None = None
    initial: Callable[[], nn.Module] | None = None
    masks: tuple[Masker, ...] = ()
    scope: Scope | None = None
    fallback: Fallback | None = None

    def __post_init__(self) -> None:
        """Move the model to its device in evaluation mode, and bind the task to its processor."""
        self.model = self.model.eval().to(self.device)
        self.task.bind(self.processor)

    def in_fp32(self) -> Predictor:
        """Return a predictor of the same model that computes in fp32, whatever the precision of the run."""
        return replace(self, precision="32-true", static=None, tf32=False)

    def answers(self, objects: Iterable[Any], at_once: int = 1024) -> Iterator[Answer | Refused]:
        """Yield the answer to each of `objects`, or the reason why there is none, in order.

        At the end it logs how much of the texts the model did not see, and which characters are invalid or unusual.

        Args:
            objects: texts, lists of words (if the task is one of words), lists of messages (if it is one of
                conversations), or mappings such as ``{"text": ..., "text_pair": ...}``; a DataError stands for one that
                could not be read, and keeps its place.
            at_once: how many are sorted by length and computed together.
        """
        door, lost = Door(), Counter[str]()
        numbered = enumerate(objects)
        while chunk := list(islice(numbered, at_once)):
            yield from self._of_chunk([(number, _admitted(one, door, self.masks)) for number, one in chunk], lost)
        self._warn(lost, door)

    def stream(self, one: Any) -> Generator[str, None, bool]:
        """Yield the text that the model writes for one object, see `answers`, by pieces; return whether it ended it.

        Raises:
            DataError: there is no answer to the object.
            ConfigError: the task writes no text.
        """
        example = self.read(one, door := Door())
        encoded = self.task.encode([example], self.processor, self.limits)
        self._warn(self.task.all_lost(encoded), door)
        return (yield from self.written(example, encoded))

    def written(self, example: Any, encoded: Encoded) -> Generator[str, None, bool]:
        """Yield the text that the model writes for one `example`, which is encoded as `encoded`; see `stream`."""
        ((_, batch),) = self.batches([example], encoded)
        pieces = self.task.stream(batch, self.model)
        with self._kernels():
            while True:
                try:
                    with torch.inference_mode(), self.arithmetic():  # not while the caller has the piece
                        piece = next(pieces)
                except StopIteration as end:
                    return bool(end.value)
                yield piece

    def generating(self, options: Mapping[str, Any]) -> Predictor:
        """Return a predictor of the same model that generates with other `options`, such as ``max_new_tokens``.

        Raises:
            ConfigError: there is no such option, it cannot act, a value is not allowed, or the task does not generate.
        """
        current = getattr(self.task, "generate", None)
        if not isinstance(current, Generation):
            raise ConfigError(f"task={self.task.name} generates no text: it has no {', '.join(options)} to set")
        generate = checked(type(current), {**asdict(current), **options}, "generate")
        if "at" in options:
            raise ConfigError("generate.at says when a run generates while it lasts; this one has ended: leave it out")
        if idle := [name for name in generate.idle() if name in options]:
            raise ConfigError(
                f"generate.{idle[0]}={options[idle[0]]} acts only where texts are sampled, and these are searched for: "
                "set generate.do_sample=true too, or leave it out"
            )
        task = copy(self.task)
        vars(task)["generate"] = generate
        return replace(self, task=task, initial=lambda: self._reference)

    def read(self, one: Any, door: Door | None = None) -> Any:
        """Return the example in one object, see `answers`.

        Raises:
            DataError: it is none.
        """
        return self.example(self.entries(one, door), "text:0")

    def entries(self, one: Any, door: Door | None = None) -> dict[str, Any]:
        """Return one object, see `answers`, as the entries that its answer stands beside.

        Raises:
            DataError: it is none.
        """
        admitted = _admitted(one, door or Door(), self.masks)
        if isinstance(admitted, DataError):
            raise admitted
        return admitted

    def example(self, entries: Mapping[str, Any], id: str) -> Any:
        """Return the example in an object, which must have the form of the training data.

        Raises:
            DataError: it does not; says what is expected.
        """
        return self.task.from_input(self.form.usual(entries), id)

    def _of_chunk(
        self, chunk: Sequence[tuple[int, dict[str, Any] | DataError]], lost: Counter[str]
    ) -> Iterator[Answer | Refused]:
        """Yield the answers to numbered objects, and add the counts of what the model does not see to `lost`."""
        answers: dict[int, Answer | Refused] = {}
        objects: dict[int, dict[str, Any]] = {}
        examples: dict[int, Any] = {}
        for number, one in chunk:
            if isinstance(one, DataError):
                answers[number] = Refused({}, one)
                continue
            objects[number] = one
            try:
                examples[number] = self.example(one, f"text:{number}")
            except DataError as error:
                answers[number] = Refused(one, error)
        try:
            answers |= zip(examples, self._answered(list(examples.values()), lost), strict=True)
        except DataError:  # one of them is bad, or they do not fit together: answer each by itself
            for number, example in examples.items():
                try:
                    (answers[number],) = self._answered([example], lost)
                except DataError as error:
                    answers[number] = Refused(objects[number], error)
        for number, _ in chunk:
            answer = answers[number]
            yield answer if isinstance(answer, Refused) else beside(objects[number], answer)

    def _answered(self, examples: Sequence[Any], lost: Counter[str]) -> list[Answer]:
        """Return the answer to each of `examples`.

        Raises:
            DataError: one of them cannot be encoded.
        """
        if not examples:
            return []
        encoded = self.task.encode(examples, self.processor, self.limits)
        answers = self.computed(examples, encoded)
        lost.update(self.task.all_lost(encoded))
        return answers

    def computed(self, examples: Sequence[Any], encoded: Encoded) -> list[Answer]:
        """Return the answer to each of `examples`, which are encoded as `encoded`."""
        compared = self.compared(examples, encoded)
        replies: dict[int, Answer] = {}
        with torch.inference_mode(), self.arithmetic():
            for indices, batch in self.batches(examples, compared):
                replies |= zip(indices, self.replies(batch), strict=True)
        return [replies[n] | self.task.lost(encoded, n) for n in range(len(examples))]

    def replies(self, batch: Batch) -> list[Answer]:
        """Return what the model's user gets for each example of `batch`, in the caller's arithmetic."""
        if self.scope is None:
            answers = self.task.answers_without_gold(batch, self.model)
            return list(map(self.task.reply, batch.examples, answers))
        answers, scores = self.scope.read(self.task, self.model, batch)
        verdicts = self.scope.verdicts(self.task.labels, answers, scores)
        if self.fallback is not None:
            for example, verdict in zip(batch.examples, verdicts, strict=True):
                if is_escalated(verdict):
                    verdict["fallback"] = self.fallback.answers(self.task.text_key(example))
        replies = map(self.task.reply, batch.examples, answers)
        return [reply | verdict for reply, verdict in zip(replies, verdicts, strict=True)]

    def compared(self, examples: Sequence[Any], encoded: Encoded) -> Encoded:
        """Return `encoded` with the reference values of a task that compares; without, if no example has weight."""
        if not self.task.refers or not self.task.weights(examples, encoded, range(len(examples))).any():
            return encoded
        values: dict[int, Any] = {}
        with torch.inference_mode(), self.arithmetic():
            for indices, batch in self.batches(examples, encoded):
                of_each = self.task.reference_by_example(self._reference, batch)
                values |= zip(indices, of_each, strict=True)
        return with_reference(encoded, values)

    @cached_property
    def _reference(self) -> nn.Module:
        """The model that training started from; it is loaded when a comparison first needs it, and then kept."""
        assert self.initial is not None
        return self.initial().eval().to(self.device)

    def batches(self, examples: Sequence[Any], encoded: Encoded) -> Iterator[tuple[list[int], Batch]]:
        """Yield the batches of encoded `examples`, longest first, on the device, each with the places of its own."""
        for indices in in_order_of_length(encoded.lengths, self.batch_size):
            batch = self.task.collate(examples, encoded, indices)
            yield indices, (batch if self.static is None else self.static.padded(batch)).to(self.device)

    @property
    def limits(self) -> Limits:
        """Return what limits the rows of an example."""
        return Limits(self.max_tokens, self.long)

    def _warn(self, lost: Mapping[str, int], door: Door) -> None:
        """Log how much of the texts the model did not see, and which characters are invalid or unusual."""
        if text := ", ".join(f"{count:,} {what}" for what, count in lost.items() if count):
            log.warning("not seen of the input (data.max_tokens=%d): %s", self.max_tokens, text)
        if door.findings:
            log.warning("the texts have odd characters: %s", door.findings)

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Compute in this context as the run did: in its precision, with its kernels of attention."""
        dtype = AUTOCAST.get(self.precision)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None), self._kernels():
            yield

    @contextmanager
    def _kernels(self) -> Iterator[None]:
        with products(self.tf32), attention_kernels(self.cudnn_attention, self.static is not None):
            yield


def beside(entries: Mapping[str, Any], answer: Mapping[str, Any]) -> Answer:
    """Return the entries of an object and of its answer; if both have a key, the object's becomes ``given_KEY``."""
    names = {key: key for key in entries}
    for key in entries.keys() & answer.keys():
        while names[key] in {*entries, *answer}:
            names[key] = f"given_{names[key]}"
    return {names[key]: value for key, value in entries.items()} | dict(answer)


def _admitted(one: Any, door: Door, masks: Sequence[Masker]) -> dict[str, Any] | DataError:
    """Return the input as an object whose texts are valid Unicode, and masked if they are to be; or an error."""
    admitted = _as_object(one, door)
    counts = Counter[str]()
    try:
        for mask in masks if isinstance(admitted, dict) else ():
            admitted, found = mask.object(admitted)
            counts.update(found)
    except DataError as error:
        return error
    return beside(admitted, {"masked": dict(counts)}) if isinstance(admitted, dict) and counts else admitted


def _as_object(one: Any, door: Door) -> dict[str, Any] | DataError:
    if isinstance(one, Mapping):
        admitted: dict[str, Any] = door.value(dict(one))
        return admitted
    if isinstance(one, str):
        return {"text": door(one)}
    if isinstance(one, Sequence) and not isinstance(one, bytes):
        are_messages = bool(one) and all(isinstance(part, Mapping) for part in one)
        return {"messages" if are_messages else "words": door.value(list(one))}
    if isinstance(one, DataError):
        return one
    return DataError(f"is a {type(one).__name__}; expected a text, a list of words or of messages, or an object")
