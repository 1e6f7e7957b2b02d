"""What a fine-tuning method is: which weights are trained, and how they are saved. Plain PyTorch."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftlab.errors import ConfigError, UserError
from peftlab.tensor_files import load_into, save

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))

_BESIDE_THE_FUNCTION = re.compile(r"^(name|learning_rate|layers|target|peft_type)$|dropout|init|_std$")
"""Fields of a method that do not say what an adapter computes beside what its tensors' names and shapes say."""

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


@plain_dataclass(frozen=True)
class MethodContext:
    """What a method may know of the model it is applied to."""

    head: tuple[str, ...]
    """Names of the modules of the task's head, e.g. ``classifier``, ``bert.pooler``; every method trains them."""
    task_type: str
    """In the peft library's terms, e.g. ``TOKEN_CLS``."""
    model_origin: str
    """Where the model came from, for the saved adapter."""
    added: tuple[str, ...] = ()
    """Names of modules that another method has put in."""
    steps: int | None = None
    """How many optimiser steps the training takes; None before it is known."""

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

    name: str
    """Of the method, in the record and in the names of folders."""
    learning_rate: float = Field(gt=0)
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
        return {**about, "options": self.settings}

    @property
    def settings(self) -> dict[str, Any]:
        """The options, by name, that say what an adapter computes beside what its tensors' names and shapes say."""
        return {key: value for key, value in vars(self).items() if not _BESIDE_THE_FUNCTION.search(key)}

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

        Returns:
            the names of the head's tensors that `folder` lacks, or has for other labels: these stay as they are.

        Raises:
            ConfigError: there is none, or none of this method with these options; nothing has been changed.
        """
        self.check_description(_description(folder), model)
        if not (folder / ADAPTER_WEIGHTS).is_file():
            raise ConfigError(f"adapter = '{folder}': there is no {ADAPTER_WEIGHTS}; other formats are not read")
        stored, wanted = load_file(folder / ADAPTER_WEIGHTS), self.saved(model)
        misfits = {
            name
            for name in stored.keys() | wanted.keys()
            if name not in stored or name not in wanted or stored[name].shape != wanted[name].shape
        }
        own = sorted(name for name in misfits if not is_of_head(name, context.head))
        if own:
            where = "only in the model" if own[0] not in stored else "only in the file"
            if own[0] in stored and own[0] in wanted:
                where = f"{tuple(stored[own[0]].shape)} in the file, {tuple(wanted[own[0]].shape)} in the model"
            raise ConfigError(
                f"adapter = '{folder}': {len(own)} of its tensors do not fit peft={self.name} on this model, first "
                f"{own[0]}, {where}; set the options of peft as the adapter was trained with, above all which modules"
            )
        for name in wanted.keys() - misfits:
            wanted[name].data.copy_(stored[name])
        return sorted(misfits & wanted.keys())

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
        own = json.loads(json.dumps(self.settings, default=str))
        options = description.get("options", {})
        return [f"peft.{key}={json.dumps(value)}" for key, value in options.items() if own.get(key) != value]

    def kind(self, model: nn.Module) -> str:
        """Return what an adapter of `model` calls the method in its JSON file."""
        return self.name


def _description(folder: Path) -> dict[str, Any]:
    try:
        description: dict[str, Any] = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"adapter = '{folder}': no adapter can be read there ({error}). It is a folder with {ADAPTER_CONFIG} and "
            f"{ADAPTER_WEIGHTS}, as the peft library's save_pretrained writes it, or a run has it below adapter/"
        ) from error
    return description
