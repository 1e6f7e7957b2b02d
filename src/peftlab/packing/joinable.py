"""Which runs can compute their steps with those of others, as far as their configurations tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from peftlab.config import RunSpec
from peftlab.data.sampling import BY_KEYS
from peftlab.packing.joint_model import JointModel
from peftlab.packing.rows import NotJoinableError
from peftlab.packing.run_context import RandomStates
from peftlab.regularizers.regularizer import PassRule, StepRule, Term, key_of
from peftlab.storage.digests import canonical_json


def never_joined(spec: RunSpec, cached: bool = False) -> str | None:
    """Return why no step of a run can be computed with those of others; None: its configuration allows it.

    Args:
        spec: the run's specification.
        cached: whether its model starts from cached activations.
    """
    for holds, reason in (
        (cached, "it starts from cached activations"),
        (spec.in_rounds, "its steps are rounds of clients"),
        (spec.privacy is not None, "privacy: its gradients are clipped example by example"),
    ):
        if holds:
            return reason
    for name, regularizer in spec.acting.items():
        if isinstance(regularizer, Term | PassRule | StepRule):
            return f"{key_of(name)} changes the passes of a step"
    if (kind := spec.model.quantize) != "none":
        return f"model.quantize={kind}: each run quantises weights of its own"
    if spec.task.packs:
        return f"task={spec.task.name} lays several examples into a row"
    trainer = spec.trainer
    if trainer.world_size > 1:
        return "it runs on several devices"
    for key in ("compile", "gradient_checkpointing"):
        if getattr(trainer, key):
            return f"trainer.{key}=true"
    if trainer.cuda_graphs is True:
        return "trainer.cuda_graphs=true: steps that are computed together are not recorded"
    if trainer.accumulate > 1:
        return f"trainer.accumulate={trainer.accumulate}"
    if trainer.precision == "16-mixed":
        return "trainer.precision=16-mixed scales its loss"
    return None


def is_joinable(model: nn.Module) -> bool:
    """Return whether models like this one can run as one; the first joint pass may still refuse them."""
    try:
        JointModel([model, model], [RandomStates(), RandomStates()])
    except NotJoinableError:
        return False
    return True


def alike(config: Mapping[str, Any]) -> str:
    """Return a text that is equal for the resolved configurations of runs that may be computed together.

    These share the pretrained model, the data, the task, the hardware and the class of the method.
    """
    budget = {key: config["budget"].get(key) for key in BY_KEYS}
    method = [config["peft"].get(key) for key in ("_target_", "name", "peft_type")]
    sections = [config[key] for key in ("model", "data", "task", "augment", "allow", "trainer")]
    return canonical_json([*sections, budget, method, config.get("adapter") is None])
