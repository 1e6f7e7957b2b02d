"""Evidence on a finished run that does not come from its record: configuration, data, model and files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from peftlab.abstaining.learning import ANSWERS
from peftlab.assembly import adopt, build_tuner, divide_units, draw_batches, refer, store_and_compile
from peftlab.config import RunSpec, build
from peftlab.data.batching import in_order_of_length
from peftlab.data.module import DataModule
from peftlab.devices.hardware import nondeterministic_parts
from peftlab.devices.spec import AUTOCAST, TrainerSpec
from peftlab.errors import UserError
from peftlab.federated.joining import divide
from peftlab.federated.local import trained_on
from peftlab.masking.mask import mask
from peftlab.methods.adapter_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_description
from peftlab.methods.head import is_of_head
from peftlab.methods.labels import LABELS, adapter_labels
from peftlab.models import backbone
from peftlab.one_run import seed_everything
from peftlab.regularizers.regularizer import WeightAverage
from peftlab.runs import label_budget
from peftlab.runs.decisions import DECISIONS, SCOPE, SECTION, STATISTICS
from peftlab.runs.folder import CONFIG, PACKAGES, RunFolder, read_predictions
from peftlab.storage.tensors import load_into
from peftlab.tasks.task import Task
from peftlab.training import labels_used, trail
from peftlab.training.trail import TrailOf, hashes
from peftlab.training.tuner import Tuner
from peftlab.use.decisions import contradicting, evident
from peftlab.use.scope_evidence import contradicting_scope, evident_scope
from peftlab.validation import checked

_ONLY_SHOWS = "peftlab.callbacks.progress"
"""The module of callbacks that do not affect training."""

SAMPLE = 32
"""How many predictions of each split are computed again."""

_SAME_NUMBER = 1e-3
"""The tolerance for a recorded probability: other batches and other machines round differently."""
_SAME_NUMBER_IN_HALF = 0.1
"""The tolerance for a run in 16 bits."""


@dataclass(frozen=True)
class Answers:
    """The predictions of one split, checked against the data."""

    split: str
    scores: dict[str, float | None]
    """The scores that follow from them, by name; None: they cannot be read."""
    faults: list[str]
    """Their faults, as text."""


@dataclass(frozen=True)
class Course:
    """The course of the training that follows from data and budget."""

    steps: int
    """Optimiser steps of the whole budget."""
    steps_of_epoch: int
    interval: int
    """Optimiser steps between validations."""
    seen: Callable[[int], tuple[int, int]]
    """The number of examples and tokens seen after so many steps."""


@dataclass(frozen=True)
class Evidence:
    """All evidence on a run; None or empty where it is missing."""

    expected: list[str]
    """Names of the files that every finished run of this configuration has."""
    data: dict[str, Any]
    """The section of the record."""
    course: Course
    answers: list[Answers]
    """For the splits that the run was scored on, if their predictions are here."""
    environment: dict[str, Any]
    """The entries of the record's section that follow from the configuration."""
    augments: bool
    """Whether texts of training were augmented, or others drawn beside them, so that the data do not tell lengths."""
    may_stop_early: bool
    """Whether a callback may end the training before its budget."""
    method: dict[str, Any]
    """The section of the record, without the size of the adapter."""
    adapter: list[str]
    """Contradictions between the adapter and the best checkpoint, as text."""
    trail: TrailOf | None
    broken_trail: str | None
    """What is wrong with the file of the trail."""
    best: list[str | None] | None
    """The hashes of the best checkpoint's tensors, in the order of the trail; None: they cannot be compared, or one
    cannot."""
    logged: dict[str, set[float]]
    """All values in ``metrics.csv``, by metric."""
    labels: dict[str, Any] | None
    """The section `label_budget` of the record; None: it cannot be told."""
    decisions: dict[str, Any] | None
    """The section of the record, empty if the task learns none; None: there are no predictions to learn from."""

    scope: dict[str, Any] | None = None
    """The section of the record on what is out of scope; None: there is none, or it cannot be told."""

    @property
    def sections(self) -> dict[str, dict[str, Any]]:
        """The sections of capabilities in the record, as far as they follow from what is here."""
        found = {SECTION: self.decisions, label_budget.SECTION: self.labels, SCOPE: self.scope}
        return {name: section for name, section in found.items() if section is not None}


@dataclass(frozen=True)
class _Model:
    """The trained model, for computing a few predictions again."""

    tuner: Tuner
    spec: RunSpec
    near: float
    """The tolerance for a recorded probability."""

    def predicts_otherwise(self, rows: Sequence[Mapping[str, Any]], data: DataModule, split: str) -> Iterator[str]:
        """Yield the first prediction, of a sample spread over the split, that the model does not make."""
        members, trainer = data.splits[split], self.spec.trainer
        chosen = sorted({int(place) for place in np.linspace(0, members.rows - 1, SAMPLE)})
        device = torch.device("cuda" if trainer.accelerator == "gpu" else "cpu")
        model, dtype = self.tuner.to(device).eval(), AUTOCAST.get(trainer.precision)
        for batch in in_order_of_length(members.encoded.lengths[chosen], data.spec.eval_batch_size):
            places = [chosen[i] for i in batch]
            collated = data.task.collate(members.examples, members.encoded, places).to(device)
            with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype is not None):
                again = data.task.answers(model(collated), collated, model.model, final=data.task.generates)
            for place, one in zip(places, again, strict=True):
                kept = rows[place]
                if kept.get("input") != one.get("input") or not data.task.agree(kept, one, self.near):
                    yield f"the adapter predicts '{one['id']}' differently"
                    return


def prepared(spec: RunSpec, run: str) -> tuple[DataModule, Tuner]:
    """Return the loaded data of a run, and its model as it was before training, with the run's storage dtype.

    Args:
        spec: the run's specification.
        run: the digest of its identity, which its batches may be drawn by.

    Raises:
        UserError: data or model cannot be read.
    """
    seed_everything(spec)
    pretrained = backbone.fetch(spec.model, spec.task)
    data = DataModule(spec.data, spec.task, pretrained.processor(spec.task.processor), spec.budget, spec.seed)
    data.load()
    divide(spec.federated, data)
    divide_units(spec, data)
    draw_batches(spec, data, run)
    refer(spec, pretrained, data, data.budget.scored)
    tuner = build_tuner(spec, pretrained)
    adopt(spec, tuner)
    store_and_compile(tuner.model, replace(spec.trainer, compile=False))
    return data, tuner


def gather(folder: RunFolder, spec: RunSpec, config: Mapping[str, Any], data: DataModule, tuner: Tuner) -> Evidence:
    """Return the evidence on the run in `folder`.

    Args:
        folder: the run folder; its record is not used.
        spec: the run's specification, for this machine.
        config: the run's configuration, unchanged.
        data: the run's data.
        tuner: the run's model; it gets the weights of the best checkpoint if that is here, else those of the adapter.
    """
    adapter = list(_adapter(folder, spec, tuner))
    method = {"name": spec.peft.name, **spec.peft.count(tuner.model)}  # a model outside torch is in the adapter's file
    decisions = evident(folder, data.task, data.budget.test) if data.task.decides else {}
    undecided = contradicting(folder, decisions)
    section = None if spec.derived is not None else spec.out_of_scope
    scope = None if section is None else evident_scope(folder, section, data, spec.seed)
    if scope is not None:
        undecided += contradicting_scope(folder, scope)
    in_half = config["trainer"]["precision"] != "32-true"
    is_trained = not adapter and (folder.best.is_file() or (folder.adapter / ADAPTER_WEIGHTS).is_file())
    model = _Model(tuner, spec, _SAME_NUMBER_IN_HALF if in_half else _SAME_NUMBER) if is_trained else None
    read, fault = _read_trail(folder.trail)
    splits = data.budget.scored
    course = _course(spec, data)
    expected = _expected(splits, data.task, spec.derived is None, course.steps)
    if section is not None:
        statistics = [f"adapter/{STATISTICS}"] if section.scorer.READS == "features" else []
        expected += [f"adapter/{DECISIONS}", f"predictions/{ANSWERS}", *statistics]
    has_csv = any(_is_of(node, "peftlab.loggers.metrics_csv") for node in config["logger"].values())
    return Evidence(
        expected=[*expected, *(_logged_files(spec, splits) if has_csv else ())],
        data=data.describe(),
        course=course,
        answers=[_answers(folder, data, split, model) for split in splits],
        environment=_environment(config),
        augments=spec.task.draws_partners
        or any(node["share"] > 0 for node in (config.get("augment") or {}).values() if node is not None),
        may_stop_early=any(not _is_of(node, _ONLY_SHOWS) for node in config["callbacks"].values()),
        method=method,
        adapter=[*adapter, *undecided],
        trail=read,
        broken_trail=fault,
        best=None if read is None or spec.allow or _averages(config) else _best(folder, read, config, tuner),
        logged=_logged(folder.path / "metrics.csv") if has_csv else {},
        labels=None if spec.allow or spec.derived is not None else _labels(data, config, course.steps),
        decisions=decisions,
        scope=scope,
    )


def _labels(data: DataModule, config: Mapping[str, Any], steps: int) -> dict[str, Any]:
    callbacks = {name: node for name, node in config["callbacks"].items() if node is not None}
    return labels_used.label_budget(data, build(callbacks, "callbacks").values(), steps)


def _environment(config: Mapping[str, Any]) -> dict[str, Any]:
    parts = nondeterministic_parts(checked(TrainerSpec, config["trainer"], "trainer"))
    return {
        "effective_batch_size": config["data"]["batch_size"],
        "deterministic": not parts,
        "nondeterministic_parts": parts,
        "seeds": {"global": config["seed"]},
    }


def _adapter(folder: RunFolder, spec: RunSpec, tuner: Tuner) -> Iterator[str]:
    """Load the trained weights into `tuner`, and yield contradictions between the adapter and the best checkpoint."""
    has_weights = (folder.adapter / ADAPTER_WEIGHTS).is_file()
    try:
        if folder.best.is_file():
            load_into(tuner.trained(), folder.best)
            tuner.eval()  # parameters that a network computes, such as prompts, are saved without dropout
            if has_weights and not _holds(folder.adapter, spec.peft.saved(tuner.model), spec.peft.written(tuner.model)):
                yield "adapter/ does not hold the weights of the best checkpoint"
        elif has_weights:
            spec.peft.load(tuner.model, folder.adapter)
        if (folder.adapter / LABELS).is_file() and adapter_labels(folder.adapter) != spec.task.labels:
            yield f"adapter/{LABELS} has other labels than the data"
        if (folder.adapter / ADAPTER_CONFIG).is_file():
            spec.peft.check_description(read_description(folder.adapter), tuner.model)
    except (UserError, ValueError, OSError, SafetensorError) as error:
        yield f"adapter/, or the best checkpoint: {error}"


def _holds(folder: Path, needed: Mapping[str, Tensor], written: Mapping[str, Tensor]) -> bool:
    """Return whether the adapter in `folder`, of one file or several, has the `needed` tensors, all as `written`."""
    files = (file for file in folder.glob("*.safetensors") if file.name != STATISTICS)
    stored = {name: tensor for file in files for name, tensor in load_file(file).items()}
    return needed.keys() <= stored.keys() <= written.keys() and all(
        tensor.shape == written[name].shape
        and torch.allclose(tensor.float(), written[name].detach().cpu().float(), 1e-4, 1e-6)
        for name, tensor in stored.items()
    )


def _read_trail(path: Path) -> tuple[TrailOf | None, str | None]:
    """Return the trail, or what is wrong with it; neither if there is no trail."""
    try:
        if (whole := trail.read(path)) is None:
            return None, None
        for point in whole.points:
            if not isinstance(point["step"], int) or len(point["hashes"]) != len(whole.tensors):
                raise ValueError(f"no point of a trail: {point['step']}")
            float(point["loss"] or 0)
        if not whole.points:
            raise ValueError("it has no points")
        return whole, None
    except (ValueError, LookupError, TypeError, UserError) as error:
        return None, f"cannot be read: {type(error).__name__}: {error}"


def _averages(config: Mapping[str, Any]) -> bool:
    """Return whether the best checkpoint holds an average of the weights over several steps.

    The specification does not say it: that of a run in use is without regularisers.
    """
    chosen = build(dict(config.get("regularizer") or {}), "regularizer").values()
    return any(isinstance(each, WeightAverage) and each.off is None for each in chosen)


def _best(folder: RunFolder, read: TrailOf, config: Mapping[str, Any], tuner: Tuner) -> list[str | None] | None:
    """Return the hashes of the best checkpoint; None unless the run was on the CPU, as other devices hash otherwise.

    A head that the validation has fitted, after the trail's point, has none.
    """
    if config["trainer"]["accelerator"] != "cpu" or not folder.best.is_file():
        return None
    try:
        tensors = load_file(folder.best)
        fitted = tuner.context.head if tuner.task.fits_head else ()
        found = zip(read.tensors, hashes(tensors[name] for name in read.tensors), strict=True)
        return [None if is_of_head(name, fitted) else own for name, own in found]
    except (ValueError, LookupError, TypeError, SafetensorError):
        return []


def _logged(file: Path) -> dict[str, set[float]]:
    logged: dict[str, set[float]] = {}
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                for name, value in row.items():
                    if value:
                        logged.setdefault(name, set()).add(float(value))
    except (OSError, ValueError, TypeError, csv.Error):  # gone, or changed by hand: its digest shows it
        return {}
    return logged


def _expected(splits: Sequence[str], task: Task, is_trained: bool, steps: int) -> list[str]:
    decisions = (DECISIONS,) if task.decides else ()
    adapter = [f"adapter/{name}" for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG, LABELS, *decisions)]
    predictions = [f"predictions/{split}.jsonl" for split in splits]
    of_training = ["checkpoints/best.safetensors", *(["trail.jsonl"] if steps else [])] if is_trained else []
    return [CONFIG, PACKAGES, *adapter, *of_training, *predictions]


def _logged_files(spec: RunSpec, splits: Sequence[str]) -> list[str]:
    scorer = spec.task.scorer
    tables = scorer.tables(scorer.total([]))
    return ["metrics.csv", *(f"tables/{split}/{table}.csv" for split in splits for table in tables)]


def _is_of(node: Mapping[str, Any], module: str) -> bool:
    """Return whether a section of the configuration names a class of `module`."""
    return str(node.get("_target_")).rpartition(".")[0] == module


def _course(spec: RunSpec, data: DataModule) -> Course:
    of_epoch = data.steps_of_epoch()
    tokens = data.splits["train"].encoded.tokens

    def seen(steps: int) -> tuple[int, int]:
        if spec.federated is not None and data.clients:
            of_clients = list(trained_on(data, spec.federated, steps))
            return len(of_clients), int(tokens[of_clients].sum())
        epochs, rest = divmod(steps, of_epoch)
        if data.poisson is not None:
            drawn = [example for step in range(steps) for example in data.plan_of(step // of_epoch)[step % of_epoch]]
            return len(drawn), int(tokens[drawn].sum())
        begun = [example for batch in data.plan_of(epochs)[:rest] for example in batch]
        return epochs * len(tokens) + len(begun), int(epochs * tokens.sum() + tokens[begun].sum())

    return Course(
        steps=spec.steps(of_epoch),
        steps_of_epoch=of_epoch,
        interval=data.validation_interval(),
        seen=seen,
    )


def _answers(folder: RunFolder, data: DataModule, split: str, model: _Model | None) -> Answers:
    """Return the predictions of `split`, checked; without a model none are computed again."""
    task, file = data.task, folder.predictions / f"{split}.jsonl"
    scorer = task.scorer
    names: dict[str, float | None] = dict.fromkeys(scorer.measured([]))
    try:
        rows = read_predictions(file)
        scores = scorer.measured(rows)
        faults = [*_other_examples(rows, data, split), *_contradictions(rows, task)]
        if model is not None and not faults:
            faults += model.predicts_otherwise(rows, data, split)
        return Answers(split, {**scores}, [mask(fault) for fault in faults])
    except FileNotFoundError:
        return Answers(split, names, [])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return Answers(split, names, [mask(f"cannot be scored: {error}")])


def _other_examples(rows: Sequence[Mapping[str, Any]], data: DataModule, split: str) -> Iterator[str]:
    examples = data.splits[split].examples
    if len(rows) != len(examples):
        yield f"{len(rows)} predictions for {len(examples)} examples"
    for row, example in zip(rows, examples, strict=False):
        if row["id"] != example.id:
            yield f"'{row['id']}' stands where the data has '{example.id}'"
            return
        if row["gold"] != json.loads(json.dumps(data.task.gold(example))):
            yield f"'{row['id']}' has other gold than the data"
            return
        group = getattr(example, "group", None)
        if row.get("group", group) != group:  # rows of older runs have none
            yield f"'{row['id']}' has another group than in the data"
            return


def _contradictions(rows: Sequence[Mapping[str, Any]], task: Task) -> Iterator[str]:
    """Yield the first prediction that does not follow from its own numbers, such as the probabilities of all labels."""
    for row in rows:
        if not task.is_consistent(row, task.decisions):
            yield f"the prediction for '{row['id']}' contradicts its probabilities"
            return
