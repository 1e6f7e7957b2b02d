"""Cuts layers, attention heads and feed-forward rows out of a model, so that it is smaller and computes less."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from peftlab.errors import ConfigError
from peftlab.methods.targets import LINEAR, Layers, blocks

Kind = Literal["heads", "ffn"]
"""The units of a block: attention heads, or rows of its feed-forward layers."""


class Form(NamedTuple):
    """The linear layers of a kind of block that compute its units and read them, by their names in the block."""

    into: tuple[str, ...]
    """Layers whose outputs belong to the units; all but the first may be missing."""
    out: str
    """The layer whose inputs are the units."""
    parts: int = 1
    """How many equal parts the outputs of a layer in `into` have: queries, keys and values of a fused one."""


_BERT = "attention.self."
FORMS: dict[Kind, tuple[Form, ...]] = {
    "heads": (
        Form((f"{_BERT}query", f"{_BERT}key", f"{_BERT}value"), "attention.output.dense"),
        Form(
            tuple(f"{_BERT}{name}_proj" for name in ("query", "key", "value", "pos_key", "pos_query")),
            "attention.output.dense",
        ),
        Form(("attention.q_lin", "attention.k_lin", "attention.v_lin"), "attention.out_lin"),
        Form(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn.o_proj"),
        Form(("attn.c_attn",), "attn.c_proj", 3),
        Form(("attn.Wqkv",), "attn.Wo", 3),
    ),
    "ffn": (
        Form(("intermediate.dense",), "output.dense"),
        Form(("ffn.lin1",), "ffn.lin2"),
        Form(("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),
        Form(("mlp.c_fc",), "mlp.c_proj"),
        Form(("mlp.Wi",), "mlp.Wo", 2),
    ),
}
"""The forms of BERT and RoBERTa, DeBERTa, DistilBERT, Llama, GPT-2 and ModernBERT, and of those built like them."""

_HEAD_SIZES = ("head_dim", "attention_head_size")
_OF_HEADS = ("num_attention_heads", "num_heads", "n_heads", "num_key_value_heads", "all_head_size", "split_size")
"""Attributes of attention modules: the width of a head, and what grows with the number of heads."""

NUMBER = "number_before"
"""The attribute of a block with its number in the pretrained model, where blocks have been left out."""

_OF_ENCODERS = ("num_hidden_layers", "num_layers", "encoder_layers")
_OF_DECODERS = ("num_decoder_layers", "decoder_layers")
"""Keys of configurations with the number of layers."""


@dataclass(frozen=True)
class Units:
    """The attention heads or the feed-forward rows of one block; of grouped queries, heads are whole groups."""

    block: nn.Module
    form: Form
    count: int

    @property
    def out(self) -> Any:
        """The linear layer that reads the units."""
        return self.block.get_submodule(self.form.out)

    def columns(self, chosen: Sequence[int] | None = None) -> Tensor:
        """Return the inputs of `out` that are the `chosen` units, by default all, shape (units, inputs of each)."""
        every = torch.arange(_inputs(self.out)).view(self.count, -1)
        return every if chosen is None else every[list(chosen)]

    def keep(self, chosen: Sequence[int]) -> None:
        """Leave only the `chosen` units in the block; the others are cut out of its layers."""
        for name in self._into():
            layer: Any = self.block.get_submodule(name)
            self.block.set_submodule(name, _rows_of(layer, self._rows(_outputs(layer), self.count)[:, list(chosen)]))
        self.block.set_submodule(self.form.out, _columns_of(self.out, self.columns(chosen).flatten()))
        self._count_heads(len(chosen))

    def widen(self, count: int) -> None:
        """Fill the block up to `count` units with units of zeros, which change nothing that it computes."""
        for name in self._into():
            layer: Any = self.block.get_submodule(name)
            total = _outputs(layer) // self.count * count
            self.block.set_submodule(name, _filled(layer, self._rows(total, count)[:, : self.count], outputs=total))
        total = _inputs(self.out) // self.count * count
        self.block.set_submodule(self.form.out, _filled(self.out, torch.arange(_inputs(self.out)), inputs=total))
        self._count_heads(count)

    def multiply(self, factors: Tensor) -> None:
        """Multiply each unit by a factor, (units,), where it is read."""
        layer = self.out
        of_inputs = factors.repeat_interleave(_inputs(layer) // self.count).to(layer.weight.dtype)
        layer.weight.data *= of_inputs.unsqueeze(-1) if isinstance(layer, Conv1D) else of_inputs

    @contextmanager
    def read_through(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Have the units read as `change` returns them, shape (rows, tokens, inputs of `out`), in this context."""
        handle = self.out.register_forward_pre_hook(lambda module, args: (change(args[0]), *args[1:]))
        try:
            yield
        finally:
            handle.remove()

    def _into(self) -> list[str]:
        return [name for name in self.form.into if _is_linear(self.block, name)]

    def _rows(self, outputs: int, count: int) -> Tensor:
        """Return the outputs of each unit in a layer with so many, shape (parts, units, outputs of each)."""
        return torch.arange(outputs).view(self.form.parts, count, -1)

    def _count_heads(self, count: int) -> None:
        attention = self.block.get_submodule(self.form.into[0].rpartition(".")[0])
        for name in _OF_HEADS if _head_size(attention) else ():
            if isinstance(value := getattr(attention, name, None), int):
                setattr(attention, name, value * count // self.count)


def units(block: nn.Module, kind: Kind) -> Units | None:
    """Return the heads or feed-forward rows of a block; None if it is of a form whose units cannot be cut out."""
    for form in FORMS[kind]:
        if _is_linear(block, form.into[0]) and _is_linear(block, form.out):
            names = [name for name in form.into if _is_linear(block, name)]
            widths = [_outputs(block.get_submodule(name)) // form.parts for name in names]
            if kind == "ffn":
                return Units(block, form, widths[0])
            size = _head_size(block.get_submodule(form.into[0].rpartition(".")[0]))
            return Units(block, form, min(widths) // size) if size else None
    return None


def layers_of(model: nn.Module, head: Iterable[str]) -> dict[int, nn.Module]:
    """Return the repeated blocks of a model with one stack of them, by their numbers.

    Raises:
        ConfigError: it has several stacks, or none.
    """
    every = all_layers(model, head)
    if any(len(same) > 1 for same in every.values()):
        raise ConfigError(
            f"{type(model).__name__} has an encoder and a decoder: of these, whole layers can be cut out, but no heads "
            "and no feed-forward rows"
        )
    return {number: block for number, (block,) in every.items()}


def all_layers(model: nn.Module, head: Iterable[str]) -> dict[int, list[nn.Module]]:
    """Return the repeated blocks of a model by their numbers; of an encoder-decoder, of both.

    Raises:
        ConfigError: it has none.
    """
    every: dict[int, list[nn.Module]] = {}
    for stack, number in sorted(blocks(model, None, head)):
        every.setdefault(number, []).append(model.get_submodule(f"{stack}.{number}"))
    return every


def is_alone(every: Mapping[int, Sequence[nn.Module]], number: int) -> bool:
    """Return whether the layers of this number have weights that others lack: they cannot be left out."""
    others = [same for other, same in every.items() if other != number]
    names = [[{key for key, _ in block.named_parameters()} for block in same] for same in (every[number], *others[:1])]
    return len(names) == 1 or names[0] != names[1]


def keep_layers(model: nn.Module, layers: Layers, head: Iterable[str]) -> None:
    """Leave only the selected blocks in every stack of `model`, and set the number of layers in its configuration.

    Raises:
        ConfigError: the model has no such blocks, its blocks share weights, or its first one has weights that the
            others lack.
    """
    kept: dict[str, list[int]] = {}
    for stack, number in sorted(blocks(model, layers, head)):
        kept.setdefault(stack, []).append(number)
    for stack, numbers in kept.items():
        _keep_in_stack(model, stack, numbers, several=len(kept) > 1)


def _keep_in_stack(model: nn.Module, stack: str, numbers: Sequence[int], several: bool) -> None:
    every = model.get_submodule(stack)
    assert isinstance(every, nn.ModuleList)
    if len(numbers) == len(every):
        return
    name = type(model).__name__
    owner = model.get_submodule(stack.rpartition(".")[0])
    if not isinstance(model, PreTrainedModel) or hasattr(model.config, "num_hidden_groups"):
        raise ConfigError(
            f"peft.layers: {name} needs layers with weights of their own, of which one can be left out, as BERT's are"
        )
    first, new_first = ({key for key, _ in block.named_parameters()} for block in (every[0], every[numbers[0]]))
    if odd := sorted(first ^ new_first):
        raise ConfigError(
            f"peft.layers: layer 0 of {name} must be kept: it differs from the others by {odd[0]}. Name it, as in "
            f"peft.layers={[0, *numbers]}"
        )
    keys = _OF_DECODERS if several and "decoder" in stack else _OF_ENCODERS
    configs = {id(model.config): (model.config, keys)}
    if (own := getattr(owner, "config", model.config)) is not model.config:
        configs[id(own)] = own, _OF_ENCODERS
    for config, names in configs.values():
        for key in names:
            if hasattr(config, key):
                setattr(config, key, len(numbers))
        for key, value in vars(config).items():  # such as layer_types
            if not several and "layer" in key and isinstance(value, list) and len(value) == len(every):
                setattr(config, key, [value[number] for number in numbers])
    model.set_submodule(stack, nn.ModuleList([every[number] for number in numbers]))
    for new, number in enumerate(numbers):
        setattr(every[number], NUMBER, getattr(every[number], NUMBER, number))
        for module in every[number].modules():
            if isinstance(getattr(module, "layer_idx", None), int):  # the place of its keys and values in a cache
                module.layer_idx = new  # type: ignore[assignment]


def _is_linear(block: nn.Module, name: str) -> bool:
    try:
        return isinstance(block.get_submodule(name), LINEAR)
    except AttributeError:
        return False


def _head_size(attention: nn.Module) -> int | None:
    return next((size for name in _HEAD_SIZES if isinstance(size := getattr(attention, name, None), int)), None)


def _outputs(layer: Any) -> int:
    return int(layer.nf if isinstance(layer, Conv1D) else layer.out_features)


def _inputs(layer: Any) -> int:
    return int(layer.nx if isinstance(layer, Conv1D) else layer.in_features)


def _like(layer: Any, inputs: int, outputs: int, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """Return a layer of the class of `layer` with other weights, (outputs, inputs)."""
    if isinstance(layer, Conv1D):
        with torch.device("meta"):
            new: Any = Conv1D(outputs, inputs)
        weight = weight.T
    else:
        with torch.device("meta"):
            new = nn.Linear(inputs, outputs, bias=bias is not None)
    new.weight = nn.Parameter(weight.contiguous())
    if bias is not None:
        new.bias = nn.Parameter(bias)
    return new.train(layer.training)


def matrix(layer: Any) -> Tensor:
    """Return the weight of a linear layer, (outputs, inputs)."""
    weight: Tensor = layer.weight.detach()
    return weight.T if isinstance(layer, Conv1D) else weight


def _bias(layer: Any) -> Tensor | None:
    return None if layer.bias is None else layer.bias.detach().clone()


def _rows_of(layer: Any, rows: Tensor) -> nn.Module:
    rows = rows.flatten()
    bias = _bias(layer)
    return _like(layer, _inputs(layer), len(rows), matrix(layer)[rows], None if bias is None else bias[rows])


def _columns_of(layer: Any, columns: Tensor) -> nn.Module:
    return _like(layer, len(columns), _outputs(layer), matrix(layer)[:, columns], _bias(layer))


def _filled(layer: Any, places: Tensor, *, outputs: int | None = None, inputs: int | None = None) -> nn.Module:
    """Return `layer` with more outputs or inputs: its own lie at `places`, and all others are zero."""
    places, old, bias = places.flatten(), matrix(layer), _bias(layer)
    if outputs is not None:
        weight = old.new_zeros(outputs, old.shape[1])
        weight[places] = old
        if bias is not None:
            bias = bias.new_zeros(outputs).index_copy(0, places, bias)
    else:
        assert inputs is not None
        weight = old.new_zeros(old.shape[0], inputs)
        weight[:, places] = old
    return _like(layer, weight.shape[1], weight.shape[0], weight, bias)
