"""Mixout: in each pass, random weights are back at their start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import field
from functools import partial
from typing import Any, ClassVar

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from peftlab.regularizers.anchored import Anchored
from peftlab.regularizers.regularizer import PassRule, spec
from peftlab.seams.pytorch import attribute_replaced
from peftlab.tasks.batch import Batch


@spec
class Mixout(Anchored, PassRule):
    """Has each trained weight at its start with probability `p` in a pass, scaled to keep the mean (Lee et al. 2020).

    That is dropout on ``W - W0`` (their equation 5). Of LoRA on a linear layer, the weight is the product BA, whose
    entries go back to those of the product at the start, usually zero; other weights, vectors, heads and those of other
    methods included, are mixed one by one. The paper has it instead of dropout: with `model.dropout=0`.
    """

    p: float = Field(default=0.7, ge=0, lt=1)
    """0.7 to 0.9 in the paper."""
    mixed: int = field(default=0, init=False)
    """The number of weights that the last pass has mixed."""
    draws: ClassVar[bool] = True
    host_work: ClassVar[str | None] = None
    checkpointable: ClassVar[bool] = False
    neutral: ClassVar[Mapping[str, float]] = {"p": 0}

    @override
    def begin(self, model: nn.Module, weights: Mapping[str, nn.Parameter]) -> None:
        self.remember(weights)

    @override
    @contextmanager
    def applied(self, model: nn.Module, batch: Batch) -> Iterator[None]:
        self.mixed = 0
        named = model.named_parameters()
        starts = {parameter: self.start_of(name, parameter) for name, parameter in named if name in self.start}
        with ExitStack() as stack:
            for module in model.modules():
                if isinstance(module, LoraLinear):
                    for name in module.active_adapters:
                        if self._mix_product(module, name, starts, stack):
                            stack.enter_context(
                                attribute_replaced(module, "forward", partial(LoraLinear.forward, module))
                            )
            mixed = {parameter: self._mixed(parameter, start) for parameter, start in starts.items()}
            for module in model.modules():
                for name, parameter in module.named_parameters(recurse=False):
                    if parameter in mixed:
                        stack.enter_context(attribute_replaced(module, name, mixed[parameter]))
            yield

    def _mix_product(self, layer: Any, name: str, starts: dict[Any, Tensor], stack: ExitStack) -> bool:
        """Mix the update of a LoRA layer and take its factors out of `starts`; return whether it is trained."""
        down, up = layer.lora_A[name], layer.lora_B[name]
        if not {down.weight, up.weight} & starts.keys():
            return False
        start_down, start_up = (starts.pop(factor.weight, factor.weight).to(factor.weight) for factor in (down, up))
        with torch.autocast(up.weight.device.type, enabled=False):  # a small update would vanish in the difference
            product = self._mixed(up.weight @ down.weight, start_up @ start_down)
        stack.enter_context(attribute_replaced(down, "forward", lambda x: x))
        stack.enter_context(attribute_replaced(up, "forward", lambda x: F.linear(x, product, up.bias)))
        return True

    def _mixed(self, weight: Tensor, start: Tensor) -> Tensor:
        self.mixed += weight.numel()
        return start + F.dropout(weight - start, self.p)

    @override
    def acted(self) -> Mapping[str, float]:
        return {"weights": self.mixed}
