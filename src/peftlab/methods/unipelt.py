"""UniPELT: LoRA, a prefix and an adapter in every block, each scaled by a gate."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.adapters import Activation, Bottleneck
from peftlab.methods.factors import Factors
from peftlab.methods.generating import has_decoder
from peftlab.methods.insertion import add_after, transformer_blocks
from peftlab.methods.method import LARGEST, MethodContext, spec
from peftlab.methods.prefix import OwnPrefix, PrefixAndAdapter, add_prefix, attention_with_past


class RealTokens:
    """Keeps which tokens of the current batch are not padding; its hook runs before the encoder."""

    mask: Tensor | None = None
    """(batch, tokens); None where no token is padding."""

    def note(self, _: nn.Module, __: Any, kwargs: dict[str, Any]) -> None:
        """Keep the encoder's attention mask."""
        self.mask = kwargs.get("attention_mask")


class Gate(nn.Linear):
    """A number in (0, 1) per text: the sigmoid of a projection, averaged over its tokens (Mao et al. 2022, 3.2).

    The mean excludes padding, so padding changes nothing; the paper's code includes it.
    """

    def __init__(self, hidden: int, tokens: RealTokens) -> None:
        super().__init__(hidden, 1)
        self.tokens = tokens

    def forward(self, states: Tensor) -> Tensor:
        """Return the gates of `states` (batch, tokens, hidden), of shape (batch, 1, 1)."""
        gates = super().forward(states).sigmoid()
        mask = self.tokens.mask
        if mask is None:
            return gates.mean(1, keepdim=True)
        real = mask.unsqueeze(-1).to(gates.dtype)
        return (gates * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)


class GatedLora(nn.Module):
    """G B A x, added to a linear layer's output: the gate replaces LoRA's scaling."""

    def __init__(self, layer: Any, rank: int, gate: Gate) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, False)
        self.gate = gate
        nn.init.zeros_(self.up.weight)

    def take(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Keep the layer's input for the call that follows; a pre-hook of the layer."""
        self._input = inputs[0]

    def forward(self, _: Tensor) -> Tensor:
        """Return the update to the layer's output."""
        states = self._input
        del self._input
        return self.gate(states) * self.up(self.down(states))


class GatedPrefix(OwnPrefix):
    """A prefix whose keys and values are multiplied by the gate."""

    def __init__(self, hidden: int, length: int, std: float, gate: Gate) -> None:
        super().__init__(hidden, length, std)
        self.gate = gate

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, each (batch, length, hidden)."""
        gate = self.gate(states)
        return gate * self.keys, gate * self.values


class GatedBottleneck(Bottleneck):
    """An adapter scaled by a gate on its input."""

    def __init__(self, hidden: int, bottleneck: int, activation: Activation, gate: Gate) -> None:
        super().__init__(hidden, bottleneck, activation)
        self.gate = gate

    def forward(self, states: Tensor) -> Tensor:
        """Return the update to the hidden states."""
        return self.gate(states) * super().forward(states)


@spec
class UniPELT(PrefixAndAdapter):
    """LoRA on queries and values, a prefix, and an adapter at the end of the feed-forward network (Mao et al. 2022).

    Each has its own gate per block; the two LoRA of a block share one. The prefix is trained directly; in the paper, a
    network generates it.
    """

    rank: int = Field(gt=0, le=LARGEST)
    """The rank of LoRA."""

    @override
    def insert(self, model: Any, context: MethodContext) -> None:
        """Insert the three, with their gates, into every block.

        Raises:
            ConfigError: the model has a decoder, or its attention takes no earlier keys and values.
        """
        if has_decoder(model):
            raise ConfigError(
                f"peft={self.name}: its gates are means over all tokens of a text, which those of "
                f"{type(model).__name__} do not see: each sees only the ones before it. Use peft=mam, which has no "
                "gates, or peft=lora"
            )
        places = attention_with_past(model, context, self.name)
        blocks = transformer_blocks(model, context)
        tokens = RealTokens()
        model.base_model.register_forward_pre_hook(tokens.note, with_kwargs=True)
        prefixes = []
        for place, block in zip(places, blocks, strict=True):
            prefix = GatedPrefix(block.hidden, self.prefix, self.prefix_std, Gate(block.hidden, tokens))
            place.add_module("prefix", prefix)
            prefixes.append((place, prefix))
            gate = Gate(block.hidden, tokens)
            for layer in (place.get_submodule("query"), place.get_submodule("value")):
                lora = GatedLora(layer, self.rank, gate)
                layer.register_forward_pre_hook(lora.take)
                add_after(layer, "lora", lora)
            adapter = GatedBottleneck(block.hidden, self.bottleneck, self.activation, Gate(block.hidden, tokens))
            add_after(block.module, "adapter", adapter)
        add_prefix(model, prefixes, self.prefix)

    @override
    def factors(self, model: nn.Module) -> list[Factors]:
        loras = [name for name, module in model.named_modules() if isinstance(module, GatedLora)]
        return [Factors(f"{name}.up.weight", f"{name}.down.weight") for name in loras]
