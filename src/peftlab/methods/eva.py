"""EVA: LoRA initialised with the directions of greatest variance in the training data."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, ClassVar, NamedTuple

import peft
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import BESIDE_THE_FUNCTION

_OF_SOURCE = re.compile(r"(EncDecAttention|encoder_attn|crossattention)\.(k|v|k_proj|v_proj|key|value|c_attn)$")
"""Matches the layers of a decoder that read the encoder's output."""


@dataclass(kw_only=True, config=ConfigDict(extra="allow"))
class Eva(LibraryMethod):
    """A is initialised to the first right singular vectors of the layer's inputs (Paischer et al. 2024, section 3.2).

    Every layer keeps the rank r; the paper's redistribution of ranks over layers (rho > 1) would make the shapes of a
    saved run depend on its data.
    """

    initialisations: ClassVar[Sequence[bool | str]] = ("eva",)
    not_averaged: ClassVar[str | None] = (
        "it begins with a look at all training examples, which are not to leave their clients"
    )

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
        real = functools.partial(_real, model.config.pad_token_id)
        rank = int(self.options.get("r", 8))
        most = max(min(int(each.sum()) for each in real(batch, None) if each is not None) for batch in inputs)
        if most < rank:
            raise ConfigError(
                f"peft.r={rank}: no batch has as many tokens for EVA to find as many directions in, the largest has "
                f"{most}. Set peft.r={most} or a larger data.batch_size"
            )
        peft.initialize_lora_eva_weights(
            model,
            inputs,
            prepare_model_inputs_fn=real,
            prepare_layer_inputs_fn=_rows,
            gather_distributed_inputs=False,
            show_progress_bar=False,
        )


class Real(NamedTuple):
    """Which tokens of a batch are not padding, (rows, tokens)."""

    tokens: Tensor
    targets: Tensor | None
    """Those of an encoder-decoder's decoder; None: the model has one stack of blocks."""


def _real(padding: int | None, batch: Mapping[str, Tensor], _config: Any) -> Real:
    """Return which tokens of `batch` are real.

    In rows of several texts, positions begin anew with each text, and with each token of padding.
    """
    ids, mask, numbers = batch["input_ids"], batch.get("attention_mask"), batch.get("position_ids")
    targets = batch.get("decoder_input_ids")
    if mask is None and numbers is not None:
        begins = F.pad(numbers == 0, (0, 1), value=True)
        mask = ~(begins[:, :-1] & begins[:, 1:])  # a text of one token, which predicts nothing, counts as padding
    real = torch.ones_like(ids).bool() if mask is None else mask.bool()
    if targets is None:
        return Real(real, None)
    first = torch.arange(targets.shape[1], device=targets.device) == 0  # which is T5's padding, and real
    return Real(real, (targets != padding) | first)


def _rows(inputs: Tensor | tuple[Tensor, ...], real: Real, name: str) -> Tensor:
    """Return the inputs of a layer as rows, (rows, size), without padding and the leading virtual tokens.

    Args:
        inputs: of the layer, (batch, tokens, size), or shared by all texts, such as DeBERTa's relative positions.
        real: see `_real`.
        name: of the layer.
    """
    states = inputs if isinstance(inputs, Tensor) else inputs[0]
    of_targets = real.targets is not None and "decoder." in name and not _OF_SOURCE.search(name)
    mask = real.targets if real.targets is not None and of_targets else real.tokens
    if states.ndim == 3 and len(states) == len(mask):
        return states[:, -mask.shape[1] :][mask]
    return states.reshape(-1, states.shape[-1])
