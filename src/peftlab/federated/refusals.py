"""What does not go together with a federation, and why."""

from __future__ import annotations

from typing import Any

from peftlab.errors import ConfigError
from peftlab.federated.spec import FederatedSpec
from peftlab.regularizers.anchored import Anchored
from peftlab.regularizers.of_groups import OfGroups
from peftlab.regularizers.regularizer import Term, WeightAverage

_NEEDS_ALL = "would need the examples of all clients before the training, which are not to leave them"


def refuse(federated: FederatedSpec, spec: Any) -> None:
    """Check that the parts of a run can be those of a federation.

    Args:
        federated: the federation.
        spec: the specification of the run.

    Raises:
        ConfigError: one cannot; says why.
    """
    for key in ("class_weights", "pos_weight"):
        if isinstance(value := getattr(spec.task, key, None), str):
            raise ConfigError(
                f"task.{key}={value}: counting the labels {_NEEDS_ALL}. Name the weights, or leave them out"
            )
    if "mean" in spec.task.settled() and None in spec.task.settled().values():
        raise ConfigError(
            f"task={spec.task.name}: the mean and the standard deviation of its targets {_NEEDS_ALL}. Give values that "
            "are known to everybody: task.mean=... task.sd=..."
        )
    if options := spec.task.reading_options:
        raise ConfigError(f"{options[0]}: it {_NEEDS_ALL}. Choose another value")
    if spec.data.replay is not None:
        raise ConfigError("data.replay: examples of another run are no client's. Leave it out")
    if spec.task.fits_head:
        raise ConfigError(f"task={spec.task.name}: fitting its head {_NEEDS_ALL}. Choose task=classification")
    for name, each in spec.acting.items():
        if isinstance(each, OfGroups):
            raise ConfigError(f"regularizer.{name}: it {_NEEDS_ALL}. Leave it out")
    for name, each in spec.augmenting.items():
        if each.mixes:
            raise ConfigError(f"augment.{name}: it {_NEEDS_ALL}. Leave it out")
    if federated.only is None:
        _refuse_rounds(spec)


def _refuse_rounds(spec: Any) -> None:
    if spec.privacy is not None and spec.privacy.unit != "client":
        raise ConfigError(
            f"privacy.unit={spec.privacy.unit}: a federation promises privacy to each client, for all that it has. Set "
            "privacy.unit=client, privacy=none or federated=none"
        )
    if (reason := spec.peft.not_averaged) is not None:
        raise ConfigError(
            f"peft={spec.peft.name}: what clients have learnt cannot be averaged: {reason}. Choose one whose changes "
            "can be, such as lora, ia3, houlsby or full"
        )
    for name, each in spec.acting.items():
        if isinstance(each, Anchored):
            raise ConfigError(
                f"regularizer.{name}: it refers to the weights that training starts from, and a client starts anew in "
                "each round. federated=fedprox pulls towards the shared weights"
            )
        if isinstance(each, WeightAverage) or (isinstance(each, Term) and each.learns):
            raise ConfigError(f"regularizer.{name}: it learns from step to step, and clients start anew in each round")
    hardware = spec.trainer
    if hardware.world_size > 1:
        raise ConfigError(
            f"trainer.devices: a federated run takes one device, not {hardware.world_size}; federated.processes=N "
            "trains clients side by side"
        )
    for key in ("cache_activations", "cuda_graphs"):
        if getattr(hardware, key) is True:
            raise ConfigError(f"trainer.{key}=true: a federated run does without. Use auto")
