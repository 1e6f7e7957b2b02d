"""Scores a finished run again, with its own precision, batches and scorer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from peftlab.abstaining.learning import Reader, compared, rows
from peftlab.abstaining.measuring import kept, measured
from peftlab.assembly import build_tuner, refer, store_and_compile
from peftlab.data.module import DataModule
from peftlab.data.spec import takes_folders
from peftlab.data.splits import file_of, named_for
from peftlab.data.static_shapes import StaticShapes
from peftlab.devices.process_state import restored
from peftlab.devices.products import products
from peftlab.errors import ConfigError, DataError
from peftlab.models.positions import check_length
from peftlab.one_run import describe
from peftlab.reading.json_form import finite
from peftlab.runs.environment import WITHOUT_EFFECT
from peftlab.runs.folder import CONFIG
from peftlab.scores.scorer import SCORED
from peftlab.speed.attention import attention_kernels
from peftlab.terminal.console import quieten
from peftlab.training.final_scores import score
from peftlab.training.predictions import Predictions
from peftlab.training.tuner import Tuner

if TYPE_CHECKING:
    from peftlab.config import RunSpec
    from peftlab.use.finished import FinishedRun


@dataclass(frozen=True)
class Score:
    """A score computed again."""

    name: str
    split: str
    scorer: str
    value: float
    recorded: float | None
    """The value in the run's record, NaN if it is no number there; None on other data, or if the record has none."""

    @property
    def equal(self) -> bool | None:
        """Whether both are the same to the last digit, or both no numbers."""
        return None if self.recorded is None else bool(finite(self.value) == finite(self.recorded))


@dataclass(frozen=True)
class Evaluation:
    """Scores of a finished run, computed again."""

    scores: list[Score]
    lost: dict[str, dict[str, int]]
    """By split, counts of the parts that the model did not see; a split that was seen whole is not in it."""
    elsewhere: dict[str, tuple[Any, Any]]
    """Entries of the environment that differ, of the run and of this machine: they may change the last digits."""
    not_compared: tuple[str, ...] = ()
    """Why scores of the record, or of now, have no counterpart, a sentence each; empty on other data."""
    scope: dict[str, Any] | None = None
    """What the decisions on scope do on these texts, as in the run's record; None: the run has learnt none."""

    @property
    def equal(self) -> bool | None:
        """Whether all scores that the record has are those of the record; None if it has none of them."""
        comparisons = [score.equal for score in self.scores if score.equal is not None]
        return all(comparisons) if comparisons else None


@restored()
def evaluate(
    run: FinishedRun,
    data: str | Path | None = None,
    splits: Sequence[str] = (),
    threads: int | None = None,
    out: str | Path | None = None,
) -> Evaluation:
    """Score the model of `run` again.

    On the same machine, with the same number of threads, the scores are those of the record to the last digit. Nothing
    is written to the run folder.

    Args:
        run: the run.
        data: new labelled data in the format of the run's: a file, or a folder whose file names name the splits; None:
            the run's own.
        splits: ``validation``, ``test`` or both; by default those that the run was scored on, for new data ``test``.
        threads: CPU threads; None: as many as the run had.
        out: the folder for predictions, ``<split>.jsonl``; None: they are not kept.

    Raises:
        UserError: the data is not what the run was scored on, or cannot be read; or the run has no such label.
    """
    spec = run.spec
    tuner = tuner_of(run)
    scored = DataModule(spec.data, spec.task, run.processor, spec.budget, spec.seed)
    if data is None:
        chosen = list(splits or spec.budget.scored)
        scored.load()
        check_digests(run, scored, chosen)
    else:
        chosen = list(splits) or ["test"]
        options = {"max_tokens": run.max_tokens(tuner.model)}
        scored.spec = replace(spec.data, **options)  # type: ignore[type-var]  # a dataclass, made by an alias of it
        scored.spec.aside = spec.data.aside
        files = _new_files(Path(data), chosen, takes_folders(spec.data.format, Path(data)))
        with _of_the_form_of(run.folder.path):
            scored.load_new(files)
    check_length(tuner.model, scored.longest)
    if spec.trainer.static_shapes:
        scored.static = StaticShapes(run.max_tokens(tuner.model))
    store_and_compile(tuner.model, spec.trainer)
    trainer = trainer_for(spec, [] if out is None else [Predictions(Path(out))])
    recorded = {} if data is not None else _recorded(run)
    scorer = spec.task.scorer.name
    with computing_as(spec, threads or run.record.data["environment"]["threads"]):
        refer(spec, run.pretrained, scored, chosen)
        scores = [
            Score(name, split, scorer, value, recorded.get((split, name, scorer)))
            for split in chosen
            for name, value in score(trainer, tuner, scored, split).items()
        ]
        of_scope = _of_scope(run, tuner, scored, chosen)
        lost = {split: counts for split in chosen if (counts := scored.lost(split))}
        if data is not None:
            return Evaluation(scores, lost, {}, scope=of_scope)
        odd = tuple(_not_compared(scores, [one for one in recorded if one[0] in chosen]))
        return Evaluation(scores, lost, _elsewhere(run, scored, tuner), odd, of_scope)


def _of_scope(run: FinishedRun, tuner: Tuner, data: DataModule, splits: Sequence[str]) -> dict[str, Any] | None:
    """Return what the run's decisions on scope do on the texts of these splits, and on those of no class."""
    if run.scope is None or (section := run.spec.out_of_scope) is None:
        return None
    sets = kept(rows(run.scope, Reader(tuner.model, data, run.spec.trainer), splits))
    return measured(run.scope, section, sets, run.spec.task.labels, compared(run.record, data))


def trainer_for(spec: RunSpec, callbacks: list[Callback]) -> L.Trainer:
    """Return a Lightning trainer that scores models of `spec`, on one device, in the precision of the run."""
    quieten()
    return L.Trainer(
        accelerator=spec.trainer.accelerator,
        devices=1,
        precision=spec.trainer.precision,  # type: ignore[arg-type]  # never auto here: resolved by the run
        deterministic=spec.trainer.deterministic,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@contextmanager
def computing_as(spec: RunSpec, threads: int) -> Iterator[None]:
    """Compute in this context with so many threads, and with the kernels of a run of `spec`."""
    with (
        _threads(threads),
        products(spec.trainer.tf32),
        attention_kernels(spec.trainer.cudnn_attention, spec.trainer.static_shapes is True),
    ):
        yield


def tuner_of(run: FinishedRun) -> Tuner:
    """Return the fine-tuned model of `run` as a new Lightning module, in fp32 and in evaluation mode.

    Raises:
        UserError: the adapter is damaged, or does not fit this run's configuration.
    """
    tuner = build_tuner(run.spec, run.pretrained)
    run.load_adapter(tuner.model)
    return tuner.eval().to(run.device)


def check_digests(run: FinishedRun, data: DataModule, splits: Sequence[str]) -> None:
    """Check that the run was scored on the very files of these splits.

    Raises:
        DataError: a file has changed since.
    """
    for split in splits:
        if data.facts.sha256[split] != run.record.data["identity"]["data_sha256"][split]:
            file = file_of(data.facts.files, data.read_as(split))
            raise DataError(
                f"{data.facts.origin}: {file} is no longer what the run was scored on; score it as new data, "
                "--data FILE"
            )


def _recorded(run: FinishedRun) -> dict[tuple[str, str, str], float]:
    return {
        (score["split"], score["name"], score["scorer"]): math.nan if score["value"] is None else score["value"]
        for score in run.record.scores()
        if score["checkpoint"] == "best"
    }


def _not_compared(now: Sequence[Score], recorded: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Yield, scorer by scorer, which scores only the record has, and which it lacks."""
    computed = [(one.split, one.name, one.scorer) for one in now]
    for what, some, others in (("only in the record", recorded, computed), ("not in the record", computed, recorded)):
        known = set(others)
        missing = [one for one in some if one not in known]
        for scorer in dict.fromkeys(scorer for *_, scorer in missing):
            names = ", ".join(f"{split} {name}" for split, name, own in missing if own == scorer)
            yield f"{what}: {names}, by the scorer '{scorer}'"


def _elsewhere(run: FinishedRun, data: DataModule, tuner: Tuner) -> dict[str, tuple[Any, Any]]:
    then, now = run.record.data["environment"], describe(run.spec, data, tuner)["environment"]
    differing = [key for key in now if key not in WITHOUT_EFFECT and then.get(key) != now[key]]
    return {key: (then.get(key), now[key]) for key in differing}


def _new_files(path: Path, splits: Sequence[str], folders: bool) -> dict[str, Path]:
    """Return the file or folder of each of `splits`: `path` itself, or the entry in it that is named for the split."""
    if not path.exists():
        raise DataError(f"'{path}': there is no such file or folder")
    what = "folder" if folders else "file"
    if not path.is_dir() or (folders and not any(named_for(split, path, folders) for split in SCORED)):
        if len(splits) > 1:
            raise DataError(f"'{path}' is one {what}, and so one split: name one of {', '.join(splits)}")
        return {splits[0]: path}
    files = {}
    for split in splits:
        names = named_for(split, path, folders)
        if len(names) != 1:
            reason = f"several could be ({', '.join(names)})" if names else f"no {what}'s name says so"
            raise DataError(f"'{path}': which {what} is the {split} split? {reason}; name the {what} itself")
        files[split] = path / names[0]
    return files


@contextmanager
def _of_the_form_of(run: Path) -> Iterator[None]:
    """Add to errors while new data is read what it must look like: the options that they suggest do not apply here."""
    try:
        yield
    except (DataError, ConfigError) as error:
        raise type(error)(
            f"{error} (New data has the form and the labels of the run's own, see {run / CONFIG}.)"
        ) from error


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
