"""Measures the explainers on a finished run: faithfulness against random orders, completeness, and other seeds."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from peftlab.devices.process_state import restored
from peftlab.errors import UserError
from peftlab.runs.folder import EXPLANATION, RunFolder, keep_beside
from peftlab.runs.other_seeds import other_seeds
from peftlab.scores.paired import Difference, difference
from peftlab.use.examples import examples_of
from peftlab.use.explanation.attribution import Attribution, Settings
from peftlab.use.explanation.explain import attributions
from peftlab.use.explanation.explainers import check_names
from peftlab.use.explanation.faithfulness import faithfulness
from peftlab.use.explanation.gradients import COMPLETE
from peftlab.use.explanation.subject import Baseline, Subject, subjects

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

log = logging.getLogger("peftlab")

FEWEST = 3
"""Words that a text needs: with two, an order is right or wrong by chance in every second case."""

_LOGGED_EVERY = 25


@dataclass(frozen=True)
class Outcome:
    """How one explainer does on a run."""

    how: str
    comprehensiveness: float
    """The mean over examples, normalised, see `peftlab.use.explanation.faithfulness`; more is better."""
    sufficiency: float
    """The same; less is better."""
    above_random: Difference
    """By how much comprehensiveness less sufficiency exceeds that of random orders of the same words, which is 0 over
    an order and its reverse, in the mean over examples; with a 95 % interval over the groups of the examples."""
    complete: float | None
    """The share of examples whose values sum to the difference of the logits up to 1 %; None where they are not meant
    to."""
    gap: float | None
    """The median gap, as a share of that difference."""
    seconds: float


@dataclass(frozen=True)
class Stability:
    """How far the runs of other seeds are explained alike."""

    how: str
    seeds: list[int]
    correlation: Difference
    """The rank correlation (Spearman 1904) of the words' values under the same target, in the mean over examples and
    pairs of seeds; with a 95 % interval over the groups of the examples."""


@dataclass(frozen=True)
class Measured:
    """The explainers on the examples of one split."""

    run: str
    split: str
    examples: int
    """How many were explained."""
    of: int
    """How many the split has."""
    skipped: dict[str, int]
    """How many were drawn and not explained, by reason."""
    baseline: Baseline
    words: float
    """The mean number of words."""
    exact: float
    """The share of examples whose limits are those of all orders; of the others, a beam search found them."""
    outcomes: list[Outcome]
    stability: list[Stability]
    left_out: dict[str, str]
    """Explainers that do not suit the run, with the reason."""
    settings: dict[str, Any]
    at: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Explained:
    """One example."""

    example: Any
    target: str
    exact: bool
    made: Mapping[str, Attribution]
    expected: float
    """The logit with all words less that without any."""
    margins: Mapping[str, tuple[float, float]]
    """Comprehensiveness and sufficiency by explainer."""


@restored()
def measure(
    run: FinishedRun,
    how: Sequence[str] = ("ig", "occlusion", "shapley", "attention"),
    split: str = "test",
    examples: int = 200,
    most_words: int = 40,
    baseline: Baseline | None = None,
    seeds: bool = False,
    settings: Settings | None = None,
) -> Measured:
    """Explain what the model of `run` predicts for examples, hold it against random orders, and keep that.

    Args:
        run: the run; the model computes in fp32.
        how: the explainers.
        split: ``validation`` or ``test``.
        examples: how many, drawn at random by the seed of `settings`; those without a target, such as sentences without
            an entity, are passed over.
        most_words: longer texts are passed over: the limits of the areas take a square of the words.
        baseline: what stands in the place of an absent word; None: the mask, or the padding where there is none.
        seeds: whether the runs beside this one that differ in their seed alone are explained too.
        settings: how thorough the explainers are; None: the defaults.

    Raises:
        UserError: the data is not what the run was scored on; no explainer suits the run, or no example; or there is no
            run of another seed.
    """
    check_names(how)
    settings = settings or Settings()
    others = other_seeds(run.folder) if seeds else {}
    if seeds and not others:
        raise UserError(
            f"{run.folder.path}: no completed run beside it differs in its seed alone: leave --seeds out, or train "
            "some, such as with seed=1,2,3 in a sweep"
        )
    everything = examples_of(run, split)
    left_out: dict[str, str] = {}
    seconds, skipped = Counter[str](), Counter[str]()
    explained: list[_Explained] = []
    baselines = None if baseline is None else [baseline]
    with _loss_told(explained, examples):
        for subject, example in _drawn(run, everything, most_words, baselines, settings.seed, skipped):
            one = _explained(subject, example, how, settings, left_out, seconds)
            if one is None:
                skipped["all orders of the words are equal"] += 1
                continue
            explained.append(one)
            if len(explained) % _LOGGED_EVERY == 0:
                log.info("explained: %d of %d examples", len(explained), examples)
            if len(explained) == examples:
                break
        if not explained:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in skipped.items()) or "the split is empty"
            raise UserError(f"{run.folder.path}: no example of the {split} split can be explained: {reasons}")
        names = [name for name in how if name not in left_out]
        kind = subject.baseline
        result = Measured(
            run=str(run.folder.path),
            split=split,
            examples=len(explained),
            of=len(everything),
            skipped=dict(skipped),
            baseline=kind,
            words=float(np.mean([len(next(iter(one.made.values())).values) for one in explained])),
            exact=float(np.mean([one.exact for one in explained])),
            outcomes=[_outcome(name, explained, seconds[name]) for name in names],
            stability=_stability(run, others, names, explained, kind, settings),
            left_out=left_out,
            settings=asdict(settings) | {"most_words": most_words},
            at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    keep_beside(run.folder.path, EXPLANATION, result.document())
    return result


@contextmanager
def _loss_told(explained: Sequence[_Explained], examples: int) -> Iterator[None]:
    """Say what is lost if this context is interrupted: what is kept is kept at the end."""
    try:
        yield
    except KeyboardInterrupt:
        if explained:
            log.warning(
                "interrupted: %d of %d examples were explained, and nothing is kept; --examples %d takes the same ones",
                len(explained),
                examples,
                len(explained),
            )
        raise


def _drawn(
    run: FinishedRun,
    examples: Sequence[Any],
    most_words: int,
    baselines: Sequence[Baseline] | None,
    seed: int,
    skipped: Counter[str],
) -> Iterator[tuple[Subject, Any]]:
    """Yield the subjects of examples in random order, and count those that have none."""
    predictor = run.predictor.in_fp32()
    refused: UserError | None = None
    for place in np.random.default_rng(seed).permutation(len(examples)):
        try:
            subject = subjects(predictor, examples[place], None, baselines)[0]
        except UserError as error:
            refused = error
            skipped["without a target"] += 1
            if skipped["without a target"] == len(examples):
                raise refused from None
            continue
        if FEWEST <= len(subject.words) <= most_words:
            yield subject, examples[place]
        else:
            skipped[f"with fewer than {FEWEST} words, or more than {most_words}"] += 1


def _explained(
    subject: Subject,
    example: Any,
    how: Sequence[str],
    settings: Settings,
    left_out: dict[str, str],
    seconds: Counter[str],
) -> _Explained | None:
    made: dict[str, Attribution] = {}
    for name in how:
        if name in left_out:
            continue
        start = time.perf_counter()
        own, refused = attributions(subject, [name], settings)
        seconds[name] += time.perf_counter() - start  # type: ignore[assignment]
        made |= own
        left_out |= refused
    if not made:
        raise UserError(f"nothing explains this run. {'. '.join(left_out.values())}")
    measured = faithfulness(subject, {name: one.values for name, one in made.items()}, seed=settings.seed)
    if measured is None:
        return None
    of_each, _, limits = measured
    return _Explained(
        example,
        subject.target.name,
        limits.exact,
        made,
        subject.full - subject.empty,
        {name: (one.comprehensiveness, one.sufficiency) for name, one in of_each.items()},
    )


def _outcome(name: str, explained: Sequence[_Explained], seconds: float) -> Outcome:
    own = np.asarray([one.margins[name] for one in explained])
    gaps = np.asarray([abs(gap) for one in explained if (gap := one.made[name].gap) is not None])
    shares = gaps / np.asarray([max(abs(one.expected), 1e-12) for one in explained]) if len(gaps) else gaps
    comprehensiveness, sufficiency = own.mean(0).tolist()
    return Outcome(
        name,
        comprehensiveness,
        sufficiency,
        _mean(explained, own @ [1, -1]),
        float((shares <= COMPLETE).mean()) if len(shares) else None,
        float(np.median(shares)) if len(shares) else None,
        round(seconds, 3),
    )


def _mean(explained: Sequence[_Explained], values: np.ndarray) -> Difference:
    """Return the mean over examples with an interval over their groups, such as documents."""
    groups = [getattr(one.example, "group", None) or one.example.id for one in explained]
    _, places = np.unique(groups, return_inverse=True)
    own, zero = (np.stack([np.bincount(places, one), np.bincount(places)], axis=1) for one in (values, 0 * values))
    return difference(lambda total: float(total[0] / total[1]), own, zero)


def _stability(
    run: FinishedRun,
    others: Mapping[int, Any],
    names: Sequence[str],
    explained: Sequence[_Explained],
    baseline: Baseline,
    settings: Settings,
) -> list[Stability]:
    if not others:
        return []
    from scipy.stats import spearmanr

    from peftlab.use.finished import FinishedRun

    values = {name: [[one.made[name].values for one in explained]] for name in names}
    for seed, record in others.items():
        log.info("explaining the run of seed %d", seed)
        predictor = FinishedRun(RunFolder(record, allow=run.folder.allow)).predictor.in_fp32()
        of_run = []
        for one in explained:
            (subject,) = subjects(predictor, one.example, one.target, [baseline])
            of_run.append(attributions(subject, names, settings)[0])
        for name in names:
            values[name].append([made[name].values for made in of_run])
    stability = []
    for name in names:
        pairs = [
            [float(spearmanr(first, second).statistic) for first, second in zip(one, other, strict=True)]
            for one, other in combinations(values[name], 2)
        ]
        # values that are all equal rank nothing
        correlations = np.nan_to_num(np.asarray(pairs)).mean(0)
        seeds = [run.config["seed"], *others]
        stability.append(Stability(name, seeds, _mean(explained, correlations)))
    return stability
