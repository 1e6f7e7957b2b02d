"""Learns the scope of a run after its training: reads the model over all sets of texts, decides, measures, keeps."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from peftlab.abstaining.features import Answers, read
from peftlab.abstaining.measuring import TEST, VALIDATION, decided, kept, measured
from peftlab.abstaining.scope import Scope
from peftlab.abstaining.scores import score_called
from peftlab.abstaining.spec import OutOfScope
from peftlab.data.batching import in_order_of_length
from peftlab.data.module import DataModule, Split
from peftlab.devices.spec import AUTOCAST, TrainerSpec
from peftlab.runs.decisions import SCOPE, save_decisions
from peftlab.runs.folder import RunFolder, each_prediction
from peftlab.runs.record import RunRecord
from peftlab.storage.atomic import replacing

log = logging.getLogger("peftlab")

ANSWERS = f"{SCOPE}.jsonl"
"""The file of the answers to all sets of texts, among the predictions."""

_KEPT = ("id", "input", "drawn_by", "predicted", "probabilities")
"""What is kept of an answer."""


@dataclass
class Reader:
    """A model over the texts of loaded data, longest first, in the arithmetic of its run."""

    model: nn.Module
    data: DataModule
    trainer: TrainerSpec

    def read(self, split: Split, reads: Any) -> tuple[Answers, np.ndarray]:
        """Return the answers to all texts, and what a score reads of them, in order; see `features.read`."""
        answers: dict[int, dict[str, Any]] = {}
        values: dict[int, np.ndarray] = {}
        self.model.to(self.device).eval()
        dtype = AUTOCAST.get(self.trainer.precision)
        with torch.inference_mode(), torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            for indices in in_order_of_length(split.encoded.lengths, self.data.spec.eval_batch_size):
                for some, (answered, of) in self._fitting(split, indices, reads):
                    answers |= zip(some, answered, strict=True)
                    values |= zip(some, of, strict=True)
        return [answers[n] for n in range(split.rows)], np.stack([values[n] for n in range(split.rows)])

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return torch.device("cuda" if self.trainer.accelerator == "gpu" else "cpu")

    def _fitting(
        self, split: Split, indices: Sequence[int], reads: Any
    ) -> Iterator[tuple[Sequence[int], tuple[Answers, np.ndarray]]]:
        """Yield the texts that fit into memory together with what is read of them."""
        task = self.data.task
        try:
            batch = task.collate(split.examples, split.encoded, indices)
            if self.data.static is not None:
                batch = self.data.static.padded(batch)
            found = read(task, self.model, batch.to(self.device), reads)
        except torch.OutOfMemoryError:
            if len(indices) == 1:
                raise
            found = None
        if found is not None:
            yield indices, found
            return
        middle = (len(indices) + 1) // 2
        for half in (indices[:middle], indices[middle:]):
            yield from self._fitting(split, half, reads)


def check_texts(section: OutOfScope | None, data: DataModule) -> None:
    """Check, before the training, that its texts are enough for what a score learns of them.

    Raises:
        ConfigError: they are not.
    """
    if section is not None and (score := score_called(section.score)).READS == "features":
        classes = _classes(data)
        stand_ins = np.random.default_rng(0).normal(size=(len(classes), 2))  # what matters is how many there are
        score.learn(stand_ins[classes >= 0], classes[classes >= 0], **section.options)


def learn_scope(section: OutOfScope | None, reader: Reader, folder: RunFolder, seed: int) -> None:
    """Learn what is out of scope, and keep it: beside the adapter, among the predictions, and in the record.

    Args:
        section: of the configuration; None: nothing is learnt.
        reader: of the best checkpoint.
        folder: of the run, with its adapter.
        seed: of the run.
    """
    if section is None:
        return
    task, score = reader.data.task, score_called(section.score)
    statistics: dict[str, np.ndarray] = {}
    if score.READS == "features":
        _, features = reader.read(reader.data.splits["train"], score.READS)
        classes = _classes(reader.data)
        statistics = score.learn(features[classes >= 0], classes[classes >= 0], **section.options)
    learnt = Scope(section.score, section.options, statistics)
    splits = (VALIDATION, TEST)[: 1 + reader.data.budget.test]
    _write(folder.predictions / ANSWERS, rows(learnt, reader, splits))
    scope, found = follows(learnt, section, folder, reader.data, seed)
    described = scope.described | {"statistics_sha256": scope.save(folder.adapter)}
    save_decisions({**task.decisions, SCOPE: described}, folder.adapter)
    folder.record.extend(SCOPE, {"learnt": described, **found})
    _tell(found)


def _classes(data: DataModule) -> np.ndarray:
    """Return the class of each training text, -1 without gold."""
    numbers = {label: n for n, label in enumerate(data.task.labels)}
    return np.asarray([numbers.get(data.task.gold(one), -1) for one in data.splits["train"].examples])


def follows(
    learnt: Scope, section: OutOfScope, folder: RunFolder, data: DataModule, seed: int
) -> tuple[Scope, dict[str, Any]]:
    """Return the scope with its decisions, and what is measured, as both follow from the answers that a run kept."""
    sets = kept(each_prediction(folder.predictions / ANSWERS))
    scope = decided(learnt, section, sets, data.task.labels, seed)
    found = measured(scope, section, sets, data.task.labels, compared(folder.record, data))
    return scope, {"held_out": [] if data.spec.aside is None else list(data.spec.aside.names), **found}


def compared(record: RunRecord, data: DataModule) -> int:
    """Return the number of checkpoints that the best one was chosen among."""
    return max(1, len(record.course("validated"))) if data.budget.select == "best" else 1


def rows(scope: Scope, reader: Reader, splits: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield what is kept of each text of `splits`, and of each set of texts that are of no class."""
    data = reader.data
    for name in (*splits, *data.aside):
        split = data.splits[name] if name in splits else _unlabelled(data.aside[name])
        answers, values = reader.read(split, score_called(scope.score).READS)
        examples = data.splits[name].examples if name in splits else data.aside[name].examples
        for example, answer, score in zip(examples, answers, scope.scored(values), strict=True):
            row = {key: answer[key] for key in _KEPT if key in answer}
            yield {"set": name, "gold": data.task.gold(example), **row, "score": float(score)}


def _unlabelled(split: Split) -> Split:
    """Return the texts without their labels, which the task does not know."""
    return Split([replace(one, label=None) for one in split.examples], split.encoded)


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def _tell(found: dict[str, Any]) -> None:
    shown = found.get("test", found["validation"])
    log.info("out of scope: %.1f %% of the texts in scope are accepted", 100 * shown["accepted"])
    for name, one in found.get("outside", {}).items():
        log.info(
            "out of scope: of the set %s, %.1f %% are rejected; AUROC %.3f", name, 100 * one["rejected"], one["auroc"]
        )
