"""LoRA+: any LoRA, with a higher learning rate for the up-projections than for the down-projections."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from typing_extensions import override

from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import BESIDE_THE_FUNCTION


@dataclass(kw_only=True, config=ConfigDict(extra="allow"))
class LoraPlus(LibraryMethod):
    """The matrices B have a higher learning rate than the matrices A (Hayou et al. 2024, section 4)."""

    lr_ratio: Annotated[float, BESIDE_THE_FUNCTION] = Field(default=16.0, ge=1)
    """The ratio of B's learning rate to A's, which is the run's (the paper's lambda)."""

    @override
    def learning_rate_factor(self, name: str) -> float:
        return self.lr_ratio if ".lora_B." in name else 1.0
