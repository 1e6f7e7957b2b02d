"""Audits a finished run: attacks on its training examples, what they reveal, and what it says about privacy."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from peftlab.devices.process_state import restored
from peftlab.errors import UserError
from peftlab.report.statistics.epsilon import Limits, lower_limits
from peftlab.report.statistics.means import mean
from peftlab.report.statistics.membership import Bounded, Rate, area, curve, rate
from peftlab.runs.folder import AUDIT, keep_beside
from peftlab.use.auditing import attacks
from peftlab.use.auditing.blind import words
from peftlab.use.auditing.losses import losses_of
from peftlab.use.auditing.pool import FEWEST, Pool, Source, pool_of, seen_by
from peftlab.use.auditing.shadows import shadows_of

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

log = logging.getLogger("peftlab")

ALLOWED = (0.001, 0.01, 0.1)
"""The shares of false alarms at which hits are counted."""

_DELTA = 1e-5

Verdict = Literal["no claim", "not contradicted", "contradicted", "in doubt"]


@dataclass(frozen=True)
class Settings:
    """What the user decides about an audit."""

    references: tuple[str, ...] = ()
    """Runs that answer the same task and have learnt from other examples."""
    shadows: int = 0
    """The number of shadow models, see `peftlab.use.auditing.shadows`; 0: no likelihood ratio attack."""
    nonmembers: Source | None = None
    """Where the examples that the run has not seen come from; None: the first source that has some."""
    limit: int | None = 1000
    """The most members, and the most others; None: as many as there are."""
    delta: float | None = None
    """The delta of the guarantee that is tested; None: the one that the run claims, else 1e-5."""
    level: float = 0.95
    seed: int = 0
    """Of the samples, and of the halves on which thresholds are chosen and tested."""


@dataclass(frozen=True)
class Attack:
    """How well one attack tells members from others."""

    name: str
    """``loss``, ``reference``, ``lira_offline`` or ``lira_online``."""
    of: str
    """``run``, or ``recipe``: each shadow model is attacked in turn with the help of the others, which says what runs
    of this configuration on half of the examples reveal, in the mean."""
    examples: int
    """Members and others that could be attacked."""
    auc: Bounded
    rates: tuple[Rate, ...]
    curve: tuple[tuple[float, float], ...]
    """The ROC curve; empty for a recipe."""
    epsilon: Limits | None
    """What it rules out; None for a recipe."""


@dataclass(frozen=True)
class Control:
    """A score that knows nothing of what the run was trained on: its area should be .5."""

    name: str
    """``length``: the number of tokens; ``words``: naive Bayes, see `peftlab.use.auditing.blind`; ``unseen``: the
    confidence of models that have not seen the example."""
    auc: Bounded

    @property
    def differs(self) -> bool:
        """Whether members and others differ in kind."""
        # what one fold has too many of, the others lack: by chance alone, words point a little the wrong way
        return self.auc.low > 0.5 or (self.auc.high < 0.5 and self.name != "words")


@dataclass(frozen=True)
class Audit:
    """What a run tells of its training examples."""

    run: str
    members: int
    others: int
    source: Source
    units: str
    repeated: int
    attacks: tuple[Attack, ...]
    controls: tuple[Control, ...]
    epsilon: float
    """The largest lower limit of epsilon of the attacks on the run; all of them hold together with `level`."""
    delta: float
    level: float
    claim: dict[str, float] | None
    """The ``epsilon`` and ``delta`` that the run claims; None: it claims none."""
    verdict: Verdict
    """Whether a limit of epsilon is above the claimed one; ``in doubt`` where that needs splits that are alike."""
    warnings: tuple[str, ...]
    left_out: dict[str, str]
    """Attacks that could not be made, with the reason."""
    settings: dict[str, Any]
    at: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Known:
    """What other models say about the examples, see `peftlab.use.auditing.attacks.reference`."""

    confidences: np.ndarray
    """Shape (models, examples)."""
    seen: np.ndarray
    """Of the same shape."""
    shadows: int
    """How many of them are shadow models; they come first."""


@restored()
def audit(run: FinishedRun, settings: Settings | None = None) -> Audit:
    """Attack the training examples of `run`, and keep what that reveals beside its record.

    Args:
        run: the run.
        settings: the attacks.

    Raises:
        UserError: the data is not what the run was trained on, there are too few examples, a reference answers another
            task or is the run itself, or a shadow model fails.
    """
    settings = settings or Settings()
    pool = pool_of(run, settings.nonmembers, settings.limit, settings.seed)
    log.info("%d members, %d others (%s)", pool.member.sum(), (~pool.member).sum(), pool.source)
    losses, lengths = losses_of(run, pool.examples)
    counts = np.isfinite(losses)  # the others have no gold, or nothing of them is seen
    if min((pool.member & counts).sum(), (~pool.member & counts).sum()) < FEWEST:
        raise UserError(f"{run.folder.path}: fewer than {FEWEST} members, or others, have a loss: they have no gold")
    confidences = attacks.confidence(losses)
    known = _known(run, pool, settings)
    claim = claimed(run.record.data)
    if claim and settings.delta is not None:
        raise UserError(
            f"--delta {settings.delta:g}: the run claims its epsilon at delta {claim['delta']:g}. Leave it out"
        )
    delta = claim["delta"] if claim else _DELTA if settings.delta is None else settings.delta
    scores, left_out = _scores(np.where(counts, confidences, np.nan), known, pool.member)
    level = 1 - (1 - settings.level) / (2 * len(scores))  # two limits of each attack
    made = [_attack(name, score, pool, delta, level, settings) for name, score in scores.items()]
    epsilon = max(max(one.epsilon.rates, one.epsilon.guesses) for one in made if one.epsilon)
    texts = [run.predictor.task.text_key(example) for example in pool.examples]
    blind = {"length": lengths, "words": words(texts, pool.member, pool.clusters, settings.seed)}
    controls = list(
        _controls({name: np.where(counts, score, np.nan) for name, score in blind.items()}, known, pool, settings)
    )
    result = Audit(
        run=str(run.folder.path),
        members=int((pool.member & counts).sum()),
        others=int((~pool.member & counts).sum()),
        source=pool.source,
        units=pool.units,
        repeated=pool.repeated,
        attacks=(*made, *_of_recipe(known, pool, settings)),
        controls=tuple(controls),
        epsilon=epsilon,
        delta=delta,
        level=settings.level,
        claim=claim,
        verdict=_verdict(epsilon, claim, pool.source),
        warnings=tuple(_warnings(made, controls, pool, run.config["budget"])),
        left_out=left_out,
        settings=asdict(settings),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    keep_beside(run.folder.path, AUDIT, result.document())
    return result


def claimed(record: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the ``epsilon`` and ``delta`` that a record claims; None: it claims none."""
    section = record.get("privacy") or {}
    if section.get("epsilon") is None or section.get("delta") is None:
        return None
    return {key: float(section[key]) for key in ("epsilon", "delta")}


def _known(run: FinishedRun, pool: Pool, settings: Settings) -> _Known:
    """Return what shadow models and references say about the examples of the pool."""
    from peftlab.use.finished import load

    references = [load(name, run.folder.allow) for name in settings.references]
    for other in references:
        if other.record.data["identity"]["sha256"] == run.record.data["identity"]["sha256"]:
            raise UserError(f"--reference {other.folder.path}: this is the run itself. Name one of other examples")
        if other.parts.task.name != run.parts.task.name or other.parts.task.labels != run.parts.task.labels:
            raise UserError(f"--reference {other.folder.path}: it answers another task, or with other labels")
    shadows = shadows_of(run, settings.shadows) if settings.shadows else []
    digest = run.record.data["identity"]["data_sha256"]["train"]
    confidences, seen = [], []
    for other in (*shadows, *references):
        confidences.append(attacks.confidence(losses_of(other, pool.examples)[0]))
        seen.append(seen_by(other, pool.examples, digest))
    shape = (len(seen), len(pool.examples))
    return _Known(np.reshape(confidences, shape), np.reshape(np.asarray(seen, bool), shape), len(shadows))


def _scores(confidences: np.ndarray, known: _Known, member: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the score of each attack on the run, and which attacks there are none of, with the reason."""
    scores, left_out = {"loss": attacks.loss(confidences)}, {}
    others, seen = known.confidences, known.seen
    if len(others):
        scores["reference"] = attacks.reference(confidences, others, _evened(seen, known.shadows))
    else:
        left_out["reference"] = "no run on other examples: --reference RUN, or --shadows K"
    if known.shadows:
        others, seen = others[: known.shadows], seen[: known.shadows]
        scores["lira_offline"] = attacks.lira_offline(confidences, others, _evened(seen, known.shadows))
        scores["lira_online"] = attacks.lira_online(confidences, others, seen)
    else:
        left_out["lira"] = "no shadow models: --shadows K"
    for name, score in [*scores.items()]:
        if min((np.isfinite(score) & which).sum() for which in (member, ~member)) < FEWEST:
            left_out[name] = (
                "no shadow model has learnt from the others, which are no training examples: train on a half, "
                "budget.half=0"
                if name == "lira_online"
                else "the references have all seen the members, or answer none of the examples"
            )
            del scores[name]
    return scores, left_out


def _evened(seen: np.ndarray, shadows: int) -> np.ndarray:
    """Return `seen` with every second shadow model taken out for examples that none has seen, such as test examples.

    The others are unknown to half of the shadow models: means over more models would vary less, and tell them apart.
    """
    evened = seen.copy()
    never = ~seen[:shadows].any(axis=0)
    evened[1:shadows:2, never] = True
    return evened


def _attack(name: str, score: np.ndarray, pool: Pool, delta: float, level: float, settings: Settings) -> Attack:
    """Return how well `score` tells members of the run from others; it is nan where it has none."""
    scored = np.isfinite(score)
    score, member, clusters = score[scored], pool.member[scored], _renumbered(pool.clusters[scored])
    return Attack(
        name=name,
        of="run",
        examples=len(score),
        auc=area(score, member, clusters, settings.level),
        rates=tuple(rate(score, member, allowed, settings.level) for allowed in ALLOWED),
        curve=tuple(curve(score, member)),
        epsilon=lower_limits(score, member, delta, level, settings.seed),
    )


def _of_recipe(known: _Known, pool: Pool, settings: Settings) -> Iterator[Attack]:
    """Yield the attacks on each shadow model, with the help of those that are not its pair.

    Without both of a pair, every example is in as many of the others, whether the attacked one has it or not.
    """
    number = known.shadows
    usable = known.seen[:number].any(axis=0) & np.isfinite(known.confidences).all(axis=0)
    if not number or usable.sum() < 2 * FEWEST:
        return
    confidences, seen = known.confidences[:number, usable], known.seen[:number, usable]
    made: dict[str, list[np.ndarray]] = {"loss": [*confidences]}
    for target in range(number):
        helping = [other for other in range(number) if other // 2 != target // 2]
        for attack in (attacks.lira_offline, attacks.lira_online):
            score = attack(confidences[target], confidences[helping], seen[helping])
            made.setdefault(attack.__name__, []).append(score)
    clusters = _renumbered(pool.clusters[usable])
    for name, scores in made.items():
        yield Attack(
            name=name,
            of="recipe",
            examples=int(usable.sum()),
            auc=area(np.stack(scores), seen, clusters, settings.level),
            rates=tuple(_mean_rate(scores, seen, allowed, settings.level) for allowed in ALLOWED),
            curve=(),
            epsilon=None,
        )


def _mean_rate(scores: Sequence[np.ndarray], members: np.ndarray, allowed: float, level: float) -> Rate:
    """Return the mean over attacked models, with an interval over them."""
    each = [rate(score, member, allowed, level) for score, member in zip(scores, members, strict=True)]
    over = mean([one.tpr.value for one in each], level)
    low, high = (over.value if end is None else min(max(end, 0.0), 1.0) for end in (over.low, over.high))
    alarms, others = (sum(getattr(one, name) for one in each) for name in ("false_alarms", "others"))
    limit = max(one.fpr_high for one in each)
    return Rate(allowed, Bounded(over.value, low, high), alarms, others, limit)


def _controls(blind: Mapping[str, np.ndarray], known: _Known, pool: Pool, settings: Settings) -> Iterator[Control]:
    """Yield the areas of scores that know nothing of what the run was trained on."""
    scores = dict(blind)
    if known.shadows:
        unseen = _evened(known.seen, known.shadows)[: known.shadows]
        scores["unseen"] = attacks.mean_over(known.confidences[: known.shadows], ~unseen)
    for name, score in scores.items():
        scored = np.isfinite(score)
        if not 0 < pool.member[scored].sum() < scored.sum():
            continue
        clusters = _renumbered(pool.clusters[scored])
        yield Control(name, area(score[scored], pool.member[scored], clusters, settings.level))


def _renumbered(clusters: np.ndarray) -> np.ndarray:
    return np.unique(clusters, return_inverse=True)[1]


def _verdict(epsilon: float, claim: Mapping[str, float] | None, source: Source) -> Verdict:
    if claim is None:
        return "no claim"
    if epsilon <= claim["epsilon"]:
        return "not contradicted"
    return "contradicted" if source == "rest" else "in doubt"


def _warnings(
    made: Sequence[Attack], controls: Sequence[Control], pool: Pool, budget: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what is to be known before the figures are believed."""
    few = [one.allowed for one in made[0].rates if not one.measurable]
    if few:
        others = made[0].rates[0].others
        yield (
            f"{others:,} others are too few for a false alarm at {', '.join(f'{share:g}' for share in few)}: "
            f"these hits are at none, and {1 / few[0]:,.0f} others would be needed"
        )
    if differing := [one.name for one in controls if one.differs]:
        yield (
            f"members and others differ in kind ({' and '.join(differing)}): attacks may find that, and not what was "
            "learnt by heart. Train on a half to compare it with the other, budget.half=0"
        )
    if pool.source != "rest":
        yield (
            f"the others are the {pool.source} split, and not left out by chance: a limit of epsilon holds only if "
            "both splits are alike"
        )
    elif budget.get("half") is None:
        yield (
            "the sample has a fixed size, so that a limit of epsilon is one for replacing an example, which may be "
            "twice that for adding one; with budget.half=0, a coin decides on each example"
        )
    if pool.source == "validation":
        yield "the best checkpoint was chosen on the validation split, which the run so has seen a little of"
