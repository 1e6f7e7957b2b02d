"""AdaLoRA: updates in the form of a singular value decomposition, with ranks pruned during training."""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType
from typing import Annotated, Any, ClassVar

import torch
from peft.tuners.tuners_utils import BaseTuner
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import BESIDE_THE_FUNCTION, MethodContext


@dataclass(kw_only=True, config=ConfigDict(extra="allow"))
class AdaLora(LibraryMethod):
    """The library's AdaLoRA, driven by our steps (Zhang et al. 2023, algorithm 1 and equation 4).

    The library keeps the schedule's state only in the running process, and adds the penalty to a loss that the model
    computes itself; here both belong to the training, so that it can resume.
    """

    not_averaged: ClassVar[str | None] = "each model prunes ranks of its own"
    decided: ClassVar[Mapping[str, str]] = {
        "r": "ranks are peft.init_r at the start, and peft.target_r at the end",
        "total_step": "the run sets it",
        "tinit": "it follows from peft.initial_share",
        "tfinal": "it follows from peft.final_share",
    }

    initial_share: Annotated[float, BESIDE_THE_FUNCTION] = Field(default=0.1, ge=0, lt=1)
    """The share of training before the first pruning (the paper's t_i)."""
    final_share: Annotated[float, BESIDE_THE_FUNCTION] = Field(default=0.3, ge=0, lt=1)
    """The share of training after the last pruning (the paper's t_f)."""

    def __post_init__(self) -> None:
        """Check the shares and the ranks."""
        super().__post_init__()
        if self.initial_share + self.final_share >= 1:
            raise ConfigError("peft.initial_share and peft.final_share leave no steps to prune in: lower one")
        if self.options.get("init_r", 12) <= self.options.get("target_r", 8):
            raise ConfigError("peft.init_r must be larger than peft.target_r, which it is pruned to")

    @property
    @override
    def options(self) -> dict[str, Any]:
        """The library's options, with a placeholder for the steps, which are known only when training begins."""
        return super().options | {"total_step": 1}

    @property
    @override
    def host_work(self) -> str | None:  # type: ignore[override]  # its base has a reason for it
        return "the library decides on the ranks on the host after every step"

    @override
    def apply(self, model: nn.Module, context: MethodContext) -> nn.Module:
        wrapped: Any = super().apply(model, context)
        tuner = wrapped.base_model
        tuner.forward = MethodType(BaseTuner.forward, tuner)  # AdaLoRA's own calls no hooks of the model
        wrapped.add_module("rank_schedule", RankSchedule(wrapped))
        return wrapped

    @override
    def trained(self, model: nn.Module) -> dict[str, Tensor]:
        return super().trained(model) | {
            name: buffer for name, buffer in model.named_buffers() if name.startswith("rank_schedule.")
        }

    def penalty(self, model: Any) -> Tensor:
        """Return the weighted distance of the singular vectors from orthonormality, a mean over matrices."""
        distances = [
            torch.linalg.matrix_norm(matrix @ matrix.T - torch.eye(len(matrix), device=matrix.device))
            for matrix in _singular_vectors(model)
        ]
        weight: float = model.peft_config["default"].orth_reg_weight
        return weight * torch.stack(distances).mean()

    def after_step(self, model: Any, step: int, context: MethodContext) -> None:
        """Update the importance of every singular value, and prune to the budget for this step."""
        assert context.steps is not None
        config, tuner = model.peft_config["default"], model.base_model
        config.total_step = context.steps
        config.tinit = int(self.initial_share * context.steps)
        config.tfinal = int(self.final_share * context.steps)
        schedule: RankSchedule = model.rank_schedule
        config.rank_pattern = schedule.into(tuner.rankallocator)
        for parameter in model.parameters():  # the library reads every gradient, and a block may have had none
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        tuner.update_and_allocate(step)
        schedule.take(tuner.rankallocator, config.rank_pattern)
        config.rank_pattern = None  # else the library would save matrices of other shapes
        if step == context.steps - config.tfinal:
            assert sum(ranks(model).values()) == tuner.rankallocator.target_bgt

    @override
    def after_average(self, model: Any) -> None:
        """Prune what the average still has of singular values from before they were pruned."""
        model.rank_schedule.prune(model)


def _singular_vectors(model: Any) -> list[Tensor]:
    return [
        parameter if ".lora_A." in name else parameter.T
        for name, parameter in model.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    ]


def ranks(model: Any) -> dict[str, int]:
    """Return the current rank of each layer."""
    return {
        name.removesuffix(".lora_E.default"): int(parameter.count_nonzero())
        for name, parameter in model.base_model.model.named_parameters()
        if name.endswith(".lora_E.default")
    }


class RankSchedule(nn.Module):
    """The state of the library's allocator in buffers: smoothed importances, and which singular values remain."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.names = [name for name, _ in model.base_model.model.named_parameters() if ".lora_" in name]
        for n, name in enumerate(self.names):
            like = model.base_model.model.get_parameter(name)
            self.register_buffer(f"importance_{n}", torch.zeros_like(like, requires_grad=False))
            self.register_buffer(f"uncertainty_{n}", torch.zeros_like(like, requires_grad=False))
            if ".lora_E." in name:
                self.register_buffer(f"kept_{n}", torch.ones(len(like), dtype=torch.bool))

    @torch.no_grad()
    def prune(self, model: Any) -> None:
        """Set the singular values that do not remain to 0."""
        for n, name in enumerate(self.names):
            if ".lora_E." in name:
                values = model.base_model.model.get_parameter(name)
                values.mul_(self.get_buffer(f"kept_{n}").unsqueeze(-1))

    def into(self, allocator: Any) -> dict[str, list[bool]]:
        """Load the state into the allocator; return which singular values remain, in the library's format."""
        for n, name in enumerate(self.names):
            allocator.exp_avg_ipt[name] = self.get_buffer(f"importance_{n}")
            allocator.exp_avg_unc[name] = self.get_buffer(f"uncertainty_{n}")
            allocator.ipt[name] = allocator.exp_avg_ipt[name]  # computed anew before it is read
        return {name: self.get_buffer(f"kept_{n}").tolist() for n, name in enumerate(self.names) if ".lora_E." in name}

    def take(self, allocator: Any, kept: dict[str, list[bool]]) -> None:
        """Store the allocator's new state; after the last pruning it drops the importances."""
        for n, name in enumerate(self.names):
            for key, averages in (("importance", allocator.exp_avg_ipt), ("uncertainty", allocator.exp_avg_unc)):
                buffer = self.get_buffer(f"{key}_{n}")
                buffer.copy_(averages.get(name, torch.zeros_like(buffer)))
            if name in kept:
                buffer = self.get_buffer(f"kept_{n}")
                buffer.copy_(torch.tensor(kept[name]))
