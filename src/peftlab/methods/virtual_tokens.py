"""How virtual tokens enter a model before those of a text, and leave its outputs again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlab.errors import ConfigError
from peftlab.methods.generating import seen_by, stack_of
from peftlab.models.language_models import input_embeddings
from peftlab.tasks.networks.heads import logits_of


def virtual_tokens(encoder: Any) -> Tensor:
    """Return the embeddings that `encoder` generates, (tokens, size)."""
    made: Tensor = encoder(torch.arange(encoder.embedding.num_embeddings, device=encoder.embedding.weight.device)[None])
    return made[0]


def prepend(encoder: Any, model: Any, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Prepend the virtual tokens that `encoder` makes to `inputs`, the keyword arguments of a forward pass."""
    inputs = dict(inputs)
    ids = inputs.pop("input_ids", None)
    words = model.get_input_embeddings()(ids) if inputs.get("inputs_embeds") is None else inputs["inputs_embeds"]
    prompts = virtual_tokens(encoder).to(words.dtype)
    count = len(prompts)
    inputs["inputs_embeds"] = torch.cat([prompts.expand(len(words), -1, -1), words], dim=1)
    for name, fill in (("attention_mask", 1), ("token_type_ids", 0)):
        if inputs.get(name) is not None:
            inputs[name] = F.pad(inputs[name], (count, 0), value=fill)
    return args, inputs


def cut(count: int, of_texts: Collection[str], _: nn.Module, __: Any, output: Any) -> Any:
    """Return `output` without the logits of `count` virtual tokens, but for those `of_texts`."""
    for name, logits in logits_of(output).items():
        if name not in of_texts:
            output[name] = logits[:, count:]
    return output


def add_to_text(model: Any, encoder: Any) -> None:
    """Hook the decoder of `model` so that the virtual tokens of `encoder` precede every text.

    Its outputs keep their shapes. A cache holds the keys and values of virtual tokens as those of any.
    """
    before = BeforeText(encoder)
    stack_of(model).register_forward_pre_hook(before.add, with_kwargs=True)
    stack_of(model).register_forward_hook(before.take_away)


def add_to_source(model: Any, encoder: Any) -> None:
    """Hook the encoder of `model` so that the virtual tokens of `encoder` precede every source, as its decoder sees."""
    before = BeforeText(encoder)
    model.get_encoder().register_forward_pre_hook(before.add, with_kwargs=True)
    stack_of(model).register_forward_pre_hook(functools.partial(_see, before), with_kwargs=True)


class Patches(NamedTuple):
    """Where the patches of a picture become the tokens of a vision transformer."""

    embeddings: nn.Module
    """Returns the tokens, (pictures, tokens, size), with their positions."""
    encoder: nn.Module
    """Returns the last hidden states, which the head reads."""
    before: int
    """Tokens that precede the patches and belong to no place of the picture."""


def patches_of(model: Any, name: str) -> Patches:
    """Return where the patches of `model` become tokens.

    Raises:
        ConfigError: it has no tokens, as a convolutional network.
    """
    embeddings = input_embeddings(model)
    place = next((own for own, module in model.named_modules() if module is embeddings), "")
    around, _, _ = place.rpartition(".")
    encoder, _, kind = around.rpartition(".")
    if embeddings is None or kind != "embeddings":
        raise ConfigError(
            f"peft={name}: {type(model).__name__} has no tokens that virtual ones could stand before; it needs a "
            "vision transformer such as ViT, DINOv2 or SigLIP"
        )
    module = model.get_submodule(around)
    return Patches(module, model.get_submodule(encoder), int(hasattr(module, "cls_token")))


def add_to_patches(patches: Patches, encoder: Any) -> None:
    """Hook a vision transformer so that the virtual tokens of `encoder` stand before the patches of every picture.

    The hidden states that the head reads are without them.
    """
    start, count = patches.before, encoder.embedding.num_embeddings

    def add(_: nn.Module, __: Any, tokens: Tensor) -> Tensor:
        made = virtual_tokens(encoder).to(tokens.dtype).expand(len(tokens), -1, -1)
        return torch.cat([tokens[:, :start], made, tokens[:, start:]], dim=1)

    def take_away(_: nn.Module, __: Any, output: Any) -> Any:
        states = output.last_hidden_state
        output.last_hidden_state = torch.cat([states[:, :start], states[:, start + count :]], dim=1)
        return output

    patches.embeddings.register_forward_hook(add)
    patches.encoder.register_forward_hook(take_away)


def _see(before: BeforeText, _: nn.Module, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    mask = inputs.get("encoder_attention_mask")
    return args, inputs if mask is None else inputs | {"encoder_attention_mask": before.widened(mask)}


class BeforeText:
    """The virtual tokens before the first token of each row: after its padding, so that this changes nothing.

    While tokens follow that a cache has seen, none are added, but the mask and the positions count them.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        self.added = False
        """Whether the current pass has them."""
        self.order: Tensor | None = None
        """The virtual tokens and those of the text in the order of the current rows; None: the virtual ones first."""

    def add(self, stack: Any, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Add the virtual tokens to `inputs`, the arguments of a forward pass of `stack`.

        Raises:
            ConfigError: the mask says for each token which others it sees, so what the virtual ones see is unknown.
        """
        inputs = dict(zip(inspect.signature(stack.forward).parameters, args, strict=False)) | inputs
        mask, numbers, self.order = inputs.get("attention_mask"), inputs.get("position_ids"), None
        self.added = seen_by(inputs.get("past_key_values")) == 0
        if mask is not None:
            if mask.ndim != 2:
                raise ConfigError("peft: virtual tokens need a mask with one number a token; set task.packing=off")
            inputs["attention_mask"] = self.widened(mask)
        made = virtual_tokens(self.encoder)
        if numbers is not None:
            first = torch.arange(len(made), device=numbers.device).expand(len(numbers), -1)
            shifted = numbers + len(made)
            inputs["position_ids"] = self._ordered(torch.cat([first, shifted], 1)) if self.added else shifted
        if self.added:
            ids = inputs.pop("input_ids", None)
            words = (
                stack.get_input_embeddings()(ids) if inputs.get("inputs_embeds") is None else inputs["inputs_embeds"]
            )
            tokens = torch.cat([made.to(words.dtype).expand(len(words), -1, -1), words], 1)
            inputs["inputs_embeds"] = self._ordered(tokens)
            if inputs.get("token_type_ids") is not None:
                inputs["token_type_ids"] = self._ordered(F.pad(inputs["token_type_ids"], (len(made), 0)))
        return (), inputs

    def widened(self, mask: Tensor) -> Tensor:
        """Return `mask`, (rows, tokens), with the virtual tokens."""
        count = self.encoder.embedding.num_embeddings
        kinds = F.pad(2 * (mask.cumsum(1) > 0).long(), (count, 0), value=1)  # padding, virtual, text
        self.order = kinds.argsort(dim=1, stable=True)
        return self._ordered(F.pad(mask, (count, 0), value=1))

    def _ordered(self, tensor: Tensor) -> Tensor:
        return tensor if self.order is None else _chosen(tensor, self.order)

    def take_away(self, _: nn.Module, __: Any, output: Any) -> Any:
        """Return `output` without the hidden states of the virtual tokens."""
        if self.added:
            count, states = self.encoder.embedding.num_embeddings, output.last_hidden_state
            places = None if self.order is None else self.order.argsort(dim=1)[:, count:]
            output.last_hidden_state = states[:, count:] if places is None else _chosen(states, places)
        return output


def _chosen(tensor: Tensor, places: Tensor) -> Tensor:
    """Return the tokens of `tensor`, (rows, tokens, ...), at the `places` of each row, (rows, tokens)."""
    return tensor.gather(1, places if tensor.ndim == 2 else places[..., None].expand(-1, -1, tensor.shape[2]))
