"""Scores the model of one stage on the test split of another."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from peftlab.assembly import build_tuner, refer, store_and_compile
from peftlab.continual.stages import Config
from peftlab.data.module import DataModule
from peftlab.data.spec import DataSpec
from peftlab.data.static_shapes import StaticShapes
from peftlab.devices.process_state import restored
from peftlab.errors import ConfigError, did_you_mean
from peftlab.methods.adapter_files import ADAPTER_WEIGHTS, read_tensors
from peftlab.methods.head import is_of_head
from peftlab.models.positions import check_length
from peftlab.one_run import settle
from peftlab.storage.tensors import save
from peftlab.training.predictions import Predictions
from peftlab.training.tuner import Tuner
from peftlab.use.evaluate import computing_as, trainer_for, tuner_of
from peftlab.use.finished import FinishedRun

UNUSED: dict[str, Any] = {"adapter": None, "regularizer": {}, "augment": {}, "callbacks": {}, "logger": {}}
"""Sections that only training uses."""


class StageModel:
    """The model after a stage, ready to be scored on other stages.

    Args:
        run: the run of the stage.
        head: the run whose head answers, with all else from `run`; None: `run` itself.
    """

    def __init__(self, run: FinishedRun, head: FinishedRun | None = None) -> None:
        self.run = head or run
        self.tuner = tuner_of(run) if head is None else _with_head_of(head, run)
        store_and_compile(self.tuner.model, self.run.spec.trainer)

    @restored()
    def score(self, config: Config, metric: str, out: Path | None = None) -> float:
        """Return the score on the test split that `config` describes, among the labels that the head knows.

        Args:
            config: the configuration of a run on that data.
            metric: the name of the score.
            out: the folder for predictions, ``test.jsonl``; None: they are not kept.

        Raises:
            UserError: the data cannot be read, or has a label that the head does not know.
        """
        run, spec = self.run, self.run.spec
        _, other = settle(config | UNUSED)
        data = DataModule(_with_labels_of(run, other.data), spec.task, run.processor, other.budget, spec.seed)
        data.load()
        check_length(self.tuner.model, data.longest)
        if spec.trainer.static_shapes:
            data.static = StaticShapes(run.max_tokens(self.tuner.model))
        with computing_as(spec, run.record.data["environment"]["threads"]):
            refer(spec, run.pretrained, data, ["test"])
            trainer = trainer_for(spec, [] if out is None else [Predictions(out)])
            trainer.test(self.tuner, data, verbose=False)
        scores = self.tuner.metric("test").details() | {"loss": float(trainer.callback_metrics["test/loss"])}
        return scores[known_metric(metric, scores)]


def known_metric(metric: str, scores: Iterable[str]) -> str:
    """Return `metric` if it is one of `scores`.

    Raises:
        ConfigError: it is none; names the nearest.
    """
    if metric not in (names := list(scores)):
        raise ConfigError(
            f"stream.metric = {metric}: no such score.{did_you_mean(metric, names)} Allowed: {', '.join(names)}"
        )
    return metric


def _with_labels_of(run: FinishedRun, data: DataSpec) -> DataSpec:
    """Return `data` with the labels that the head of `run` knows."""
    labels = {"labels": run.parts.data.labels}
    return replace(data, **labels)  # type: ignore[type-var]  # a dataclass, made by an alias of it


def _with_head_of(head: FinishedRun, body: FinishedRun) -> Tuner:
    """Return the model of `head` with everything but its head taken from `body`, a run of the same method."""
    spec = replace(body.spec, task=head.spec.task, data=_with_labels_of(head, body.spec.data))
    tuner = build_tuner(spec, head.pretrained)
    names = tuner.context.head
    mixed = {
        **{name: tensor for name, tensor in read_tensors(body.folder.adapter).items() if not is_of_head(name, names)},
        **{name: tensor for name, tensor in read_tensors(head.folder.adapter).items() if is_of_head(name, names)},
    }
    with tempfile.TemporaryDirectory(prefix="peftlab-stage-") as name:
        folder = Path(name) / "adapter"
        shutil.copytree(body.folder.adapter, folder)
        save(mixed, folder / ADAPTER_WEIGHTS)
        body.parts.peft.load(tuner.model, folder)
    return tuner.eval().to(head.device)
