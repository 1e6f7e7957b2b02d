"""EVA: LoRA initialised with the directions of greatest variance in the training data."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, ClassVar

import peft
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.layer_inputs import LOOKS_FIRST, real_tokens, rows_of
from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import BESIDE_THE_FUNCTION


@dataclass(kw_only=True, config=ConfigDict(extra="allow"))
class Eva(LibraryMethod):
    """A is initialised to the first right singular vectors of the layer's inputs (Paischer et al. 2024, section 3.2).

    Every layer keeps the rank r; the paper's redistribution of ranks over layers (rho > 1) would make the shapes of a
    saved run depend on its data.
    """

    initialisations: ClassVar[Sequence[bool | str]] = ("eva",)
    not_averaged: ClassVar[str | None] = LOOKS_FIRST
    decided: ClassVar[Mapping[str, str]] = {"eva_config": "its tau is peft.tau, and every layer keeps the rank peft.r"}

    batches: Annotated[int, BESIDE_THE_FUNCTION] = Field(default=32, gt=0)
    """Number of training batches, repeated until the vectors converge."""
    tau: Annotated[float, BESIDE_THE_FUNCTION] = Field(default=0.99, gt=0, lt=1)
    """The cosine similarity to its last value at which a vector counts as converged."""

    @property
    @override
    def options(self) -> dict[str, Any]:
        return super().options | {"eva_config": peft.EvaConfig(rho=1.0, tau=self.tau)}

    @override
    def calibrate(self, model: Any, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Initialise A by the inputs of each layer on some of `batches`.

        Raises:
            ConfigError: none of them has as many tokens as there are directions to find: the library would search on.
        """
        inputs = [dict(batch) for batch in islice(batches, self.batches)]
        real = functools.partial(real_tokens, getattr(model.config, "pad_token_id", None))
        rank = int(self.options.get("r", 8))
        counts = [[int(each.sum()) for each in real(batch, None) if each is not None] for batch in inputs]
        most = max(min(of_batch, default=rank) for of_batch in counts)
        if most < rank:
            raise ConfigError(
                f"peft.r={rank}: no batch has as many tokens for EVA to find as many directions in, the largest has "
                f"{most}. Set peft.r={most} or a larger data.batch_size"
            )
        peft.initialize_lora_eva_weights(
            model,
            inputs,
            prepare_model_inputs_fn=real,
            prepare_layer_inputs_fn=rows_of,
            gather_distributed_inputs=False,
            show_progress_bar=False,
        )
