"""LoRA+: any LoRA, with a higher learning rate for the up-projections than for the down-projections."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import BESIDE_THE_FUNCTION


@dataclass(kw_only=True, config=ConfigDict(extra="allow"))
class LoraPlus(LibraryMethod):
    """The matrices B have a higher learning rate than the matrices A (Hayou et al. 2024, section 4)."""

    lr_ratio: Annotated[float, BESIDE_THE_FUNCTION] = Field(default=16.0, ge=1)
    """The ratio of B's learning rate to A's, which is the run's (the paper's lambda)."""

    @override
    def __post_init__(self) -> None:
        """Check that there are A and B."""
        super().__post_init__()
        if self.peft_type != "LORA":
            raise ConfigError(
                f"peft.peft_type = '{self.peft_type}': peft={self.name} gives the matrices A and B of LoRA learning "
                "rates of their own. Leave peft_type=LORA, or choose another method"
            )

    @override
    def learning_rate_factor(self, name: str) -> float:
        return self.lr_ratio if ".lora_B." in name else 1.0
