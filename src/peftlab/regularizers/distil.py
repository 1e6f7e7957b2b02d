"""Distillation: a model learns to answer as a finished run does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.methods.targets import blocks_of
from peftlab.regularizers.answering import Answering, teacher_of
from peftlab.regularizers.outputs import softened
from peftlab.regularizers.regularizer import Computed, Material, Term, spec
from peftlab.tasks.batch import Batch

STATES = "layer_states"
"""The entry of a model's outputs with the hidden states that its layers give, (rows, tokens, hidden) each."""


@spec
class Distil(Term):
    """Replaces part of the task's loss by the divergence from the answers of a teacher (Hinton et al. 2015, section 2).

    The objective is ``(1 - alpha) * task + alpha * T^2 * KL(teacher / T || model / T) + hidden * distance``, where T
    divides the logits. Of labels that do not exclude each other the divergence is that of each label's own
    distribution, averaged; of a regression, half the squared difference, whatever T is. The distance is one minus the
    cosine of the hidden states of both at a token (Sanh et al. 2019), averaged over tokens and layers; each layer of
    the model is compared with the teacher's at the same share of its depth.

    A step makes two passes, one of them the teacher's, which counts as one whatever the teacher's size.
    """

    teacher: str | None = None
    """The folder of a finished run with the same task and labels, or the start of its id."""
    sha256: str | None = None
    """The digest of its identity and its adapter; None: whatever is there."""
    alpha: float = Field(default=0.5, ge=0, le=1)
    """The share of the task's loss that the teacher's answers take the place of."""
    temperature: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    """T: larger values give more weight to how the teacher ranks the classes that it does not choose."""
    hidden: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """The weight of the distance of hidden states."""
    answering: Answering | None = field(default=None, init=False)
    """The teacher, set by `prepare`."""
    passes: ClassVar[int] = 1
    neutral: ClassVar[Mapping[str, float]] = {"alpha": 0}
    host_work: ClassVar[str | None] = "it asks a second model"

    @property
    @override
    def off(self) -> str | None:
        return None if self.hidden else super().off

    @property
    @override
    def replaces(self) -> float:
        return self.alpha

    @property
    @override
    def reads_layers(self) -> bool:
        return self.hidden > 0

    @override
    def prepare(self, material: Material) -> None:
        if self.teacher is None:
            raise ConfigError("teacher is null: name a finished run by its folder or its id")
        self.answering = teacher_of(material.teacher, self.teacher, self.sha256)

    @override
    def resolved(self) -> dict[str, Any]:
        return {"teacher": self.answering.place, "sha256": self.answering.sha256} if self.answering else {}

    @override
    def set_up(self, model: nn.Module) -> None:
        teacher = self._teacher.model  # loads it
        if not self.hidden:
            return
        own, theirs = (getattr(getattr(each, "config", None), "hidden_size", None) for each in (model, teacher))
        if own is None or own != theirs or not self._teacher.reads_alike:
            raise ConfigError(
                f"hidden={self.hidden:g}: hidden states of {own} numbers cannot be compared with the teacher's of "
                f"{theirs}, at the same tokens. Set hidden=0, and learn from its answers alone"
            )
        keep_states(model)
        keep_states(teacher)

    @property
    def _teacher(self) -> Answering:
        assert self.answering is not None, "`prepare` has been called"
        return self.answering

    @override
    def losses(self, computed: Computed) -> Tensor:
        task, batch, outputs = computed.task, computed.batch, computed.outputs
        computed.tell(examples=batch.weights > 0)  # of a filler too: ranks sum what all of them have told
        if not batch.examples:  # a filler, without weight
            return computed.task.losses(outputs, batch) * 0
        theirs = self._teacher.outputs(batch)
        their_answers, own_answers = (softened(each, self.temperature) for each in (theirs, outputs))
        apart = task.divergences(their_answers, own_answers, batch) * self.temperature**2
        return self.alpha * apart + (self.hidden * self._distances(outputs, theirs, batch) if self.hidden else 0)

    def _distances(self, outputs: Any, theirs: Any, batch: Batch) -> Tensor:
        """Return the distance of the hidden states of each example, on the scale of the task's loss, (examples,)."""
        own, of_teacher = outputs[STATES], theirs[STATES]
        last = len(own)
        depths = [max(1, round(n * len(of_teacher) / last)) for n in range(1, last + 1)]
        pairs = [(mine, of_teacher[depth - 1]) for mine, depth in zip(own, depths, strict=True)]
        if not pairs or any(mine.shape != other.shape for mine, other in pairs):
            raise ConfigError(
                f"regularizer.distil.hidden={self.hidden:g}: the models do not give a hidden state for each token in "
                "all their layers. Set trainer.cache_activations=false, or hidden=0"
            )
        distance = sum(1 - F.cosine_similarity(mine.float(), other.float(), dim=-1) for mine, other in pairs) / last
        assert isinstance(distance, Tensor)
        real = distance.new_ones(distance.shape) if batch.real is None else batch.real.to(distance.dtype)
        tokens = batch.by_token(real).clamp(min=1)
        return batch.by_token(distance * real) / tokens * batch.weights.to(distance.dtype)


def keep_states(model: nn.Module) -> None:
    """Have the outputs of `model` hold the hidden states of its layers from now on, as `STATES`.

    transformers' own option does so only where no other library has wrapped the model.
    """
    kept: list[Tensor] = []

    def add(block: nn.Module, args: Any, output: Any) -> None:
        kept.append(output if isinstance(output, Tensor) else output[0])

    def hand_over(model: nn.Module, args: Any, outputs: Any) -> None:
        outputs[STATES] = tuple(kept)
        kept.clear()

    for block in blocks_of(model):
        block.register_forward_hook(add)
    model.register_forward_pre_hook(lambda model, args: kept.clear())
    model.register_forward_hook(hand_over)
