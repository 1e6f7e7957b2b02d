"""The interface of a fine-tuning method: which weights it trains, and how it saves them. Plain PyTorch."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass, is_pydantic_dataclass
from pydantic.fields import FieldInfo
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftlab.errors import ConfigError, UserError
from peftlab.methods.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, plain_name, read_description, read_tensors
from peftlab.methods.factors import Factors
from peftlab.methods.fitting import Fitting, notes_on_the_base, without_copies
from peftlab.methods.labels import adapter_labels
from peftlab.models.quantizing import quantized_parameters
from peftlab.storage.tensors import load_into, save
from peftlab.tasks.networks.heads import Outputs

log = logging.getLogger("peftlab")

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))

BESIDE_THE_FUNCTION = "beside the function"
"""Marks a field, ``Annotated[float, BESIDE_THE_FUNCTION]``, that does not change what an adapter computes, or whose
effect its tensors' names and shapes show. An adapter only fits a method that agrees with it in all other fields."""

LARGEST = 2**16
"""The largest rank, bottleneck or number of virtual tokens: wider than any layer of the models fine-tuned here. A typo
beyond it would exhaust memory before any error could be raised."""


@plain_dataclass(frozen=True)
class MethodContext:
    """What a method may know about the model it is applied to."""

    head: tuple[str, ...]
    """Names of the modules of the task's head, e.g. ``classifier``, ``bert.pooler``; every method trains them. Empty
    for a language model, whose head is pretrained."""
    task_type: str | None
    """In the peft library's terms, e.g. ``TOKEN_CLS``; None where it has no term."""
    model_origin: str
    """Where the model came from, as the saved adapter states it."""
    outputs: Outputs = "text"
    """What the head computes outputs for."""
    added: tuple[str, ...] = ()
    """Names of modules that another method has inserted."""
    steps: int | None = None
    """Number of optimiser steps of the training; None before it is known."""
    labels: tuple[str, ...] = ()
    """The task's labels, in the order of the rows of the head's output layer; empty where unknown."""
    output: str = ""
    """Name of the head's output layer, e.g. ``classifier.out_proj``; empty where it has no linear one."""
    fresh: frozenset[str] = frozenset()
    """Names of the head's parameters that the pretrained weights lack."""
    of_texts: tuple[str, ...] = ()
    """Names of the logits that refer to whole texts, where those of `outputs` refer to less."""
    unrounded: Callable[[], nn.Module] | None = None
    """Loads the same model, before any method, without its weights being quantised; None: they are not."""
    mixed: Callable[..., Any] | None = None
    """`Task.mixed` of the task, which makes one model's outputs of those of several; None where unknown."""

    @property
    def not_adapted(self) -> tuple[str, ...]:
        """Names of the modules that do not belong to the backbone."""
        return self.head + self.added


@spec
class Method(ABC):
    """A way to fine-tune: after `apply`, ``requires_grad`` marks the parameters that are trained, counted and saved."""

    name: Annotated[str, BESIDE_THE_FUNCTION]
    """The method's name in the record and in folder names."""
    learning_rate: Annotated[float, BESIDE_THE_FUNCTION] = Field(gt=0)
    """A good peak learning rate for AdamW; the default of ``optimizer.lr``."""

    mergeable: ClassVar[bool] = False
    """Whether `merge` returns a plain model."""
    host_work: ClassVar[str | None] = "its class does not say that the host has no part in it (host_work)"
    """What the host does in every step of a training, see `Regularizer.host_work`; `after_step` counts. None: nothing,
    so that steps can be recorded as CUDA graphs."""
    rewrites: ClassVar[str | None] = None
    """What the method does to the weights of the backbone's linear layers beside reading them, so that they cannot be
    quantised. None: nothing."""

    needs_own_rows: ClassVar[str | None] = None
    """Why each text needs a row of its own; None: several may share one."""

    not_averaged: ClassVar[str | None] = "its class does not say that its weights can be averaged (not_averaged)"
    """Why the mean of what it trains, over models, is not that of what it does; None: it is, but for `factors`."""

    @property
    def virtual_tokens(self) -> int:
        """Number of positions that the method occupies before those of a text."""
        return 0

    @property
    def earlier(self) -> str | None:
        """The digest of the earlier adapter that `begin` loads; None: it loads none."""
        return None

    @abstractmethod
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        """Change `model` in place or wrap it, and freeze untrained weights; the forward's signature stays the same."""

    def learning_rate_factor(self, name: str) -> float:
        """Return the factor on the learning rate of the parameter `name`."""
        return 1.0

    def calibrate(self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> None:  # noqa: B027
        """Look at training `batches`, inputs of `model`, before training begins; not called when it resumes.

        `batches` are collated lazily.
        """

    def begin(self, model: nn.Module, context: MethodContext) -> list[str]:
        """Load what the method goes on from, before the training begins or resumes.

        Returns:
            the names of the head's tensors that stay unchanged, as `adopt` does.

        Raises:
            ConfigError: it does not fit; or it is gone.
        """
        return []

    def conclude(self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> None:  # noqa: B027
        """Look at training `batches`, inputs of the trained `model`, before it is saved; they are collated lazily."""

    def factors(self, model: nn.Module) -> list[Factors]:
        """Return the pairs among the tensors of `trained` that act as a product."""
        return []

    def penalty(self, model: nn.Module) -> Tensor | None:
        """Return a scalar to add to the loss of a training step, or None."""
        return None

    def after_step(self, model: nn.Module, step: int, context: MethodContext) -> None:  # noqa: B027
        """Act after optimiser step `step`, counted from 1; gradients are still set.

        State that the next step needs must be among `trained`, so that training can resume.
        """

    def after_average(self, model: nn.Module) -> None:  # noqa: B027
        """Restore what the method holds the weights to, where their average over steps has taken their place."""

    def trained(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint of `model` must hold: trainable parameters and changing buffers."""
        return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

    def saved(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the tensors of `model` that make up its adapter, by their names in the file."""
        return self.trained(model)

    def written(self, model: nn.Module) -> dict[str, Tensor]:
        """Return all tensors that `save` writes."""
        return self.saved(model)

    def count(self, model: nn.Module) -> dict[str, int]:
        """Return the numbers of trainable and of all parameters, quantised weights included."""
        parameters = list(model.parameters())
        return {
            "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
            "total_parameters": sum(p.numel() for p in parameters) + quantized_parameters(model),
        }

    def save(self, model: nn.Module, folder: Path, context: MethodContext) -> int:
        """Write the trained tensors, head included, to `folder`: safetensors, and a JSON file that describes them.

        Returns:
            the size of the tensor files in bytes.
        """
        save(self.saved(model), folder / ADAPTER_WEIGHTS)
        description = json.dumps(self.description(context), indent=2, default=str)
        (folder / ADAPTER_CONFIG).write_text(description + "\n", encoding="utf-8")
        return (folder / ADAPTER_WEIGHTS).stat().st_size

    def description(self, context: MethodContext) -> dict[str, Any]:
        """Return the content of an adapter's JSON file."""
        about = {"method": self.name, "base_model": context.model_origin, "head": list(context.head)}
        return {**about, "task_type": context.task_type, "options": self.settings}

    @property
    def settings(self) -> dict[str, Any]:
        """The options, by name, that affect what an adapter computes and that its tensors do not show."""
        return {key: value for key, value in vars(self).items() if self.decides(key, value)}

    def decides(self, option: str, value: Any) -> bool:
        """Return whether the `value` of an option affects what an adapter computes."""
        field = _fields(type(self)).get(option)
        return field is None or BESIDE_THE_FUNCTION not in field.metadata

    @property
    def defaults(self) -> dict[str, Any]:
        """The default values of the options that have one."""
        fields = _fields(type(self))
        return {name: f.get_default(call_default_factory=True) for name, f in fields.items() if not f.is_required()}

    def merge(self, model: nn.Module) -> PreTrainedModel:
        """Return a plain transformers model that computes the same as `model`, which may be consumed.

        Raises:
            UserError: no plain model can do that.
        """
        raise UserError(f"peft={self.name}: this method cannot be merged into a plain model; use the run as it is")

    def load(self, model: nn.Module, folder: Path) -> None:
        """Load the tensors that `save` wrote into `model`, to which the method has been applied.

        Raises:
            ValueError: the tensors in `folder` are not exactly those that this model trains.
        """
        load_into(self.saved(model), folder / ADAPTER_WEIGHTS)

    def adopt(self, model: nn.Module, folder: Path, context: MethodContext) -> list[str]:
        """Start from the adapter in `folder`, which another run or another program has trained.

        Rows of the head's output layer are matched by label name where the labels are known. Tensors that are not
        taken, and those taken on trust, are logged.

        Returns:
            the names of the head's tensors that `folder` lacks, or has for other labels: these stay unchanged.

        Raises:
            ConfigError: no adapter of this method with these options is there; nothing has been changed.
        """
        description = read_description(folder)
        self.check_description(description, model)
        stored = self.with_plain_head(model, without_copies(read_tensors(folder)), description, context)
        wanted = {name: tensor for name, tensor in self.saved(model).items() if plain_name(name) == name}
        fitting = Fitting(stored, wanted, context, description)
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
        notes = [*notes_on_the_base(description, context), *fitting.notes()]
        if unknown := self.unknown_options(description):
            notes.append(f"some of its options are not known here, and not taken: {', '.join(unknown)}")
        notes += fitting.take_output(adapter_labels(folder) or None, description, folder)  # a regression has none
        fitting.take_the_rest()
        for note in notes:
            log.info("adapter: %s", note)
        return fitting.kept

    def with_plain_head(
        self, model: nn.Module, stored: dict[str, Tensor], description: Mapping[str, Any], context: MethodContext
    ) -> dict[str, Tensor]:
        """Return the tensors of an adapter's file with the head in the form of the plain model.

        Raises:
            ConfigError: the file has the head in a form that cannot be converted.
        """
        return stored

    def check_description(self, description: Mapping[str, Any], model: nn.Module) -> None:
        """Check the description in an adapter's JSON file.

        Raises:
            ConfigError: it is not of this method with these options.
        """
        theirs, kind = description.get("method") or description.get("peft_type"), self.kind(model)
        if theirs != kind:
            mine = f"this is peft={self.name}" if kind == self.name else f"peft={self.name} is {kind}"
            raise ConfigError(f"adapter: it is of the method {theirs}, and {mine}")
        if differ := self.other_options(description, model):
            raise ConfigError(f"adapter: it was trained with other options; set {' '.join(differ)}")

    def other_options(self, description: Mapping[str, Any], model: nn.Module) -> list[str]:
        """Return the overrides that give this method the options in an adapter's description."""
        options = description.get("options", {})
        if not isinstance(options, dict):
            raise ConfigError(f"adapter: its {ADAPTER_CONFIG} is damaged: its options are not a mapping")
        return self.differing(options)

    def differing(self, options: Mapping[str, Any], path: str = "peft.") -> list[str]:
        """Return the overrides, with keys that begin with `path`, that give this method the `options` of an adapter.

        An option missing from them did not exist when the adapter was made, and has its default.
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
        """Return the name of the method in the JSON file of an adapter of `model`."""
        return self.name


def _fields(cls: type) -> Mapping[str, FieldInfo]:
    assert is_pydantic_dataclass(cls)
    return cls.__pydantic_fields__


def as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as they read back from a JSON file."""
    plain: dict[str, Any] = json.loads(
        json.dumps(dict(options), default=lambda value: sorted(value) if isinstance(value, set) else str(value))
    )
    return plain
