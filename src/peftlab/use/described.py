"""The model card of a finished run, from its folder alone: neither its data nor its weights are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlab.errors import UserError
from peftlab.report.study import Run
from peftlab.runs.folder import CONFIG, RunFolder, read_predictions
from peftlab.runs.record import RunRecord
from peftlab.scores.scorer import SCORED, Scorer
from peftlab.specs import build, prefixes_of
from peftlab.storage.digests import file_sha256
from peftlab.tasks.task import Task
from peftlab.use.card import Published, metadata, model_card
from peftlab.use.certainty import certainty
from peftlab.use.unchanged import config_sha256, not_of_the_record

_LOADING = """\
import peftlab

run = peftlab.load({folder!r})  # the run's folder
answers = run.predict([...])  # inputs in the form of its data"""


@dataclass(frozen=True)
class Card:
    """A model card."""

    text: str
    """Markdown with metadata before it."""
    metadata: dict[str, Any]
    """The metadata as JSON values."""


def card(folder: Path, place: str, allow: Sequence[str] = ()) -> Card:
    """Return the card of the run in `folder`.

    Its scores are those of the record if they follow from its predictions; if these are gone, the card has none.

    Args:
        folder: the run folder.
        place: what to call it in messages.
        allow: your own packages whose classes the run's configuration may name: their code is run.

    Raises:
        UserError: the run did not finish, or its scores or its configuration contradict the rest.
    """
    run = RunFolder(RunRecord.load(folder), allow=allow)
    if (status := run.record.data["status"]) != "completed":
        raise UserError(f"{place}: its status is '{status}', and only a completed run has a model card")
    config = run.read_config(unused=("callbacks", "logger", "regularizer", "augment"))
    if config_sha256(run.record.data, config) != run.record.data["identity"]["config_sha256"]:
        raise UserError(not_of_the_record(run, CONFIG, "the configuration of its record"))
    task: Task = build({"task": config["task"]}, "", prefixes_of(config))["task"]
    task.learn_labels({"train": []}, config["data"]["labels"])
    published = Published(
        library="peftlab",
        pipeline=task.head.pipeline,
        loading=_LOADING.format(folder=folder.resolve().name),
        about="The adapter is in the run's folder, and peftlab puts it onto the pretrained model.",
    )
    doubt = _doubt(run, task.scorer)
    described = Run(run.record, place)
    return Card(
        model_card(described, published, certainty(run, task.scorer), doubt),
        metadata(described, published, doubt).to_dict(),
    )


def _doubt(run: RunFolder, scorer: Scorer) -> str | None:
    """Return why the scores cannot be checked against the predictions; None if they follow from them.

    Raises:
        UserError: they do not.
    """
    listed = {file["path"]: file["sha256"] for file in run.record.data["files"]}
    for split in SCORED:
        recorded = {score["name"]: score["value"] for score in run.record.scores(split) if score["name"] != "loss"}
        if not recorded:
            continue
        name = f"predictions/{split}.jsonl"
        file = run.path / name
        if not file.is_file():
            return f"{name}, which could confirm them, is gone"
        if listed.get(name) != file_sha256(file):
            raise UserError(not_of_the_record(run, name, "what its record lists"))
        try:
            follows = scorer.measured(read_predictions(file))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            return f"{name}, which could confirm them, cannot be scored: {error}"
        for score, value in recorded.items():
            if not _is_same(value, follows.get(score, math.nan)):
                raise UserError(not_of_the_record(run, f"{split} {score}", "what follows from its predictions"))
    return None


def _is_same(recorded: float | None, follows: float) -> bool:
    """Return whether two scores are one; other code may sum floats in another order, and NaN is recorded as None."""
    return math.isnan(follows) if recorded is None else math.isclose(recorded, follows, rel_tol=1e-6, abs_tol=1e-9)
