"""The story of ``peftlab diff``: two models of one architecture, their weights, what they compute, their answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from peftlab.data.batching import in_order_of_length
from peftlab.devices.process_state import restored
from peftlab.errors import UserError
from peftlab.models.backbone import Backbone
from peftlab.runs.folder import DIFFERENCES, keep_beside
from peftlab.use.differing.flips import Flips, flips
from peftlab.use.differing.passes import Layer, observed, plain_model
from peftlab.use.differing.representations import Comparison, Insertions, LayerChange, LogitChange
from peftlab.use.differing.virtual import VirtualToken, read_as_words
from peftlab.use.differing.weights import WeightChanges, cosines, cut_alike, tuned_weights, weight_changes
from peftlab.use.examples import examples_of, some
from peftlab.use.predictor import Predictor
from peftlab.use.robustness.victim import Victim

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

log = logging.getLogger("peftlab")


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    examples: int | None = 200
    """The number of examples, a random sample; None: the whole split."""
    split: str = "validation"
    top: int = 10
    """How many leading singular directions of each fine-tuned matrix are judged."""
    below: float = 0.5
    """The cosine below which one of them is an intruder."""
    seed: int = 0
    """Of the sample."""


@dataclass
class RunChanges:
    """What training changed in one run's model, against the pretrained one."""

    run: str
    name: str
    method: str
    seed: int
    weights: WeightChanges
    virtual_tokens: list[VirtualToken]
    added: dict[str, float] = field(default_factory=dict)
    """By inserted module, the mean norm of what it adds to a token's hidden states, over the norm of these."""
    prefixes: dict[str, Mapping[str, float]] = field(default_factory=dict)
    """By attention, the mean norms of the keys and the values of its prefix."""
    to_virtual: dict[Layer, float] = field(default_factory=dict)
    """By block, the mean share of its attention that a token of a text pays to virtual tokens."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        shares = [{**layer._asdict(), "share": share} for layer, share in self.to_virtual.items()]
        return {**asdict(replace(self, to_virtual={})), "to_virtual": shares}


@dataclass(frozen=True)
class Diff:
    """How two models differ: the pretrained one and a run's, or those of two runs."""

    before: str
    """The folder of the first run; for one run, the pretrained model."""
    after: str
    """The folder of the last run."""
    split: str
    examples: int
    of: int
    """How many the split has."""
    runs: list[RunChanges]
    cosines: dict[str, float]
    """The cosines between the changes of two runs, by parameter."""
    of_tokens: bool
    """Whether hidden states are compared token by token, or as the mean of each text."""
    layers: list[LayerChange]
    logits: LogitChange | None
    answers: Flips | None
    left_out: dict[str, str]
    """What cannot be said, with the reason."""
    settings: dict[str, Any]
    seconds: float
    at: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(replace(self, runs=[])), "runs": [run.document() for run in self.runs]}


@restored()
def diff(run: FinishedRun, other: FinishedRun | None = None, settings: Settings | None = None) -> Diff:
    """Measure what training changed in the model of `run`, or how the models of two runs differ.

    Weights are compared with the original pretrained ones, also where a method rewrites these; if layers or heads were
    cut out, with those that were kept. Everything is computed in fp32. What one run changed is kept beside its record.

    Raises:
        UserError: the runs have different pretrained models, the data is not what they were scored on, or a model is
            none of transformers.
    """
    settings, start = settings or Settings(), time.perf_counter()
    runs = [run] if other is None else [run, other]
    if len({one.pretrained.weights_sha256 for one in runs}) > 1:
        raise UserError(
            f"diff: {runs[0].folder.path} and {runs[1].folder.path} have different pretrained models, and there is no "
            "common start to compare them with. `peftlab compare` compares their settings and scores"
        )
    torch.manual_seed(settings.seed)  # of a new head, and of approximate decompositions
    base = run.pretrained.load(run.parts.task)
    base = base._replace(model=cut_alike(base.model, run.parts.peft, base.context).eval().to(run.device))
    left_out: dict[str, str] = {}
    everything = examples_of(run, settings.split)
    examples = some(everything, settings.examples, settings.seed)
    weights = [_weights(one, base, left_out) for one in runs]
    head = base.context.head
    changes = [_changes(one, base, after, settings) for one, after in zip(runs, weights, strict=True)]
    alike = {} if other is None else cosines(base.model, weights[0], weights[1], head)
    del weights
    layers: list[LayerChange] = []
    logits: LogitChange | None = None
    answers: Flips | None = None
    if other is not None and _task_of(run) != _task_of(other):
        left_out["hidden states"] = left_out["answers"] = "the runs have different tasks, labels or numbers of tokens"
    else:
        predictors = [one.predictor.in_fp32() for one in runs]
        if other is None:
            predictors.insert(0, replace(predictors[0], model=base.model))
        answers_too = other is not None or _reason_for_no_answers(run, base, left_out)
        layers, logits = _computed(predictors, examples, changes, bool(answers_too), left_out)
        if answers_too:
            answers = _answers(predictors, examples, run.spec.task.selection.metric, left_out)
    result = Diff(
        before=str(run.folder.path) if other else run.pretrained.origin,
        after=str(runs[-1].folder.path),
        split=settings.split,
        examples=len(examples),
        of=len(everything),
        runs=changes,
        cosines=alike,
        of_tokens=run.parts.task.head.outputs != "text",
        layers=layers,
        logits=logits,
        answers=answers,
        left_out=left_out,
        settings=asdict(settings),
        seconds=round(time.perf_counter() - start, 3),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if other is None:
        keep_beside(run.folder.path, DIFFERENCES, result.document())
    return result


def _task_of(run: FinishedRun) -> Any:
    return run.parts.task.name, run.parts.task.labels, run.parts.data.max_tokens


def _weights(run: FinishedRun, base: Backbone, left_out: dict[str, str]) -> dict[str, Tensor]:
    """Return the fine-tuned weights by their names in the plain model.

    Raises:
        UserError: the model has other blocks than the pretrained one.
    """
    model, quantized = run.adapted(), run.parts.model.quantize
    if plain_model(model).config.num_hidden_layers != base.model.config.num_hidden_layers:
        raise UserError(f"diff: the model of {run.folder.path} has other blocks than the pretrained one")
    if quantized != "none":
        left_out["rounding"] = f"the changes of weights include their rounding to {quantized}"
    weights, reason = tuned_weights(model, run.parts.peft)
    if reason is not None:
        left_out[f"weights of {run.parts.peft.name}"] = reason
    return weights


def _changes(run: FinishedRun, base: Backbone, after: Mapping[str, Tensor], settings: Settings) -> RunChanges:
    log.info("%s: what changed in its weights", run.folder.path)
    try:
        weights = weight_changes(base.model, after, base.context.head, settings.top, settings.below)
    except ValueError as error:
        raise UserError(f"{run.folder.path}: its model is no longer of the pretrained one's shape: {error}") from error
    tokens = read_as_words(run.model, run.parts.peft, run.processor.tokenizer) if run.parts.peft.virtual_tokens else []
    record = run.record.data
    return RunChanges(
        str(run.folder.path), str(record["name"]), run.parts.peft.name, int(run.config["seed"]), weights, tokens
    )


def _reason_for_no_answers(run: FinishedRun, base: Backbone, left_out: dict[str, str]) -> bool:
    """Return whether the pretrained model has a trained head; if not, say that it has none."""
    if base.context.fresh:
        left_out["answers"] = (
            f"the pretrained model has no trained head for task={run.parts.task.name}: it gives no answers and logits "
            "to compare the run's with. Name another run to compare with"
        )
    return not base.context.fresh


def _computed(
    predictors: Sequence[Predictor],
    examples: Sequence[Any],
    changes: Sequence[RunChanges],
    logits: bool,
    left_out: dict[str, str],
) -> tuple[list[LayerChange], LogitChange | None]:
    """Return how the hidden states, the attention and the logits of two models differ, and complete `changes`."""
    first, task = predictors[0], predictors[0].task
    encoded = task.encode(examples, first.processor, first.limits)
    comparison = Comparison(task, len(examples))
    insertions = [Insertions() for _ in changes]
    for indices in in_order_of_length(encoded.lengths, first.batch_size):
        batch = task.apart(examples, encoded, indices).to(first.device)
        passes = [observed(predictor.model, batch) for predictor in predictors]
        comparison.add(passes[0], passes[1], batch)
        if logits:
            comparison.add_logits(passes[0], passes[1], batch)
        for insertion, seen in zip(insertions, passes[-len(changes) :], strict=True):
            insertion.add(seen)
    for change, insertion in zip(changes, insertions, strict=True):
        change.added, change.prefixes = insertion.added(), insertion.prefixes()
        change.to_virtual = insertion.to_virtual()
    layers = comparison.layers()
    if not layers:
        left_out["hidden states"] = "the models have no blocks in common"
    elif all(layer.attention is None for layer in layers):
        left_out["attention"] = "the architecture does not show what its tokens attend to"
    return layers, comparison.logits()


def _answers(
    predictors: Sequence[Predictor], examples: Sequence[Any], metric: str, left_out: dict[str, str]
) -> Flips | None:
    task = predictors[0].task
    if task.refers:
        left_out["answers"] = f"task={task.name} scores against the model before training, which is not computed here"
        return None
    labelled = [example for example in examples if task.gold(example) is not None]
    if not labelled:
        left_out["answers"] = f"no example has gold of its own with task={task.name}: no answer is right or wrong"
        return None
    metric = metric if metric in task.scorer.directions else next(iter(task.scorer.directions))
    before, after = (Victim(predictor).judged(labelled) for predictor in predictors)
    return flips(task.scorer, metric, labelled, list(zip(before, after, strict=True)))
