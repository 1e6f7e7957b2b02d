"""LoRA that goes on from earlier adapters: their updates are part of the model, frozen, beside the one that is trained.

The matrices A and B of a layer hold the earlier ranks first and the new ones last, so that an adapter's file is a plain
LoRA of all ranks together: complete by itself, and read by the peft library.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from peft.tuners.lora.layer import LoraLayer
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_description, read_tensors
from peftlab.methods.fitting import Fitting, without_copies
from peftlab.methods.head import is_of_head
from peftlab.methods.labels import adapter_labels
from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import BESIDE_THE_FUNCTION, LARGEST, MethodContext
from peftlab.runs.find import find
from peftlab.storage.digests import folder_sha256
from peftlab.storage.tensors import load_into

log = logging.getLogger("peftlab")

_NAME = "default"
"""The library's name for the adapter."""
_OTHERWISE = ("rank_pattern", "alpha_pattern", "use_dora", "lora_bias", "use_qalora", "use_bdlora")
"""Options of LoRA with which its update is no plain product of one rank."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Previous:
    """The adapter that a method goes on from."""

    path: Path
    """Its folder."""
    sha256: str
    """The digest of the whole folder."""
    rank: int = Field(ge=1, le=LARGEST)
    """The rank of its matrices: that of all earlier updates together."""


def resolve_previous(method: Any) -> None:
    """Complete the entry ``previous`` of a method's section of the configuration, see `resolved_previous`."""
    if isinstance(method, dict) and method.get("previous") is not None:
        method["previous"] = resolved_previous(method["previous"])


def resolved_previous(previous: Any) -> dict[str, Any]:
    """Return the entries of `Previous` for a run, or for the folder of an adapter; or check those of an earlier run.

    Raises:
        UserError: there is no such run or folder.
        ConfigError: its adapter is no plain LoRA, or has changed.
    """
    settings = {"path": previous} if isinstance(previous, str) else previous
    if not isinstance(settings, Mapping) or not isinstance(settings.get("path"), str):
        raise ConfigError(f"peft.previous = {previous!r}: expected one run or the folder of an adapter")
    path = Path(os.path.expanduser(settings["path"]))
    folder = (path if (path / ADAPTER_CONFIG).is_file() else find(settings["path"]) / "adapter").absolute()
    description = read_description(folder)
    odd = [key for key in _OTHERWISE if description.get(key)]
    if description.get("peft_type") != "LORA" or odd or description.get("bias") != "none":
        what = odd[0] if odd else description.get("peft_type") or description.get("method")
        raise ConfigError(
            f"peft.previous = '{folder}': its adapter is no plain LoRA ({what}), which could be gone on from"
        )
    resolved = {"path": str(folder), "sha256": folder_sha256(folder), "rank": description.get("r")}
    if any(settings.get(key, resolved[key]) != resolved[key] for key in ("sha256", "rank")):
        raise ConfigError(
            f"peft.previous = '{folder}': it has changed since this run began with it; put the old one there"
        )
    return resolved


class Continued(nn.Module):
    """A matrix of LoRA, of which the first ranks are frozen.

    Args:
        matrix: the matrix of all ranks.
        rank: the number of frozen ones.
        dim: the dimension of ranks: 0 of A, 1 of B.
    """

    def __init__(self, matrix: nn.Module, rank: int, dim: int) -> None:
        super().__init__()
        whole: Any = matrix.weight
        self.dim, self.bias = dim, None
        self.past = nn.Parameter(torch.zeros_like(whole.detach().narrow(dim, 0, rank)), requires_grad=False)
        self.new = nn.Parameter(whole.detach().narrow(dim, rank, whole.shape[dim] - rank).clone())

    @property
    def weight(self) -> Tensor:
        """The whole matrix."""
        return torch.cat([self.past, self.new], self.dim)

    def take(self, whole: Tensor) -> None:
        """Copy the `whole` matrix."""
        rank = self.past.shape[self.dim]
        self.past.data.copy_(whole.narrow(self.dim, 0, rank))
        self.new.data.copy_(whole.narrow(self.dim, rank, self.new.shape[self.dim]))

    @override
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


@dataclass(kw_only=True, config=ConfigDict(extra="allow"))
class ContinuedLora(LibraryMethod):
    """LoRA beside the frozen updates of an earlier adapter, which holds those before it too."""

    initialisations: ClassVar[tuple[bool | str, ...]] = (True, "gaussian", "orthogonal")
    needed: ClassVar[tuple[str, ...]] = ()
    """Files that the earlier adapter must have beside its own."""

    previous: Annotated[Previous | None, BESIDE_THE_FUNCTION] = None
    """The earlier adapter, by its run or folder; None: this is the first, plain LoRA."""

    @override
    def __post_init__(self) -> None:
        """Check that the update is a plain product."""
        super().__post_init__()
        if self.peft_type != "LORA" or super().options.get("bias", "none") != "none":
            raise ConfigError(f"peft={self.name}: it is made of plain LoRA: leave peft_type=LORA and bias=none")
        if odd := [key for key in _OTHERWISE if super(ContinuedLora, self).options.get(key)]:
            raise ConfigError(f"peft.{odd[0]}: with it the update is no plain product, as peft={self.name} needs it")

    @property
    @override
    def options(self) -> dict[str, Any]:
        """The library's options, for all ranks together: with the same factor, as each rank has by itself."""
        own = super().options
        if self.previous is None:
            return own
        rank = own.get("r", 8)
        more = (rank + self.previous.rank) / rank
        alpha = own.get("lora_alpha", 8) * (math.sqrt(more) if own.get("use_rslora") else more)
        return own | {"r": rank + self.previous.rank, "lora_alpha": int(alpha) if alpha.is_integer() else alpha}

    @property
    @override
    def not_averaged(self) -> str | None:  # type: ignore[override]  # it depends on an option
        return None if self.previous is None else "the earlier updates that it goes on from are frozen, in each model"

    @property
    @override
    def earlier(self) -> str | None:
        return None if self.previous is None else self.previous.sha256

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        wrapped = super().apply(model, context)
        if self.previous is not None:
            for _, layer in lora_layers(wrapped):
                for matrices, dim in ((layer.lora_A, 0), (layer.lora_B, 1)):
                    matrices[_NAME] = Continued(matrices[_NAME], self.previous.rank, dim)
                layer.lora_B[_NAME].new.data.zero_()  # of init_lora_weights=orthogonal, only all ranks together make 0
        return wrapped

    @override
    def begin(self, model: nn.Module, context: MethodContext) -> list[str]:
        """Load the earlier updates; rows of the output layer are matched by label, as `adopt` does it."""
        if self.previous is None:
            return []
        folder = self.previous.path
        stored, description = without_copies(read_tensors(folder)), read_description(folder)
        if lost := [name for name in self.needed if not (folder / name).is_file()]:
            raise ConfigError(
                f"peft.previous = '{folder}': it has no {lost[0]}, which a run of peft={self.name} leaves there"
            )
        used = set()
        for name, layer in lora_layers(model):
            factor = _scaling(description) / layer.scaling[_NAME]
            for key, matrices in (("lora_A", layer.lora_A), ("lora_B", layer.lora_B)):
                tensor, matrix = stored.get(f"{name}.{key}.weight"), matrices[_NAME]
                if tensor is None or tensor.shape != matrix.past.shape:
                    raise ConfigError(
                        f"peft.previous = '{folder}': it has no {name}.{key} of the shape {tuple(matrix.past.shape)}. "
                        "Set peft.target and peft.layers as it was trained with"
                    )
                matrix.past.data.copy_(tensor if key == "lora_A" else tensor * factor)
                used.add(f"{name}.{key}.weight")
        if strange := sorted(name for name in stored.keys() - used if ".lora_" in name):
            raise ConfigError(
                f"peft.previous = '{folder}': it adapts {strange[0]}, and this run does not; set peft.target"
            )
        return self._take_head(model, stored, description, context)

    def _take_head(
        self, model: nn.Module, stored: Mapping[str, Tensor], description: Mapping[str, Any], context: MethodContext
    ) -> list[str]:
        assert self.previous is not None
        of_head = {name: tensor for name, tensor in stored.items() if ".lora_" not in name}
        wanted = {name: tensor for name, tensor in self.saved(model).items() if is_of_head(name, context.head)}
        fitting = Fitting(of_head, wanted, context, description)
        notes = fitting.notes()
        notes += fitting.take_output(adapter_labels(self.previous.path) or None, description, self.previous.path)
        fitting.take_the_rest()
        for note in notes:
            log.info("peft.previous: %s", note)
        return fitting.kept

    @override
    def saved(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the library's tensors; those of `Continued` matrices are copies."""
        tensors = super().saved(model)
        for name in [name for name in tensors if name.endswith((".lora_A.past", ".lora_B.past"))]:
            whole, dim = name.removesuffix("past"), 0 if ".lora_A." in name else 1
            tensors[f"{whole}weight"] = torch.cat([tensors.pop(name), tensors.pop(f"{whole}new")], dim)
        return tensors

    @override
    def load(self, model: nn.Module, folder: Path) -> None:
        tensors = self.saved(model)
        load_into(tensors, folder / ADAPTER_WEIGHTS)
        for name, layer in lora_layers(model) if self.previous else ():
            for key, matrices in (("lora_A", layer.lora_A), ("lora_B", layer.lora_B)):
                matrices[_NAME].take(tensors[f"{name}.{key}.weight"])


def lora_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the name and the module of each layer that the library has wrapped for LoRA."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def new_part(matrix: nn.Module) -> nn.Parameter:
    """Return the part of a matrix of LoRA that is not that of earlier adapters."""
    part = matrix.new if isinstance(matrix, Continued) else matrix.weight
    assert isinstance(part, nn.Parameter)
    return part


def _scaling(description: Mapping[str, Any]) -> float:
    """Return the factor on the product of an adapter's matrices."""
    rank = description["r"]
    return float(description["lora_alpha"] / (math.sqrt(rank) if description.get("use_rslora") else rank))
