"""Applies the augmentations of a run to its training examples, and counts what they change."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peftlab.data.augmentation.augmentation import Augmentation, Material
from peftlab.errors import ConfigError, UserError
from peftlab.tasks.inputs.editable import EditableText
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded, Task

COUNTED = 20_000
"""The most examples whose changes are counted before a run begins; they take a few seconds."""

_COMPARED = 64
"""Number of changed examples that are encoded to see whether the model can tell."""


def stream_of(seed: int, epoch: int, example: str, augmentation: str) -> np.random.Generator:
    """Return the generator of one augmentation of one example, by its id, in one epoch.

    It depends on nothing else: an augmented example is the same on any number of devices, in any batch, when the run is
    resumed, and with other augmentations before it.
    """
    digest = hashlib.blake2b(f"{augmentation}\x1f{example}".encode(errors="surrogatepass"), digest_size=16).digest()
    return np.random.default_rng([seed, epoch, 2, int.from_bytes(digest)])


class Augmenter:
    """Augments the training examples of a run, anew in every epoch.

    Args:
        augmentations: by name, in the order in which they act.
        task: the task of the examples.
        processor: encodes them.
        limits: the length limit of their rows.
        seed: the seed of the run.
        embeddings: returns the model's input embeddings, shape (vocabulary, features).
        section: the section of the configuration that names the augmentations, for messages.
    """

    def __init__(
        self,
        augmentations: Mapping[str, Augmentation],
        task: Task,
        processor: Processor,
        limits: Limits,
        seed: int,
        embeddings: Callable[[], np.ndarray],
        section: str = "augment",
    ) -> None:
        self.section = section
        self.augmentations, self.task, self.seed = dict(augmentations), task, seed
        self.processor, self.limits, self.embeddings = processor, limits, embeddings
        self.counts: dict[str, Any] = {}
        """The counts of `prepare`, for the record."""

    def prepare(self, examples: Sequence[Any]) -> None:
        """Prepare every augmentation for the training `examples`, and count what changes in the first epoch.

        Raises:
            ConfigError: the task's examples cannot be edited, or an augmentation changes none of them.
        """
        for example in examples[:1]:
            self.task.editable(example)  # refuses here, before an augmentation asks for a tokenizer, say
        material = Material(_Texts(self.task, examples), self.processor, self.embeddings)
        for name, augmentation in self.augmentations.items():
            try:
                augmentation.prepare(material)
            except UserError as error:
                raise type(error)(f"{self.section}.{name}: {error}") from error
        self.counts = self._count(examples[:COUNTED])

    def resolved(self) -> dict[str, dict[str, Any]]:
        """Return, by augmentation, the options of the configuration that `prepare` has made definite."""
        return {name: augmentation.resolved() for name, augmentation in self.augmentations.items()}

    def example(self, example: Any, epoch: int) -> Any:
        """Return `example` as it is in `epoch`; the same object if nothing in it changes."""
        *_, last = self._course(example, epoch)
        return last

    def encode(self, examples: Sequence[Any]) -> Encoded:
        """Return augmented `examples`, encoded as the training split is."""
        return self.task.encode(examples, self.processor, self.limits)

    def _course(self, example: Any, epoch: int) -> Iterator[Any]:
        """Yield `example`, and what each augmentation makes of it in turn."""
        yield example
        for name, augmentation in self.augmentations.items():
            random = stream_of(self.seed, epoch, example.id, name)
            if random.random() < augmentation.share:
                example = self._edited(example, augmentation, random)
            yield example

    def _edited(self, example: Any, augmentation: Augmentation, random: np.random.Generator) -> Any:
        texts = self.task.editable(example)
        edited = augmentation.edit_all(texts, random)
        changed = any(new is not old for new, old in zip(edited, texts, strict=True))
        return self.task.edited(example, edited) if changed else example

    def _count(self, examples: Sequence[Any]) -> dict[str, Any]:
        """Return how many `examples`, and how many of their words, each augmentation changes in the first epoch.

        Raises:
            ConfigError: it changes none, or only what the tokenizer does not distinguish.
        """
        pairs: dict[str, list[tuple[Any, Any]]] = {name: [] for name in self.augmentations}
        words = Counter[str]()
        for example in examples:
            course = list(self._course(example, 0))
            for name, before, after in zip(self.augmentations, course, course[1:], strict=False):
                if after is not before:
                    pairs[name].append((before, after))
                    words[name] += self._changed_words(before, after)
        for name, changed in pairs.items():
            self._check_effect(name, changed, examples)
        counts = {name: {"examples": len(pairs[name]), "words": words[name]} for name in pairs}
        return {"counted_examples": len(examples), **counts}

    def _changed_words(self, before: Any, after: Any) -> int:
        return sum(map(_difference, self.task.editable(before), self.task.editable(after)))

    def _check_effect(self, name: str, changed: Sequence[tuple[Any, Any]], examples: Sequence[Any]) -> None:
        augmentation, key = self.augmentations[name], f"{self.section}.{name}"
        if not changed:  # a small share of few examples may be none in one epoch
            random = stream_of(self.seed, 0, "", name)
            changed = [
                (example, after)
                for example in examples
                if (after := self._edited(example, augmentation, random)) is not example
            ]
        if not changed:
            raise ConfigError(f"{key}: no effect: no training text has {augmentation.needs}. Leave it out")
        first, second = (self.encode(list(part)).arrays for part in zip(*changed[:_COMPARED], strict=True))
        if all(np.array_equal(first[key], second[key]) for key in first):
            raise ConfigError(
                f"{key}: no effect: the model's tokenizer makes the same tokens of the edited texts (some "
                "turn capitals into small letters). Leave it out"
            )


@dataclass(frozen=True)
class _Texts:
    """The texts of examples, read off them again in every iteration: they take more memory than the examples."""

    task: Task
    examples: Sequence[Any]

    def __iter__(self) -> Iterator[EditableText]:
        for example in self.examples:
            yield from self.task.editable(example)


def _difference(before: EditableText, after: EditableText) -> int:
    """Return the number of words that differ: by position if both texts have as many, else those added or removed."""
    if len(before.words) == len(after.words):
        return sum(map(str.__ne__, before.words, after.words))
    old, new = Counter(before.words), Counter(after.words)
    return max((new - old).total(), (old - new).total())
