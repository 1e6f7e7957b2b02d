"""What a fine-tuning method is: which weights are trained, and how they are saved. Plain PyTorch."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass, is_pydantic_dataclass
from pydantic.fields import FieldInfo
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftlab.errors import ConfigError, UserError
from peftlab.methods.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_description, read_tensors
from peftlab.methods.labels import Matched, adapter_labels, match, shown
from peftlab.storage.tensors import is_of_another_kind, load_into, save
from peftlab.tasks.heads import Outputs

log = logging.getLogger("peftlab")

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))

BESIDE_THE_FUNCTION = "beside the function"
"""Marks a field, ``Annotated[float, BESIDE_THE_FUNCTION]``, that does not say what an adapter computes beside what its
tensors' names and shapes say. An adapter only fits a method that agrees with it in all the other fields."""

LARGEST = 2**16
"""Of a rank, a bottleneck, a number of virtual tokens: wider than any layer of the models that are fine-tuned here. A
slip of the keyboard beyond it would take all memory before anything could be said."""


@plain_dataclass(frozen=True)
class MethodContext:
    """What a method may know of the model it is applied to."""

    head: tuple[str, ...]
    """Names of the modules of the task's head, e.g. ``classifier``, ``bert.pooler``; every method trains them. None of
    a language model's, which is pretrained."""
    task_type: str | None
    """In the peft library's terms, e.g. ``TOKEN_CLS``; None where it has none."""
    model_origin: str
    """Where the model came from, for the saved adapter."""
    outputs: Outputs = "text"
    """What the head gives numbers for."""
    added: tuple[str, ...] = ()
    """Names of modules that another method has put in."""
    steps: int | None = None
    """How many optimiser steps the training takes; None before it is known."""
    labels: tuple[str, ...] = ()
    """Of the task, in the order of the rows of the head's output layer; none where they are not known."""
    output: str = ""
    """Name of the head's output layer, e.g. ``classifier.out_proj``; empty where the head has no linear one."""
    fresh: frozenset[str] = frozenset()
    """Names of the head's parameters that the pretrained weights lack."""

    @property
    def not_adapted(self) -> tuple[str, ...]:
        """Names of the modules that are not the backbone's own."""
        return self.head + self.added


def is_of_head(name: str, head: Iterable[str]) -> bool:
    """Return whether a module or parameter is one of the head's, whatever a method has wrapped around either."""
    return any(f".{module}." in f".{name}." for module in head)


@spec
class Method(ABC):
    """A way to fine-tune: `apply` it, and ``requires_grad`` says what is trained, counted and saved."""

    name: Annotated[str, BESIDE_THE_FUNCTION]
    """Of the method, in the record and in the names of folders."""
    learning_rate: Annotated[float, BESIDE_THE_FUNCTION] = Field(gt=0)
    """A good highest learning rate for AdamW; the default of ``optimizer.lr``."""

    mergeable: ClassVar[bool] = False
    """Whether `merge` gives a plain model."""

    @property
    def virtual_tokens(self) -> int:
        """How many positions of the model the method takes before those of a text."""
        return 0

    @abstractmethod
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Change `model` in place or wrap it; freeze what is not trained. Its forward keeps its signature."""

    def learning_rate_factor(self, name: str) -> float:
        """Return by what the learning rate of the parameter `name` is multiplied."""
        return 1.0

    def calibrate(self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> None:  # noqa: B027
        """Look at training `batches`, inputs of `model`, before a training begins; not when it is resumed.

        `batches` are made as they are asked for.
        """

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return what is added to the loss of a training step, a scalar."""
        return None

    def after_step(self, model: nn.Module, step: int, context: MethodContext) -> None:  # noqa: B027
        """Do what is due after optimiser step `step`, the first being 1; gradients are still there.

        What it keeps for the next step must be among `trained`, so that a training can be resumed.
        """

    def trained(self, model: nn.Module) -> dict[str, Tensor]:
        """Return what a checkpoint of `model` must hold: every trainable parameter, and buffers that change."""
        return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

    def saved(self, model: nn.Module) -> dict[str, Tensor]:
        """Return what the adapter of `model` is saved as: tensors of the model, by their names in the file."""
        return self.trained(model)

    def written(self, model: nn.Module) -> dict[str, Tensor]:
        """Return all the tensors that `save` writes."""
        return self.saved(model)

    def count(self, model: nn.Module) -> dict[str, int]:
        """Return the numbers of trainable and of all parameters."""
        parameters = list(model.parameters())
        return {
            "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
            "total_parameters": sum(p.numel() for p in parameters),
        }

    def save(self, model: nn.Module, folder: Path, context: MethodContext) -> int:
        """Write what was trained, head included, to `folder`: safetensors, and a JSON file that says what it is.

        Returns:
            the size of the tensors' files in bytes.
        """
        save(self.saved(model), folder / ADAPTER_WEIGHTS)
        description = json.dumps(self.description(context), indent=2, default=str)
        (folder / ADAPTER_CONFIG).write_text(description + "\n", encoding="utf-8")
        return (folder / ADAPTER_WEIGHTS).stat().st_size

    def description(self, context: MethodContext) -> dict[str, Any]:
        """Return what an adapter says of itself in its JSON file."""
        about = {"method": self.name, "base_model": context.model_origin, "head": list(context.head)}
        return {**about, "task_type": context.task_type, "options": self.settings}

    @property
    def settings(self) -> dict[str, Any]:
        """The options, by name, that say what an adapter computes beside what its tensors' names and shapes say."""
        return {key: value for key, value in vars(self).items() if self.decides(key, value)}

    def decides(self, option: str, value: Any) -> bool:
        """Return whether the `value` of an option says what an adapter computes."""
        field = _fields(type(self)).get(option)
        return field is None or BESIDE_THE_FUNCTION not in field.metadata

    @property
    def defaults(self) -> dict[str, Any]:
        """What the options are where nobody sets them, of those that have a default."""
        known = _fields(type(self))
        return {name: f.get_default(call_default_factory=True) for name, f in known.items() if not f.is_required()}

    def merge(self, model: nn.Module) -> PreTrainedModel:
        """Return a plain transformers model that computes what `model` does; `model` itself may be used up.

        Raises:
            UserError: no plain model can do that.
        """
        raise UserError(f"peft={self.name}: this method cannot be merged into a plain model; use the run as it is")

    def load(self, model: nn.Module, folder: Path) -> None:
        """Put what `save` wrote into `model`, to which the method has been applied.

        Raises:
            ValueError: the tensors in `folder` are not exactly those that this model trains.
        """
        load_into(self.saved(model), folder / ADAPTER_WEIGHTS)

    def adopt(self, model: nn.Module, folder: Path, context: MethodContext) -> list[str]:
        """Begin with an adapter that was trained elsewhere, by a run or by another program, and lies in `folder`.

        Rows of the head's output layer are matched by the names of their labels, as far as those are known. What of
        the file is not taken, and what is taken on trust, is logged.

        Returns:
            the names of the head's tensors that `folder` lacks, or has for other labels: these stay as they are.

        Raises:
            ConfigError: there is none, or none of this method with these options; nothing has been changed.
        """
        description = read_description(folder)
        self.check_description(description, model)
        stored = self.with_plain_head(model, _without_copies(read_tensors(folder)), description, context)
        wanted = {name: tensor for name, tensor in self.saved(model).items() if _once(name) == name}
        fitting = _Fitting(stored, wanted, context)
        if cast := fitting.cast():
            name = cast[0]
            raise ConfigError(
                f"adapter = '{folder}': {name} is of the type {stored[name].dtype}, and the model's is "
                f"{wanted[name].dtype}: it is not converted. Save the adapter in fp32, fp16 or bf16"
            )
        if odd := fitting.odd(dict(model.named_parameters())):
            raise ConfigError(
                f"adapter = '{folder}': {len(odd)} of its tensors do not fit peft={self.name} on this model, first "
                f"{odd[0]}, {fitting.where(odd[0])}; set the options of peft as the adapter was trained with, above "
                "all which modules"
            )
        notes = [*_notes_on_the_base(description, context), *fitting.notes()]
        if unknown := self.unknown_options(description):
            notes.append(f"options of it are not known here, and not taken: {', '.join(unknown)}")
        notes += fitting.take_output(adapter_labels(folder), description, folder)
        fitting.take_the_rest()
        for note in notes:
            log.info("adapter: %s", note)
        return fitting.kept

    def with_plain_head(
        self, model: nn.Module, stored: dict[str, Tensor], description: Mapping[str, Any], context: MethodContext
    ) -> dict[str, Tensor]:
        """Return the tensors of an adapter's file, in which the head is as the plain model has it.

        Raises:
            ConfigError: the file has it in another form, and it cannot be turned into this one.
        """
        return stored

    def check_description(self, description: Mapping[str, Any], model: nn.Module) -> None:
        """Check what an adapter says of itself in its JSON file.

        Raises:
            ConfigError: it is none of this method with these options.
        """
        found, kind = description.get("method") or description.get("peft_type"), self.kind(model)
        if found != kind:
            mine = f"this is peft={self.name}" if kind == self.name else f"peft={self.name} is {kind}"
            raise ConfigError(f"adapter: it is of the method {found}, and {mine}")
        if differ := self.other_options(description, model):
            raise ConfigError(f"adapter: it was trained with other options; set {' '.join(differ)}")

    def other_options(self, description: Mapping[str, Any], model: nn.Module) -> list[str]:
        """Return the overrides that make of this method the one that an adapter says it is of."""
        options = description.get("options", {})
        if not isinstance(options, dict):
            raise ConfigError(f"adapter: its {ADAPTER_CONFIG} is damaged: its options are no mapping")
        return self.differing(options)

    def differing(self, options: Mapping[str, Any], path: str = "peft.") -> list[str]:
        """Return the overrides, of keys that begin with `path`, that give this method the `options` of an adapter.

        An option that these lack was not there yet when the adapter was made, and has its default.
        """
        own, theirs = as_json(vars(self)), {**as_json(self.defaults), **options}
        return [
            f"{path}{key}={json.dumps(value)}"
            for key, value in theirs.items()
            if own.get(key) != value and (self.decides(key, value) or self.decides(key, own.get(key)))
        ]

    def unknown_options(self, description: Mapping[str, Any]) -> list[str]:
        """Return the options in an adapter's JSON file that this method does not have, with their values."""
        return []

    def kind(self, model: nn.Module) -> str:
        """Return what an adapter of `model` calls the method in its JSON file."""
        return self.name


def _fields(cls: type) -> Mapping[str, FieldInfo]:
    assert is_pydantic_dataclass(cls)
    return cls.__pydantic_fields__


def as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as a JSON file has them."""
    plain: dict[str, Any] = json.loads(
        json.dumps(dict(options), default=lambda value: sorted(value) if isinstance(value, set) else str(value))
    )
    return plain


class _Fitting:
    """The tensors of an adapter's file beside those of a model."""

    def __init__(self, stored: dict[str, Tensor], wanted: dict[str, Tensor], context: MethodContext) -> None:
        self.stored, self.wanted, self.context = stored, wanted, context
        self.output = [name for name in wanted if name in stored and context.output and self._is_output(name)]
        """Names of the output layer's tensors that are in both."""
        self.filled: set[str] = set()
        """Names of those whose rows have been taken."""
        self.kept: list[str] = []
        """Names of the head's tensors that stay as they are."""

    def odd(self, parameters: Mapping[str, Tensor]) -> list[str]:
        """Return the names of the tensors beside the head that are not in both with one shape.

        A frozen weight of the model may be in the file as well, where it is the same.
        """
        return sorted(
            name
            for name in self.stored.keys() | self.wanted.keys()
            if not self._fits(name) and not is_of_head(name, self.context.head)
            if name in self.wanted or not _is_same(self.stored[name], parameters.get(name))
        )

    def cast(self) -> list[str]:
        """Return the names of the tensors that would be other numbers in the type of the model's."""
        types = {
            name: (self.stored[name].dtype, self.wanted[name].dtype) for name in self.wanted if name in self.stored
        }
        return sorted(name for name, (stored, wanted) in types.items() if is_of_another_kind(stored, wanted))

    def where(self, name: str) -> str:
        """Say in what the tensor `name` does not fit."""
        if name not in self.stored:
            return "only in the model"
        if name not in self.wanted:
            return f"{tuple(self.stored[name].shape)}, only in the file"
        return f"{tuple(self.stored[name].shape)} in the file, {tuple(self.wanted[name].shape)} in the model"

    def notes(self) -> list[str]:
        """Return what is not taken as it is, a sentence each."""
        spare = sorted(name for name in self.stored.keys() - self.wanted.keys() if is_of_head(name, self.context.head))
        others = [
            name for name in self.wanted.keys() & self.stored.keys() if not (self._fits(name) or name in self.output)
        ]
        rounded = [name for name, tensor in self.stored.items() if tensor.dtype == torch.float64]
        notes = [f"its head has layers that this model's has not; not taken: {shown(spare)}"] if spare else []
        notes += [f"not taken: {name}, {self.where(name)}" for name in sorted(others)]
        return notes + ([f"{len(rounded)} of its tensors are in double precision, and are rounded"] if rounded else [])

    def take_output(self, labels: list[str] | None, description: Mapping[str, Any], folder: Path) -> list[str]:
        """Take the rows of the output layer whose labels are those of the run; return what the user should know.

        Raises:
            ConfigError: the labels are not as many as the rows; nothing has been changed.
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
        """Take all that fits and has not been taken."""
        rest = self.wanted.keys() - self.filled - {*self.kept}
        for name in rest:
            if self._fits(name):
                self.wanted[name].data.copy_(self.stored[name])
        self.kept = sorted([*self.kept, *(name for name in rest if not self._fits(name))])

    def _fits(self, name: str) -> bool:
        stored, wanted = self.stored.get(name), self.wanted.get(name)
        return stored is not None and wanted is not None and stored.shape == wanted.shape

    def _is_output(self, name: str) -> bool:
        """Return whether `name` is of the output layer, and the file's differs in the number of rows at most."""
        same_rows = self.stored[name].shape[1:] == self.wanted[name].shape[1:] and self.stored[name].ndim > 0
        return is_of_head(name, (self.context.output,)) and same_rows


def _is_same(stored: Tensor, own: Tensor | None) -> bool:
    return own is not None and own.shape == stored.shape and torch.equal(stored.to(own), own)


def _once(name: str) -> str:
    """Return the first name of a tensor that the peft library saves under several.

    With ``bias=all`` it saves the biases of the head three times: those of its spare, untrained copy of it, too.
    """
    return (
        name.replace(".original_module.", ".")
        .replace(".modules_to_save.default.", ".")
        .replace(".modules_to_save.", ".")
    )


def _is_of_another_kind(description: Mapping[str, Any], context: MethodContext) -> bool:
    """Return whether the head of an adapter is for another kind of task, such as labels of texts for those of words."""
    return description.get("task_type") not in (None, context.task_type)


def _notes_on_the_base(description: Mapping[str, Any], context: MethodContext) -> list[str]:
    theirs = description.get("base_model_name_or_path") or description.get("base_model")
    if not theirs or _plain_origin(theirs) == _plain_origin(context.model_origin):
        return []
    return [
        f"it was trained on the model '{theirs}', and this run's is '{context.model_origin}': unless their weights are "
        "the same, it does not compute what it did"
    ]


def _plain_origin(origin: Any) -> str:
    """Return where a model came from as other programs write it: its folder, or the repository without a commit."""
    kind, _, name = str(origin).partition(":")
    return {"hub": name.partition("@")[0], "files": name}.get(kind, str(origin))


def _without_copies(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an adapter without the library's second copies of some."""
    return {name: tensor for name, tensor in stored.items() if _once(name) == name or _once(name) not in stored}
