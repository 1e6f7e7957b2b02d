"""The control that trains nothing: the class whose mean embedding is nearest, of the frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from peftlab.continual.scoring import UNUSED
from peftlab.continual.stages import Config
from peftlab.data.module import DataModule
from peftlab.devices.process_state import restored
from peftlab.errors import ConfigError
from peftlab.models import backbone
from peftlab.models.adapted_model import base_model
from peftlab.one_run import settle

Embedded = dict[str, tuple[np.ndarray, list[str]]]
"""By split, the embedding of each example, (examples, size), and its label."""


def nearest_mean(embedded: Sequence[Embedded], together: bool = True) -> np.ndarray:
    """Return the matrix of accuracies of the nearest class mean, by cosine (Mensink et al. 2013; Rebuffi et al. 2017).

    A class mean is that of all training examples so far, so that nothing is ever forgotten; what falls is how far
    apart the classes are, the more there are of them.

    Args:
        embedded: the train and test split of each stage.
        together: whether the classes of all stages so far are told apart; False: those of the stage alone.

    Returns:
        shape (stages, stages), nan where no class of the stage has been seen.
    """
    stages = len(embedded)
    matrix = np.full((stages, stages), np.nan)
    for last in range(stages):
        for stage in range(stages):
            of_stage = range(last + 1) if together else [stage] if stage <= last else []
            labels = [label for n in of_stage for label in embedded[n]["train"][1]]
            vectors, golds = embedded[stage]["test"]
            if not {*golds} & {*labels}:
                continue
            classes = sorted({*labels})
            trained = np.concatenate([embedded[n]["train"][0] for n in of_stage])
            of_class = np.array([classes.index(label) for label in labels])
            means = np.stack([trained[of_class == n].mean(0) for n in range(len(classes))])
            chosen = (_unit(vectors) @ _unit(means).T).argmax(1)
            matrix[last, stage] = np.mean([classes[n] == gold for n, gold in zip(chosen, golds, strict=True)])
    return matrix


@restored()
def embed(config: Config) -> Embedded:
    """Return the mean token embedding that the frozen encoder gives to each text of the data of `config`.

    Raises:
        ConfigError: the task has not one label for each text, or the model no encoder of texts.
    """
    _, spec = settle(config | UNUSED)
    task = spec.task
    pretrained = backbone.fetch(spec.model, task)
    data = DataModule(spec.data, task, pretrained.processor(task.processor), spec.budget, spec.seed)
    data.load()
    encoder = getattr(base_model(spec, pretrained).model.eval(), "base_model", None)
    found: Embedded = {}
    for split in ("train", "test"):
        members = data.splits[split]
        golds: list[Any] = [task.gold(example) for example in members.examples]
        if encoder is None or task.head.outputs != "text" or not all(isinstance(gold, str) for gold in golds):
            raise ConfigError(
                f"stream.controls: nearest_mean needs one label for each text, and an encoder; task={task.name} has "
                "not both. Leave it out"
            )
        vectors: np.ndarray | None = None
        for places in data.evaluation_batches(split):
            inputs = task.apart(members.examples, members.encoded, places).inputs
            with torch.inference_mode():
                states = encoder(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"].unsqueeze(-1)
            means = ((states * mask).sum(1) / mask.sum(1).clamp(min=1)).numpy()
            vectors = np.empty((members.rows, means.shape[1]), np.float32) if vectors is None else vectors
            vectors[places] = means
        assert vectors is not None, "a split has examples"
        found[split] = vectors, golds
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12))
