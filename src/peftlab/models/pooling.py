"""Pooling: the vector that the head of a text reads of the encoder's last hidden states."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal

import torch
from torch import Tensor, nn

from peftlab.errors import ConfigError, UserError
from peftlab.methods.random_inputs import reads_pictures, reads_sounds
from peftlab.tasks.batch import ENTITY_SPANS

Pooling = Literal["cls", "mean", "entity_start", "entity_mean"]
"""What is pooled: the text's first token, the mean of its tokens, or of both entities that it marks the first token or
the mean of the tokens."""

OF_ENTITIES: frozenset[str] = frozenset({"entity_start", "entity_mean"})
"""Those that read a row at the entities of its example."""

JOINED = "pooling"
"""The name of the layer, a child of the model, that makes one vector of those of two entities."""


class Pooled:
    """The hooks of a model whose head reads a pooled vector.

    The heads of text classifiers read the first position of the encoder's last hidden states, so the pooled vector
    takes its place: the head, its layers and its pretrained weights stay those of the architecture. Padding and the
    virtual tokens of a method are left out.
    """

    def __init__(self, kind: Pooling | None, dropped: Collection[str]) -> None:
        """Keep what to pool.

        Args:
            kind: what is pooled; None: the first position is left as it is.
            dropped: names of the inputs that the model itself does not take.
        """
        self.kind, self.dropped = kind, frozenset(dropped)
        self.noted = False
        self.mask: Tensor | None = None
        self.spans: Tensor | None = None
        self.joining: Callable[[Tensor], Tensor] | None = None

    def note(self, model: nn.Module, args: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Keep the mask and the entities of a forward pass of `model`; a pre-hook of it."""
        self.noted = True
        self.mask, self.spans = inputs.get("attention_mask"), inputs.get(ENTITY_SPANS)
        self.joining = getattr(model, JOINED, None)
        return args, {name: value for name, value in inputs.items() if name not in self.dropped}

    def place(self, _: nn.Module, __: Any, output: Any) -> Any:
        """Return the `output` of the encoder with the pooled vector as its only position; a hook of it."""
        assert self.noted, "the model has been called, not only its forward"
        states = _states(output)
        text = states if self.mask is None else states[:, states.shape[1] - self.mask.shape[1] :]
        return _with_states(output, self._pooled(text).to(states.dtype).unsqueeze(1))

    def _pooled(self, states: Tensor) -> Tensor:
        """Return a vector for each row of `states`, (rows, tokens, hidden), the text's own tokens and padding."""
        real = states.new_ones(states.shape[:2], dtype=torch.bool) if self.mask is None else self.mask.bool()
        if self.kind == "cls":  # rows may be padded on the left
            return _at(states, real.long().argmax(1, keepdim=True))[:, 0]
        if self.kind == "mean":
            return _means(states, real.unsqueeze(1), real)[:, 0]
        assert self.spans is not None, "the task is one that marks entities"
        assert self.joining is not None, "it was added when the hooks were set"
        start, end = self.spans.unbind(-1)
        if self.kind == "entity_start":
            entities = _at(states, start)
        else:
            places = torch.arange(states.shape[1], device=states.device)
            inside = (places >= start.unsqueeze(-1)) & (places < end.unsqueeze(-1))
            entities = _means(states, inside, real)
        return self.joining(entities.flatten(1))


def pool(model: Any, kind: Pooling | None, inputs: Collection[str], task: str) -> list[str]:
    """Have the head of `model` read the pooled vector; see `Pooled`.

    For entities, their two vectors become one in a new linear layer, which begins as their mean (the concatenation is
    that of Baldini Soares et al. 2019, section 3.2; the projection keeps the architecture's own head).

    Args:
        model: a transformers model with a head for texts, before any method is applied.
        kind: what is pooled; None: what the architecture pools.
        inputs: the task's `Task.pooling_inputs`.
        task: the name of the task, for messages.

    Returns:
        the names of the new modules.

    Raises:
        ConfigError: the task marks no entities, or the head reads anything but the first position.
    """
    pooled = Pooled(kind, inputs)
    if kind is None:
        if inputs:
            model.register_forward_pre_hook(pooled.note, with_kwargs=True)
        return []
    if reads_pictures(model) or reads_sounds(model):
        raise ConfigError(
            f"model.pooling={kind}: a head for pictures or sounds reads what its architecture says. Set null"
        )
    entities = kind in OF_ENTITIES
    if entities and ENTITY_SPANS not in inputs:
        raise ConfigError(f"model.pooling={kind}: task={task} marks no entities. Set model.pooling=mean, cls or null")
    if hasattr(model.config, "classifier_pooling"):  # ModernBERT's head can take a mean itself
        model.config.classifier_pooling = "cls"
    place = _last_hidden_states(model, kind)
    model.register_forward_pre_hook(pooled.note, with_kwargs=True)
    place.register_forward_hook(pooled.place)
    if entities:
        model.add_module(JOINED, _joining(model.config.hidden_size))
    return [JOINED] if entities else []


def make_plain(model: Any, kind: Pooling | None) -> None:
    """Prepare `model` for transformers' own code, which knows no pooling but the architecture's.

    Raises:
        UserError: transformers would compute something else.
    """
    if kind in (None, "cls"):
        return
    if kind == "mean" and hasattr(model.config, "classifier_pooling"):
        model.config.classifier_pooling = "mean"
        return
    raise UserError(
        f"model.pooling={kind}: {type(model).__name__} of transformers reads the first token, so an exported model "
        "would compute something else. Use the run as it is (peftlab predict, peftlab.load), or train with "
        "model.pooling=null"
    )


def _joining(hidden: int) -> nn.Linear:
    layer = nn.Linear(2 * hidden, hidden)
    with torch.no_grad():
        layer.weight.copy_(torch.cat([torch.eye(hidden), torch.eye(hidden)], 1) / 2)
        layer.bias.zero_()
    return layer


def _last_hidden_states(model: Any, kind: str) -> nn.Module:
    """Return the module that ends with the last hidden states, of which the head reads the first position alone.

    That is the base model, or where it has a pooler inside, as in BERT and ALBERT, its encoder. Which one is observed
    in a forward pass, so that no architecture need be listed.

    Raises:
        ConfigError: the head reads something else.
    """
    base = model.base_model
    for module in (base, getattr(base, "encoder", None)):
        if isinstance(module, nn.Module) and module is not model and _is_read_at_first(model, module):
            return module
    raise ConfigError(
        f"model.pooling={kind}: the head of {type(model).__name__} does not read the first position of the last hidden "
        "states, in whose place the pooled vector would be. Set model.pooling=null: what the architecture pools"
    )


def _is_read_at_first(model: Any, module: nn.Module) -> bool:
    """Return whether the logits depend on the first of the states that `module` returns, and on no other."""
    ids = model.config.vocab_size - 1 - torch.arange(4)
    inputs = {"input_ids": ids.unsqueeze(0), "attention_mask": torch.ones(1, 4, dtype=torch.long)}

    def logits(change: Callable[[Tensor], Tensor]) -> Tensor:
        hook = module.register_forward_hook(lambda _, __, output: _with_states(output, change(_states(output))))
        try:
            result: Tensor = model(**inputs).logits
        finally:
            hook.remove()
        return result

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            own, alone = logits(lambda states: states), logits(lambda states: states[:, :1])
            other = logits(lambda states: torch.cat([-states[:, :1], states[:, 1:]], 1))
    except (RuntimeError, ValueError, IndexError):  # a head that needs all positions, or their end
        return False
    finally:
        model.train(training)
    return own.shape == alone.shape and torch.allclose(own, alone, atol=1e-5) and not torch.allclose(own, other)


def _states(output: Any) -> Tensor:
    states: Tensor = output if isinstance(output, Tensor) else output[0]
    return states


def _with_states(output: Any, states: Tensor) -> Any:
    """Return an output like `output` with other last hidden states."""
    if isinstance(output, Tensor):
        return states
    if isinstance(output, tuple):
        return (states, *output[1:])
    first = next(iter(output))
    return type(output)(**{**output, first: states})


def _at(states: Tensor, places: Tensor) -> Tensor:
    """Return the states at `places`, (rows, number), shape (rows, number, hidden)."""
    return states.gather(1, places.unsqueeze(-1).expand(-1, -1, states.shape[-1]))


def _means(states: Tensor, chosen: Tensor, real: Tensor) -> Tensor:
    """Return the means of the `chosen` states, (rows, number, tokens), shape (rows, number, hidden), in fp32 at least.

    Padding, which is not `real`, (rows, tokens), may hold anything.
    """
    dtype = torch.promote_types(states.dtype, torch.float32)
    with torch.autocast(states.device.type, enabled=False):
        sums = chosen.to(dtype) @ states.masked_fill(~real.unsqueeze(-1), 0).to(dtype)
        return sums / chosen.sum(-1, keepdim=True).clamp(min=1)
