"""LoRA+: LoRA of any kind whose up-projections learn faster than its down-projections."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import BESIDE_THE_FUNCTION


@dataclass(kw_only=True, config=ConfigDict(extra="allow"))
class LoraPlus(LibraryMethod):
    """The matrices B have another learning rate than the matrices A (Hayou et al. 2024, section 4)."""

    lr_ratio: Annotated[float, BESIDE_THE_FUNCTION] = Field(default=16.0, ge=1)
    """The learning rate of B over that of A, which is the run's (the paper's lambda)."""

    def learning_rate_factor(self, name: str) -> float:
        """See `Method.learning_rate_factor`."""
        return self.lr_ratio if ".lora_B." in name else 1.0
