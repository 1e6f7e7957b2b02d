"""Examples that are none of the classes: taken out of a data set before its labels are learnt, to be tested apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from peftlab.data.named_files import NamedFile
from peftlab.data.text_lines import texts_in
from peftlab.data.views import chosen, mapped
from peftlab.errors import ConfigError, DataError, did_you_mean
from peftlab.reading.unicode_text import Door
from peftlab.tasks.task import Task

LABELLED, LABELLED_VALIDATION, NEAR, FAR = "labelled", "labelled_validation", "near", "far"
"""The sets of such examples: those with the label for them, of the test and of the validation split; the test examples
with labels that are held out; and texts of a file that have nothing to do with the task."""


@dataclass
class Aside:
    """Which examples are none of the classes."""

    label: str | None
    """The label of such examples; None: there is none."""
    held_out: tuple[str, ...] | int
    """Labels that the training is not to know, or how many of them are drawn."""
    seed: int
    """Draws them."""
    far: NamedFile | None = None
    """A file of texts that have nothing to do with the task."""
    names: tuple[str, ...] = field(default=(), init=False)
    """The labels that are held out, once the data is read."""

    @property
    def acts(self) -> bool:
        """Whether there may be such examples."""
        return self.label is not None or bool(self.held_out)

    def divide(
        self, splits: Mapping[str, Sequence[Any]], task: Task
    ) -> tuple[dict[str, Sequence[Any]], dict[str, Sequence[Any]]]:
        """Return the splits without such examples, and these by the name of their set.

        Training examples of this kind, and validation examples with labels that are held out, are in no set.

        Raises:
            DataError: no example has the label, there is no such label to hold out, or less than two are left.
        """
        occurring = {split: set(mapped(members, task.gold)) - {None} for split, members in splits.items()}
        everywhere = {str(gold) for golds in occurring.values() for gold in golds}
        if self.label is not None and self.label not in everywhere:
            raise DataError(
                f"out_of_scope.label: no example has the label '{self.label}'.{did_you_mean(self.label, everywhere)}"
            )
        self.names = self._held_out(occurring["train"] - {self.label})
        inside, apart = self.divided(splits, task)
        return inside, {name: apart[name] for name in (LABELLED, LABELLED_VALIDATION, NEAR) if name in apart}

    def divided(
        self, splits: Mapping[str, Sequence[Any]], task: Task
    ) -> tuple[dict[str, Sequence[Any]], dict[str, Sequence[Any]]]:
        """Return the splits without examples of no class, which there need not be, and these by kind and split."""
        inside, apart = dict[str, Sequence[Any]](), dict[str, Sequence[Any]]()
        for split, members in splits.items():
            kinds = np.asarray([self._kind(gold) for gold in mapped(members, task.gold)])
            inside[split] = chosen(members, np.flatnonzero(kinds == ""))
            for kind in (LABELLED, NEAR):
                if (places := np.flatnonzero(kinds == kind)).size:
                    apart[kind if split == "test" else f"{kind}_{split}"] = chosen(members, places)
        return inside, apart

    def _kind(self, gold: Any) -> str:
        return "" if gold is None else LABELLED if gold == self.label else NEAR if gold in self.names else ""

    def far_texts(self, task: Task, format: Any) -> list[Any]:
        """Return the texts of the file `far`; none without it.

        Raises:
            ConfigError: the file is of another kind, or has changed since the run began with it.
            DataError: a line holds no text for the task, or none does.
        """
        if self.far is None:
            return []
        if (path := self.far.path).suffix not in (".txt", ".jsonl"):
            raise ConfigError(
                f"out_of_scope.far = '{path}': expected a .txt file, a text a line, or .jsonl, an object a line"
            )
        self.far.read("out_of_scope.far")
        texts = [text.mapped(Door()) for text in texts_in(path, task, format, FAR)]
        if not texts:
            raise DataError(f"{path}: the file holds no text. Expected one a line")
        return texts

    def declared(self, labels: Sequence[str] | None) -> list[str] | None:
        """Return the declared labels that are classes."""
        return None if labels is None else [name for name in labels if name not in {self.label, *self.names}]

    def _held_out(self, labels: set[str]) -> tuple[str, ...]:
        number = self.held_out if isinstance(self.held_out, int) else len(self.held_out)
        if len(labels) - number < 2:
            raise DataError(
                f"out_of_scope.held_out: of {len(labels)} labels in the training split {number} are held out, and a "
                "classifier needs two or more. Hold out fewer"
            )
        if isinstance(self.held_out, int):
            drawn = np.random.default_rng([self.seed, len(labels)]).choice(sorted(labels), number, replace=False)
            return tuple(sorted(map(str, drawn)))
        if missing := [name for name in self.held_out if name not in labels]:
            raise DataError(
                f"out_of_scope.held_out: no training example has the label '{missing[0]}'."
                f"{did_you_mean(missing[0], labels)}"
            )
        return tuple(sorted(self.held_out))
