"""EVA: LoRA initialised with the directions of greatest variance in the training data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, ClassVar

import peft
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from typing_extensions import override

from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import BESIDE_THE_FUNCTION


@dataclass(kw_only=True, config=ConfigDict(extra="allow"))
class Eva(LibraryMethod):
    """A is initialised to the first right singular vectors of the layer's inputs (Paischer et al. 2024, section 3.2).

    Every layer keeps the rank r; the paper's redistribution of ranks over layers (rho > 1) would make the shapes of a
    saved run depend on its data.
    """

    initialisations: ClassVar[Sequence[bool | str]] = ("eva",)

    batches: Annotated[int, BESIDE_THE_FUNCTION] = Field(default=32, gt=0)
    """Number of training batches, repeated until the vectors converge."""
    tau: Annotated[float, BESIDE_THE_FUNCTION] = Field(default=0.99, gt=0, lt=1)
    """The cosine similarity to its last value at which a vector counts as converged."""

    @property
    @override
    def options(self) -> dict[str, Any]:
        return super().options | {"eva_config": peft.EvaConfig(rho=1.0, tau=self.tau)}

    @override
    def calibrate(self, model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> None:
        inputs = [dict(batch) for batch in islice(batches, self.batches)]
        peft.initialize_lora_eva_weights(
            model,
            inputs,
            prepare_model_inputs_fn=_real,
            prepare_layer_inputs_fn=_rows,
            gather_distributed_inputs=False,
            show_progress_bar=False,
        )


def _real(batch: Mapping[str, Tensor], _config: Any) -> Tensor:
    """Return which tokens of a batch are not padding, (batch, tokens)."""
    return batch["attention_mask"].bool()


def _rows(inputs: Tensor | tuple[Tensor, ...], real: Tensor, _name: str) -> Tensor:
    """Return the inputs of a layer as rows, (rows, size), without padding and the leading virtual tokens.

    Args:
        inputs: of the layer, (batch, tokens, size), or shared by all texts, such as DeBERTa's relative positions.
        real: see `_real`.
    """
    states = inputs if isinstance(inputs, Tensor) else inputs[0]
    if states.ndim == 3 and len(states) == len(real):
        return states[:, -real.shape[1] :][real]
    return states.reshape(-1, states.shape[-1])
