"""Measures how a finished run's model holds up: scores before and after each perturbation, paired, and their cost."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from peftlab.devices.process_state import restored
from peftlab.errors import UserError
from peftlab.report.statistics.bootstrap import paired_bootstrap
from peftlab.report.statistics.measured import cluster_counts, score_of
from peftlab.report.statistics.significance import approximate_randomisation
from peftlab.runs.folder import ROBUSTNESS, keep_beside
from peftlab.scores.paired import counts_of, holm_of_known, mcnemar
from peftlab.scores.scorer import Scorer
from peftlab.use.examples import examples_of, some, units_of
from peftlab.use.robustness.behaviour import Behaviour, behaviours, read_suite, sentiments
from peftlab.use.robustness.perturbations import Perturbation, Settings, chosen
from peftlab.use.robustness.victim import Judged, Victim

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

log = logging.getLogger("peftlab")


@dataclass(frozen=True)
class Drop:
    """The loss of a score, with its paired 95 % interval over the units of the measurement."""

    value: float
    low: float | None
    """None: there is only one unit."""
    high: float | None


@dataclass(frozen=True)
class Outcome:
    """What one perturbation does to the scores."""

    perturbation: str
    changed: int
    """Examples that it changed."""
    scores: dict[str, float]
    """All scores of the perturbed examples."""
    drop: Drop
    """The loss of the score that the run was selected by, as perturbed minus clean where less is better; positive: the
    model is worse on the perturbed examples."""
    broken: int
    """Examples answered rightly before and wrongly after."""
    mended: int
    """Examples answered wrongly before and rightly after."""
    p: float | None
    """The p value of McNemar's test; where several examples are of one group, and flip together, or none flips, as in a
    regression, of approximate randomisation of the score. It is adjusted for the number of slices (Holm). None for an
    attack, which chooses the worst answer: that it breaks more than it mends is no surprise."""
    queries: int
    """Examples that the model computed."""
    passes: int
    """Forward passes, each of a batch."""
    seconds: float
    details: dict[str, Any]
    """Facts of the perturbation itself, such as its strength."""


@dataclass(frozen=True)
class Robustness:
    """How a run's model holds up on one split."""

    run: str
    split: str
    examples: int
    """How many were perturbed."""
    of: int
    """How many the split has."""
    units: str
    """What is drawn and swapped: ``groups`` of examples, such as documents, or ``examples``."""
    metric: str
    """The score that the run was selected by, or the first one of its task where that was the loss."""
    scorer: str
    clean: dict[str, float]
    """All scores of the examples as they are; empty if only behaviour was tested."""
    outcomes: list[Outcome]
    left_out: dict[str, str]
    """Perturbations that do not suit the run, with the reason."""
    behaviour: list[Behaviour]
    settings: dict[str, Any]
    at: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        behaviour = [{**asdict(one), "failure_rate": one.failure_rate} for one in self.behaviour]
        return {**asdict(self), "behaviour": behaviour}


@restored()
def robustness(
    run: FinishedRun,
    perturb: Sequence[str] | None = None,
    split: str = "test",
    limit: int | None = 500,
    settings: Settings | None = None,
    behaviour: str | None = None,
    sentiment_labels: Sequence[str] = (),
) -> Robustness:
    """Measure how the model of `run` holds up when its inputs are perturbed, and keep that beside its record.

    Args:
        run: the run.
        perturb: the perturbations, see `peftlab.use.robustness.perturbations.NAMES`; None: all that suit the run.
        split: ``validation`` or ``test``.
        limit: the number of examples, a random sample that depends on the seed alone; None: the whole split.
        settings: the strengths of the perturbations; None: the defaults.
        behaviour: a file of behaviour tests, see `peftlab.use.robustness.behaviour`; None: none.
        sentiment_labels: the run's labels for negative, neutral and positive, as `behaviour.sentiments` takes them.

    Raises:
        UserError: the data is not what the run was scored on, or its examples have no gold; a perturbation does not
            suit the run, or none does; the file has no behaviour tests for it.
    """
    settings = settings or Settings()
    spec, predictor = run.spec, run.predictor
    if spec.task.processor != "tokenizer":
        raise UserError(f"robustness: task={spec.task.name} takes no texts, and only texts are perturbed")
    tests = _behaviour(run, behaviour, sentiment_labels) if behaviour is not None else []
    everything = examples_of(run, split)
    if all(predictor.task.gold(one) is None for one in everything):
        raise UserError(
            f"robustness: no example of the {split} split has gold of its own with task={spec.task.name}: no answer is "
            "right or wrong, before or after a change. Measure a run of a task with labels"
        )
    examples = some(everything, limit, settings.seed)
    made, left_out = chosen(perturb, run, everything, settings)
    scorer = predictor.task.scorer
    metric = spec.task.selection.metric
    metric = metric if metric in scorer.directions else next(iter(scorer.directions))
    victim = Victim(predictor)
    clean = victim.judged(examples) if made else []
    outcomes = []
    for name, perturbation in made.items():
        try:
            outcomes.append(_outcome(name, perturbation, victim, examples, clean, scorer, metric))
        except UserError as error:
            if perturb is not None:
                raise
            left_out[name] = str(error)
    if not outcomes and behaviour is None:
        raise UserError(f"{run.folder.path}: there is nothing to measure. {'. '.join(left_out.values())}")
    result = Robustness(
        run=str(run.folder.path),
        split=split,
        examples=len(examples),
        of=len(everything),
        units=units_of(examples)[1],
        metric=metric,
        scorer=scorer.name,
        clean=scorer.scores(scorer.total(one.answer for one in clean)) if clean else {},
        outcomes=_adjusted(outcomes),
        left_out=left_out,
        behaviour=tests,
        settings=asdict(settings),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    keep_beside(run.folder.path, ROBUSTNESS, result.document())
    return result


def _behaviour(run: FinishedRun, file: str, names: Sequence[str]) -> list[Behaviour]:
    labels = run.predictor.task.labels
    head = run.predictor.task.head
    if (head.outputs, head.problem_type) != ("text", "single_label_classification"):
        raise UserError(
            f"--behaviour: task={run.parts.task.name} gives a text no single label; behaviour tests need one"
        )
    roles = sentiments(labels, names)
    return behaviours(run.predictor, read_suite(file, labels, roles), roles)


def _outcome(
    name: str,
    perturbation: Perturbation,
    victim: Victim,
    examples: Sequence[Any],
    clean: Sequence[Judged],
    scorer: Scorer,
    metric: str,
) -> Outcome:
    log.info("%s: %d examples", name, len(examples))
    victim.queries = victim.passes = 0
    start = time.perf_counter()
    perturbed = perturbation.perturbed(victim, examples)
    seconds = time.perf_counter() - start
    names, _ = units_of(examples)
    before, after = (
        cluster_counts(counts_of(scorer, [one.answer for one in judged]), names) for judged in (clean, perturbed.judged)
    )
    score = score_of(scorer, metric)
    better = scorer.directions[metric]
    pairs = (before, after) if better == "max" else (after, before)
    interval = paired_bootstrap(*pairs, score)
    flips = [(one.right, other.right) for one, other in zip(clean, perturbed.judged, strict=True)]
    broken, mended = flips.count((True, False)), flips.count((False, True))
    p = None
    if not perturbation.adversarial:
        grouped = len(before) < len(examples)
        graded = not (broken or mended)  # as numbers are, which are never quite right: the score alone can tell
        p = approximate_randomisation(after, before, score).p if grouped or graded else mcnemar(broken, mended)
    return Outcome(
        perturbation=name,
        changed=perturbed.changed,
        scores=scorer.scores(after.sum(axis=0)),
        drop=Drop(interval.value, interval.low, interval.high),
        broken=broken,
        mended=mended,
        p=p,
        queries=victim.queries,
        passes=victim.passes,
        seconds=round(seconds, 3),
        details=dict(perturbed.details),
    )


def _adjusted(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes with their p values adjusted for how many there are."""
    adjusted = holm_of_known([one.p for one in outcomes])
    return [replace(one, p=p) for one, p in zip(outcomes, adjusted, strict=True)]
