"""Finds examples that may be wrong: label errors by a finished run, everything else by reading a data set.

Nothing is written except, for the training split, the runs on its folds, which are runs like any other.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from peftlab.composing.compose import compose
from peftlab.data.cleaning import copies, unread
from peftlab.data.cleaning.copies import Entry
from peftlab.data.cleaning.finding import REASONS, Finding
from peftlab.data.cleaning.judged import label_errors
from peftlab.data.cleaning.label_errors import ScoreName
from peftlab.data.module import DataModule
from peftlab.devices.process_state import restored
from peftlab.errors import UserError
from peftlab.models import backbone
from peftlab.one_run import run as train
from peftlab.one_run import settle
from peftlab.runs.find import find
from peftlab.runs.folder import RunFolder, read_predictions
from peftlab.runs.record import RunRecord
from peftlab.tasks.labelled import LabelledTask
from peftlab.use.finished import load

log = logging.getLogger("peftlab")

Rows = list[dict[str, Any]]
"""The predictions of a split."""


def label_errors_of(
    run: str | Path,
    splits: Sequence[str] = (),
    folds: int = 5,
    allow: Sequence[str] = (),
    score: ScoreName = "self_confidence",
) -> list[Finding]:
    """Return the label errors that the model of a finished run suggests, split by split, the worst first.

    Validation and test are out of the model's sample: their predictions are taken from the run's folder. For the
    training split, a run of the same configuration is trained for each of `folds` folds and asked about that fold;
    folds that are finished already are not trained again.

    Args:
        run: the run's folder, or the start of its id.
        splits: of ``train``, ``validation`` and ``test``; by default the last two, as far as the run has them.
        folds: the number of folds of the training split.
        allow: your own packages whose classes the run's configuration may name: their code is run.
        score: the score by which examples are ranked.

    Raises:
        UserError: there is no such run, it did not finish, or its task does not give each label a probability.
    """
    folder = RunFolder(RunRecord.load(find(run)), allow=allow)
    if folder.record.data["status"] != "completed":
        raise UserError(f"{folder.path}: the run is not completed: only a completed run has all its predictions")
    kept = [split for split in ("validation", "test") if (folder.predictions / f"{split}.jsonl").is_file()]
    if not (splits or kept):
        raise UserError(f"{folder.predictions}: holds no predictions, neither validation.jsonl nor test.jsonl")
    findings: list[Finding] = []
    for split in splits or kept:
        rows = _out_of_fold(folder, folds) if split == "train" else _predictions(folder, split)
        labels = _labels(folder)
        findings += label_errors(rows, labels, split, score)
    return findings


def problems_of(overrides: Sequence[str]) -> list[Finding]:
    """Return what is to be said of a data set without a trained model: copies, and texts that are empty or cut.

    Every example is read, whatever the configuration leaves out: `data.duplicates`, `data.clean`, `data.fold` and the
    limits of the budget do not apply.

    Args:
        overrides: choose data, task and model, in Hydra's grammar.

    Raises:
        UserError: the configuration or the data cannot be used.
    """
    with restored():
        _, spec = settle(compose(*overrides))
        options: dict[str, Any] = {"duplicates": "keep", "clean": None, "fold": None}
        whole = replace(spec.data, **options)  # type: ignore[type-var]  # a dataclass, made by an alias of it
        sizes = ("train_examples", "per_class", "half", "eval_examples", "overfit_batches")
        limits: dict[str, Any] = dict.fromkeys(sizes)
        budget = replace(spec.budget, **limits)  # type: ignore[type-var]
        processor = backbone.fetch(spec.model, spec.task).processor(spec.task.processor)
        data = DataModule(whole, spec.task, processor, budget, spec.seed)
        data.load()
    entries, lost = [], []
    for split, members in data.splits.items():
        for n, example in enumerate(members.examples):
            entries.append(Entry(split, example.id, spec.task.text_key(example), spec.task.gold(example)))
            lost.append(spec.task.lost(members.encoded, n))
    return sorted(
        [*copies.findings(entries), *unread.findings(entries, lost)], key=lambda one: REASONS.index(one.reason)
    )


def _labels(folder: RunFolder) -> list[str]:
    """Return the labels of the run, in the order of its predictions.

    Raises:
        UserError: it has none.
    """
    labels = folder.record.data["data"]["labels"]
    if not labels:
        raise UserError(f"{folder.path}: its task has no labels, so that none can be wrong")
    return list(labels)


def _predictions(folder: RunFolder, split: str) -> Rows:
    """Return the predictions of a split with the probabilities of all labels, computed again if some were not kept.

    Raises:
        UserError: the run has no predictions of the split, or the file is damaged.
    """
    file = folder.predictions / f"{split}.jsonl"
    if not file.is_file():
        raise UserError(f"{file}: there is no such file: the run made no predictions of its {split} split")
    rows = _read(file)
    if not folder.read_config(unused=("callbacks", "logger", "regularizer", "augment"))["task"].get("top_k"):
        return rows
    log.info("%s: task.top_k left out probabilities: the %s split is predicted again", folder.path, split)
    again = load(folder.path, folder.allow)
    if isinstance(again.spec.task, LabelledTask):
        again.spec.task.top_k = None
    with tempfile.TemporaryDirectory() as out:
        again.evaluate(splits=[split], out=out)
        return _read(Path(out) / f"{split}.jsonl")


def _read(file: Path) -> Rows:
    try:
        return read_predictions(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read ({error}). `peftlab evaluate RUN --out DIR` predicts again") from error


def _out_of_fold(folder: RunFolder, folds: int) -> Rows:
    """Return predictions of every training example by a run that was not trained on its fold; trains what is missing.

    The runs have the configuration of the run in `folder` except for ``data.fold``, ``task.top_k`` and the limits on
    what is evaluated; each is found by its identity, or resumed, like any other run.

    Raises:
        UserError: a fold cannot be trained.
    """
    if folds < 2:
        raise UserError(f"--folds {folds}: at least 2 are needed")
    rows: Rows = []
    for number in range(1, folds + 1):
        config = folder.read_config()
        config["data"] |= {"fold": f"{number}/{folds}"}
        config["task"] |= {"top_k": None} if "top_k" in config["task"] else {}
        config["budget"] |= {"test": True, "eval_examples": None}
        config |= {"run_dir": None, "sweep_dir": None, "existing": "skip"}
        log.info("fold %d of %d", number, folds)
        with restored():
            record = train(config, ["peftlab", "clean"], [f"data.fold={number}/{folds}"])
        rows += _read(RunFolder(record).predictions / "test.jsonl")
    return rows
