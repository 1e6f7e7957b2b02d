"""The base of averages that each step moves towards the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.regularizer import WeightAverage, spec


@spec
class RunningAverage(WeightAverage):
    """An average of the trained weights and of the buffers that change, in fp32 or better.

    Buffers of whole numbers, such as counters, are not averaged: their present values are used.

    With LoRA, and wherever else a product of weights is what the model computes with, the average of the factors is not
    the average of the products: A, B and -A, -B are the same update, and average to none. Along one training, factors
    stay close enough for this not to matter; averages over several trainings have to be of merged weights.
    """

    host_work: ClassVar[str | None] = "by how far the average moves is another number in each step"
    average: dict[str, Tensor] = field(default_factory=dict, init=False)

    def move(self, weights: Mapping[str, Tensor], share: float) -> None:
        """Move the average by `share` of the way to `weights`; where there is none yet, it begins as their copy."""
        with torch.no_grad():
            for name, weight in weights.items():
                if not weight.is_floating_point():
                    continue
                if name in self.average:
                    self.average[name] = self.average[name].to(weight.device)  # from a checkpoint, it is on the CPU
                    self.average[name].lerp_(weight.detach().to(self.average[name].dtype), share)
                else:
                    dtype = torch.promote_types(weight.dtype, torch.float32)
                    self.average[name] = weight.detach().to(dtype, copy=True)

    @override
    def averaged(self) -> Mapping[str, Tensor]:
        return self.average

    @override
    def state(self) -> dict[str, Tensor]:
        return self.average

    @override
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.average = {name: average.clone() for name, average in state.items()}
