"""Builds the model that a run trains and later uses: pretrained weights, a head, a method. No Lightning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

from torch import nn

from peftlab.data.spec import DataSpec
from peftlab.devices.spec import TrainerSpec
from peftlab.errors import ConfigError
from peftlab.methods.method import Method, MethodContext
from peftlab.methods.targets import linear_layers
from peftlab.models.backbone import Backbone, Pretrained
from peftlab.models.positions import reserve
from peftlab.models.quantizing import quantize
from peftlab.packing.joint_answers import join
from peftlab.speed.attention import preferred_attention
from peftlab.speed.dropout import cheapen
from peftlab.speed.lora import fuse_lora
from peftlab.tasks.task import Task


class Parts(Protocol):
    """The sections of a run's configuration that define its model."""

    data: DataSpec
    task: Task
    peft: Method
    trainer: TrainerSpec


class AdaptedModel(NamedTuple):
    """A model to which a method has been applied."""

    model: nn.Module
    context: MethodContext
    """What the method knows about the model."""


def base_model(parts: Parts, pretrained: Pretrained) -> Backbone:
    """Load the pretrained model with the task's head, quantised if it is to be: what the method is applied to."""
    attention = preferred_attention(parts.trainer.accelerator, parts.data.max_tokens)
    backbone = pretrained.load(parts.task, attention)
    if (kind := pretrained.spec.quantize) == "none":
        return backbone
    model, context, notes = backbone
    quantize(model, kind, linear_layers(model, context.head))
    return Backbone(model, replace(context, unrounded=lambda: pretrained.load(parts.task, attention).model), notes)


def adapted_model(
    parts: Parts, pretrained: Pretrained, tell: Callable[[str], None] = lambda note: None
) -> AdaptedModel:
    """Load the pretrained model with the task's head, and apply the method.

    Args:
        parts: the run's sections; the task has learnt its labels.
        pretrained: the model that they name.
        tell: called with notes for the user on the head that training starts from.

    Raises:
        UserError: the parts cannot be combined, or the weights do not fit.
    """
    model, context, notes = base_model(parts, pretrained)
    for note in notes:
        tell(f"model: {note}")
    if parts.trainer.gradient_checkpointing:
        if not model.supports_gradient_checkpointing:
            raise ConfigError(f"trainer.gradient_checkpointing=true: {model.config.model_type} cannot do it; set false")
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    adapted = parts.peft.apply(model, context)
    reserve(adapted, parts.peft.virtual_tokens)
    if parts.trainer.cheap_dropout is True:
        cheapen(adapted)
    if parts.trainer.fused_lora:
        fuse_lora(adapted)
    join(adapted)
    return AdaptedModel(adapted, context)
