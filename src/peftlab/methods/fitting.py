"""Compares the tensors of an adapter's file with those of a model, and takes what fits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from peftlab.errors import ConfigError
from peftlab.methods.adapter_files import plain_name
from peftlab.methods.head import is_of_head
from peftlab.methods.labels import Matched, match, shown
from peftlab.storage.tensors import is_of_another_kind


class Context(Protocol):
    """What is known of the model, see `peftlab.methods.method.MethodContext`."""

    @property
    def head(self) -> tuple[str, ...]:
        """Names of the modules of the head."""

    @property
    def task_type(self) -> str | None:
        """The kind of its task."""

    @property
    def model_origin(self) -> str:
        """Where the model came from."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The task's labels."""

    @property
    def output(self) -> str:
        """Name of the head's output layer."""


class Fitting:
    """The tensors of an adapter's file, compared with those of a model."""

    def __init__(
        self,
        stored: dict[str, Tensor],
        wanted: dict[str, Tensor],
        context: Context,
        description: Mapping[str, Any],
    ) -> None:
        self.stored, self.wanted, self.context = stored, wanted, context
        theirs = description.get("modules_to_save")
        is_of_another_task = description.get("task_type") != context.task_type
        self.theirs = tuple(map(str, theirs)) if is_of_another_task and isinstance(theirs, list) else ()
        """Names of the modules of its head if that is for another kind of task, where it may be called otherwise."""
        self.output = [name for name in wanted if name in stored and context.output and self._is_output(name)]
        """Names of the output layer's tensors that are in both."""
        self.filled: set[str] = set()
        """Names of the output tensors whose rows have been taken."""
        self.kept: list[str] = []
        """Names of the head's tensors that stay unchanged."""

    def odd(self, parameters: Mapping[str, Tensor]) -> list[str]:
        """Return the names of the tensors outside the head that are not in both with the same shape.

        The file may also hold a frozen weight of the model with the same values, and a head that the model has not.
        """
        return sorted(
            name
            for name in self.stored.keys() | self.wanted.keys()
            if not self._fits(name) and not is_of_head(name, self.context.head)
            if name in self.wanted or not _is_same(self.stored[name], parameters.get(name))
            if name in self.wanted or name in parameters or not is_of_head(name, self.theirs)
        )

    def cast(self) -> list[str]:
        """Return the names of the tensors whose values would change in the dtype of the model's."""
        types = {
            name: (self.stored[name].dtype, self.wanted[name].dtype) for name in self.wanted if name in self.stored
        }
        return sorted(name for name, (stored, wanted) in types.items() if is_of_another_kind(stored, wanted))

    def where(self, name: str) -> str:
        """Describe how the tensor `name` does not fit."""
        if name not in self.stored:
            return "only in the model"
        if name not in self.wanted:
            return f"{tuple(self.stored[name].shape)}, only in the file"
        return f"{tuple(self.stored[name].shape)} in the file, {tuple(self.wanted[name].shape)} in the model"

    def notes(self) -> list[str]:
        """Return a sentence on each group of tensors that are dropped or rounded."""
        heads = (*self.context.head, *self.theirs)
        spare = sorted(name for name in self.stored.keys() - self.wanted.keys() if is_of_head(name, heads))
        others = [
            name for name in self.wanted.keys() & self.stored.keys() if not (self._fits(name) or name in self.output)
        ]
        rounded = [name for name, tensor in self.stored.items() if tensor.dtype == torch.float64]
        notes = [f"its head has layers that this model's has not; not taken: {shown(spare)}"] if spare else []
        notes += [f"not taken: {name}, {self.where(name)}" for name in sorted(others)]
        return notes + ([f"{len(rounded)} of its tensors are in double precision, and are rounded"] if rounded else [])

    def take_output(self, labels: list[str] | None, description: Mapping[str, Any], folder: Path) -> list[str]:
        """Take the rows of the output layer for the run's labels; return notes for the user.

        Raises:
            ConfigError: the numbers of labels and rows differ; nothing has been changed.
        """
        if not self.output:
            return []
        count, own = len(self.stored[self.output[0]]), self.context.labels
        if labels is not None and len(labels) != count:
            raise ConfigError(f"adapter = '{folder}': it names {len(labels)} labels, and its head has {count} rows")
        if _is_of_another_kind(description, self.context):
            matched = Matched({}, own, ())
            notes = [
                f"its head is for {description['task_type']}, and this run's for {self.context.task_type}; not taken"
            ]
        elif own:
            matched, notes = match(own, labels, count)
        else:
            return []
        if not matched.rows:
            self.kept += self.output
            return notes
        for name in self.output:
            matched.fill(self.wanted[name], self.stored[name])
        self.filled.update(self.output)
        return notes

    def take_the_rest(self) -> None:
        """Take every remaining tensor that fits."""
        rest = self.wanted.keys() - self.filled - {*self.kept}
        for name in rest:
            if self._fits(name):
                self.wanted[name].data.copy_(self.stored[name])
        self.kept = sorted([*self.kept, *(name for name in rest if not self._fits(name))])

    def _fits(self, name: str) -> bool:
        stored, wanted = self.stored.get(name), self.wanted.get(name)
        return stored is not None and wanted is not None and stored.shape == wanted.shape

    def _is_output(self, name: str) -> bool:
        """Return whether `name` is of the output layer and at most the number of rows differs in the file."""
        same_rows = self.stored[name].shape[1:] == self.wanted[name].shape[1:] and self.stored[name].ndim > 0
        return is_of_head(name, (self.context.output,)) and same_rows


def _is_same(stored: Tensor, own: Tensor | None) -> bool:
    return own is not None and own.shape == stored.shape and torch.equal(stored.to(own), own)


def _is_of_another_kind(description: Mapping[str, Any], context: Context) -> bool:
    """Return whether the head of an adapter is for another kind of task, such as labels of texts instead of words."""
    return description.get("task_type") not in (None, context.task_type)


def notes_on_the_base(description: Mapping[str, Any], context: Context) -> list[str]:
    """Return a sentence for the user if an adapter was trained on another model."""
    theirs = description.get("base_model_name_or_path") or description.get("base_model")
    if not theirs or _plain_origin(theirs) == _plain_origin(context.model_origin):
        return []
    return [
        f"it was trained on the model '{theirs}', and this run's is '{context.model_origin}': unless their weights are "
        "the same, it computes something else"
    ]


def _plain_origin(origin: Any) -> str:
    """Return a model's origin as other programs write it: its folder, or the repository without a commit."""
    kind, _, name = str(origin).partition(":")
    return {"hub": name.partition("@")[0], "files": name}.get(kind, str(origin))


def without_copies(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an adapter without the copies that the library saves of some."""
    return {
        name: tensor for name, tensor in stored.items() if plain_name(name) == name or plain_name(name) not in stored
    }
