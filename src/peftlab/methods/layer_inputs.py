"""The inputs of a model's layers as rows: which tokens of a batch are real, and which rows they have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_OF_SOURCE = re.compile(r"(EncDecAttention|encoder_attn|crossattention)\.(k|v|k_proj|v_proj|key|value|c_attn)$")
"""Matches the layers of a decoder that read the encoder's output."""
LOOKS_FIRST = "it begins with a look at all training examples, which are not to leave their clients"
"""Why what a method trains is not averaged over clients."""


class Real(NamedTuple):
    """Which tokens of a batch are not padding, (rows, tokens)."""

    tokens: Tensor | None
    """None: all are, as those of pictures."""
    targets: Tensor | None
    """Those of an encoder-decoder's decoder; None: the model has one stack of blocks."""


def real_tokens(padding: int | None, batch: Mapping[str, Tensor], _config: Any) -> Real:
    """Return which tokens of `batch` are real.

    In rows of several texts, positions begin anew with each text, and with each token of padding.
    """
    ids, mask, numbers = batch.get("input_ids"), batch.get("attention_mask"), batch.get("position_ids")
    targets = batch.get("decoder_input_ids")
    if ids is None and targets is not None:  # a sound, all of which is heard
        return Real(None, _real_targets(targets, padding))
    if ids is None:
        of_samples = "input_values" in batch  # of which several make a token
        return Real(None if mask is None or of_samples else mask.bool(), None)
    if mask is None and numbers is not None:
        begins = F.pad(numbers == 0, (0, 1), value=True)
        mask = ~(begins[:, :-1] & begins[:, 1:])  # a text of one token, which predicts nothing, counts as padding
    real = torch.ones_like(ids).bool() if mask is None else mask.bool()
    if targets is None:
        return Real(real, None)
    return Real(real, _real_targets(targets, padding))


def _real_targets(targets: Tensor, padding: int | None) -> Tensor:
    first = torch.arange(targets.shape[1], device=targets.device) == 0  # which is T5's padding, and real
    return (targets != padding) | first


def rows_of(inputs: Tensor | tuple[Tensor, ...], real: Real, name: str) -> Tensor:
    """Return the inputs of a layer as rows, (rows, size), without padding and the leading virtual tokens.

    Args:
        inputs: of the layer, (batch, tokens, size), or shared by all texts, such as DeBERTa's relative positions.
        real: see `real_tokens`.
        name: of the layer.
    """
    states = inputs if isinstance(inputs, Tensor) else inputs[0]
    of_targets = real.targets is not None and "decoder." in name and not _OF_SOURCE.search(name)
    mask = real.targets if real.targets is not None and of_targets else real.tokens
    if mask is not None and states.ndim == 3 and len(states) == len(mask):
        return states[:, -mask.shape[1] :][mask]
    return states.reshape(-1, states.shape[-1])


def sums_of_products(
    model: Any, layers: Mapping[str, nn.Module], batches: Iterable[Mapping[str, Tensor]], correlated: bool = True
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return the sum of x x^T over the inputs x of each layer, without padding, (inputs, inputs), and their number.

    Layers that read the same tensor share theirs. The model computes in evaluation mode and full precision.

    Args:
        model: the model that the layers are of.
        layers: by name.
        batches: inputs of the model.
        correlated: whether to look at pairs of inputs; else, only the diagonal is returned: (inputs,) each.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    same: dict[str, str] = {}
    device, was_training = next(model.parameters()).device, model.training
    real: Any = None
    latest: tuple[Any, str] = (None, "")

    def look(name: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            nonlocal latest
            if args[0] is latest[0]:
                same[name] = latest[1]
                return
            latest = args[0], name
            rows = rows_of(args[0], real, name).detach().float()
            sums[name] = sums.get(name, 0) + (rows.T @ rows if correlated else rows.square().sum(0))
            counts[name] = counts.get(name, 0) + len(rows)

        return hook

    handles = [layer.register_forward_pre_hook(look(name)) for name, layer in layers.items()]
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            for batch in batches:
                inputs = {name: tensor.to(device) for name, tensor in batch.items()}
                real, latest = real_tokens(getattr(model.config, "pad_token_id", None), inputs, None), (None, "")
                model(**inputs)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    for name, first in same.items():
        sums[name], counts[name] = sums[first], counts[first]
    return sums, counts
