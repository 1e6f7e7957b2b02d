"""The regularisers of a run before its training: what they are shown, and whether they can act."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from peftlab.config import RunSpec
from peftlab.data.module import DataModule
from peftlab.earlier.remembered import EarlierRun
from peftlab.earlier.teacher import Teacher
from peftlab.errors import ConfigError, UserError
from peftlab.methods.random_inputs import reads_sounds
from peftlab.models.pooling import OF_ENTITIES
from peftlab.regularizers.regularizer import Material, Term, key_of
from peftlab.tasks.task import Task
from peftlab.training.tuner import Tuner


def check_regularizers(spec: RunSpec, tuner: Tuner) -> None:
    """Check that every regulariser can act on this model.

    Raises:
        ConfigError: one cannot, or does not suit the task; says why.
    """
    has_distributions = type(spec.task).distributions is not Task.distributions
    hears = spec.task.head.is_new and reads_sounds(tuner.model)  # with the encoder alone
    reads_targets = getattr(getattr(tuner.model, "config", None), "is_encoder_decoder", False) and not hears
    for name, regularizer in spec.acting.items():
        if reason := regularizer.idle(tuner.model):
            raise ConfigError(f"{key_of(name)} would do nothing: {reason}")
        if isinstance(regularizer, Term) and regularizer.of_distributions and not has_distributions:
            raise ConfigError(
                f"{key_of(name)}: it reshapes the distribution over classes, and task={spec.task.name} has none. "
                "Choose one that only needs the loss, such as fgm or l2_sp"
            )
        if isinstance(regularizer, Term) and regularizer.couples and spec.task.couples_rows:
            raise ConfigError(
                f"{key_of(name)}: it mixes rows of different examples, and the loss of task={spec.task.name} "
                "compares the rows of each example. Leave one of them out"
            )
        if isinstance(regularizer, Term) and regularizer.couples and spec.task.packs:
            raise ConfigError(
                f"{key_of(name)}: it mixes rows, and task.packing lays several examples into a row. Set "
                "task.packing=off, or leave the regulariser out"
            )
        if isinstance(regularizer, Term) and regularizer.couples and reads_targets:
            raise ConfigError(
                f"{key_of(name)}: it mixes two sources, and the decoder would read the target of one example "
                "to predict that of the other. Leave it out"
            )
        pooling = spec.model.pooling
        if isinstance(regularizer, Term) and regularizer.couples and pooling in OF_ENTITIES:
            raise ConfigError(
                f"{key_of(name)}: it mixes rows of different examples, and model.pooling={pooling} reads a row at "
                "the entities of one of them alone. Set model.pooling=mean, or leave the regulariser out"
            )


def prepared_regularizers(spec: RunSpec, data: DataModule, weights_sha256: str) -> dict[str, dict[str, Any]]:
    """Show every regulariser the training examples, and return, by name, the options that it has made definite.

    Args:
        spec: the run's specification.
        data: the loaded data.
        weights_sha256: the digest of the pretrained weights.

    Raises:
        UserError: one cannot work with them; names it.
    """
    train, task = data.splits["train"], spec.task

    def weights() -> np.ndarray:
        own = task.weights(train.examples, train.encoded, range(train.rows))
        return own if train.factors is None else own * train.factors

    def teacher(run: str) -> Teacher:
        return Teacher(run, spec, data.processor, data.facts.sha256["train"])

    def earlier(run: str) -> EarlierRun:
        return EarlierRun(run, spec, data.processor, data.facts.sha256["train"])

    material = Material(
        task,
        train.examples,
        weights,
        spec.data.format,
        teacher,
        earlier,
        [(memory.entry.run, memory.examples) for memory in data.facts.memories],
        weights_sha256,
    )
    for name, regularizer in spec.acting.items():
        with _named(name):
            regularizer.prepare(material)
    return {name: regularizer.resolved() for name, regularizer in spec.acting.items()}


def set_up_terms(tuner: Tuner) -> None:
    """Let the terms of the objective load what they need beside the model.

    Raises:
        UserError: one cannot work with it; names it.
    """
    for name, term in tuner.objective.terms.items():
        with _named(name):
            term.set_up(tuner.model)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Name the regulariser in errors of this context."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{key_of(name)}: {error}") from error
