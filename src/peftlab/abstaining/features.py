"""What a score reads of a model: the logits of a batch, and the inputs of the layer that makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from peftlab.errors import ConfigError
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.media_files import MediaFile
from peftlab.tasks.task import Task

Answers = list[dict[str, Any]]


@dataclass
class Seen:
    """The last inputs of a model's layer of logits."""

    inputs: Tensor | None = None


def read(
    task: Task, model: nn.Module, batch: Batch, reads: Literal["logits", "features"]
) -> tuple[Answers, np.ndarray]:
    """Return the final answers to a batch, see also `drawn_by`, and what a score reads of each of its texts, in fp32.

    Args:
        task: a classification.
        model: the adapted model, in evaluation mode and in the caller's arithmetic.
        batch: on the model's device; not a filler.
        reads: `Score.READS`.
    """
    with watched(model, len(task.labels)) if reads == "features" else nullcontext(Seen()) as seen:
        outputs = task.outputs(model, batch)
    answers = task.answers(outputs, batch, model, final=True)
    for example, answer in zip(batch.examples, answers, strict=True):
        if isinstance(example, MediaFile):
            answer["drawn_by"] = task.text_key(example)
    if reads == "logits":
        values = task.distributions(outputs, batch).logits
    else:
        assert seen.inputs is not None, "a layer of logits has been called"
        values = _of_text(seen.inputs, batch.inputs.get("attention_mask"))
    return answers, values.float().cpu().numpy()


@contextmanager
def watched(model: nn.Module, labels: int) -> Iterator[Seen]:
    """Keep, while in this context, what the last called layer with as many outputs as labels gets."""
    seen = Seen()

    def note(_: nn.Module, args: tuple[Any, ...]) -> None:
        seen.inputs = args[0]

    handles = [layer.register_forward_pre_hook(note) for layer in _layers(model, labels)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def check_features(model: nn.Module, labels: int, score: str) -> None:
    """Check that the model's logits are made by a linear layer.

    Raises:
        ConfigError: none has as many outputs as there are labels.
    """
    if not _layers(model, labels):
        raise ConfigError(
            f"out_of_scope.score={score}: the {type(model).__name__} has no linear layer for its labels, whose inputs "
            "it would read. Use a score of the logits, such as energy"
        )


def _layers(model: nn.Module, labels: int) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer.out_features == labels]


def _of_text(inputs: Tensor, mask: Tensor | None) -> Tensor:
    """Return the inputs of each text, (texts, features): of a decoder, which has some for each token, the last."""
    if inputs.dim() == 2:
        return inputs
    if mask is None:
        return inputs[:, -1]
    states = inputs[:, -mask.shape[1] :]  # virtual tokens come before
    last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
    return states[torch.arange(len(states), device=states.device), last]
