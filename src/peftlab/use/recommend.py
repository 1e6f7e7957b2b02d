"""What a finished run recommends, and how it compares with recommenders that need no training of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from peftlab.data.interactions import Interactions, read_history
from peftlab.errors import DataError, UserError, did_you_mean
from peftlab.recommending.baselines import BASELINES, CHOICES, OF_HISTORIES, Recommender, word_search
from peftlab.recommending.interactions import Interaction
from peftlab.recommending.ranking import ranked
from peftlab.report.statistics.bootstrap import ScoreInterval, bootstrap, jackknife_interval, paired_bootstrap
from peftlab.report.statistics.measured import cluster_counts, pseudo_values
from peftlab.runs.folder import read_predictions
from peftlab.scores.paired import counts_of
from peftlab.scores.rankings import RankingScores
from peftlab.tasks.retrieval import Retrieval
from peftlab.use.examples import data_of

if TYPE_CHECKING:
    from peftlab.data.module import DataModule
    from peftlab.use.finished import FinishedRun

_BLOCK = 256
"""Users that are ranked at once: all items for all of them need not fit in memory."""


@dataclass(frozen=True)
class System:
    """A recommender and its scores on the test split."""

    name: str
    options: dict[str, Any]
    """Those that were chosen on the validation split."""
    scores: dict[str, ScoreInterval]
    """By name, over users; those of cold items begin with ``cold_``."""
    ahead: dict[str, ScoreInterval] = field(default_factory=dict)
    """How far the run is ahead of it in each score, on the same users; empty for the run itself."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        shown = {
            key: {name: {"value": own.value, "low": own.low, "high": own.high} for name, own in scores.items()}
            for key, scores in (("scores", self.scores), ("ahead", self.ahead))
        }
        return {"system": self.name, "options": self.options, **shown}


@dataclass(frozen=True)
class Comparison:
    """A run and the recommenders that it is compared with, all on the same users and items."""

    systems: list[System]
    """The run comes first."""
    users: int
    rankings: int
    cold_rankings: int
    chance: dict[str, float]
    """The hit@10 of a random ranking, for all items and for cold ones."""
    chosen_by: str
    """The score on the validation split that the baselines' options are chosen by."""


def compare(run: FinishedRun, against: Sequence[str] | None = None, resamples: int = 2000) -> Comparison:
    """Compare the test rankings that a run has kept with those of baselines, each over all unseen items.

    The baselines learn from the same training interactions, and choose their options by the metric that selected the
    run's checkpoint on the same validation split; by the first of the ranking's scores where that was the loss, which
    they do not have. Where something is asked, TF-IDF reads that, as the run does.

    Args:
        run: a run of task=retrieval.
        against: names of `BASELINES`; None: all that have something to read.
        resamples: of the bootstrap over users.

    Raises:
        UserError: the run is of another task, a baseline is unknown or has nothing to read, or the run's data or
            predictions are gone.
    """
    task = _task_of(run)
    for name in against or ():
        if name not in BASELINES:
            near = did_you_mean(name, list(BASELINES))
            raise UserError(f"--against: there is no baseline '{name}'.{near} Allowed: {', '.join(BASELINES)}")
    data = data_of(run, ("test",))
    test: Sequence[Interaction] = data.splits["test"].examples
    asks = test[0].query is not None
    idle = OF_HISTORIES if asks and not any(one.history for one in test) else ()
    if odd := [name for name in against or () if name in idle]:
        raise UserError(
            f"--against {odd[0]}: reads histories, and no test question has one. Allowed for this run: "
            f"{', '.join(name for name in BASELINES if name not in idle)}"
        )
    file = run.folder.predictions / "test.jsonl"
    if not file.is_file():
        raise UserError(f"{file}: the run has kept no test rankings. Compare one that has them: budget.test=true")
    kept = {answer["id"]: answer for answer in read_predictions(file)}
    if {*kept} != {one.id for one in test}:
        raise UserError(f"{file}: does not have the run's test examples")
    scorer, users = task.scorer, [one.user for one in test]
    metric = task.selection.metric
    metric = metric if metric in RankingScores.directions else next(iter(RankingScores.directions))
    own = cluster_counts(counts_of(scorer, [kept[one.id] for one in test]), users)
    systems = [System("this run", {}, _intervals(own, resamples))]
    for name in [one for one in BASELINES if one not in idle] if against is None else against:
        asked = asks and name == "tf_idf"
        options, recommender = ({}, word_search(test[0].catalogue)) if asked else _chosen(name, data, metric)
        theirs = cluster_counts(counts_of(scorer, _answers(recommender, test, asked)), users)
        systems.append(System(name, options, _intervals(theirs, resamples), _ahead(own, theirs, resamples)))
    total = own.sum(0)
    details = scorer.details(total)
    chance = {name: value for name, value in details.items() if "chance" in name}
    cold = sum(one.is_cold for one in test)
    return Comparison(systems, len(own), len(test) - cold, cold, chance, metric)


def _chosen(name: str, data: DataModule, metric: str) -> tuple[dict[str, Any], Recommender]:
    """Return the options of a baseline that are best on the validation split, and the baseline with them."""
    train, validation = (data.splits[split].examples for split in ("train", "validation"))
    catalogue = train[0].catalogue
    longest: dict[str, Interaction] = {one.user: one for one in train}  # a user's examples are in order of time
    histories = [one.sequence for one in longest.values()]
    choices = CHOICES.get(name, {})
    best: tuple[float, dict[str, Any], Recommender] | None = None
    for values in product(*choices.values()):
        options = dict(zip(choices, values, strict=True))
        recommender = BASELINES[name](histories, catalogue, **options)
        if not choices:
            return options, recommender
        total = RankingScores().total(_answers(recommender, validation))
        value = RankingScores().scores(total)[metric]
        if best is None or value > best[0]:
            best = value, options, recommender
    assert best is not None, "each option has values"
    return best[1:]


def _answers(
    recommender: Callable[[Any], np.ndarray], examples: Sequence[Interaction], asked: bool = False
) -> list[dict[str, Any]]:
    """Return the rankings by histories, or by what was `asked`, as a run keeps them."""
    answers = []
    for start in range(0, len(examples), _BLOCK):
        block = examples[start : start + _BLOCK]
        read = [each.query if asked else each.history for each in block]
        for one, scores in zip(block, recommender(read), strict=True):
            ranking = ranked(scores, one.item, one.seen, 0)
            answers.append({"rank": ranking.rank, "candidates": ranking.candidates, "cold": one.is_cold})
    return answers


def _scores_of(counts: np.ndarray) -> dict[str, tuple[Any, np.ndarray]]:
    """Return the scores that are compared by name, each a function of many sums of counts, and which users it is of.

    Others are not drawn for it: a resample without any user of a cold item has no score of these.
    """
    names, half = list(RankingScores.directions), RankingScores.width // 2

    def mean(start: int, n: int) -> Any:
        return lambda totals: totals[:, start + 1 + n] / np.maximum(totals[:, start], 1)

    return {
        f"{prefix}{name}": (mean(start, n), counts[:, start] > 0)
        for prefix, start in (("", 0), ("cold_", half))
        if counts[:, start].any()
        for n, name in enumerate(names)
    }


def _intervals(counts: np.ndarray, resamples: int) -> dict[str, ScoreInterval]:
    return {name: _interval(counts[own], score, resamples) for name, (score, own) in _scores_of(counts).items()}


def _interval(counts: np.ndarray, score: Any, resamples: int) -> ScoreInterval:
    """Return a score with its bootstrap interval over users; where they are all equal, Wilson's."""
    over = bootstrap(counts, score, resamples)
    if over.low is None or over.low != over.high:
        return over
    return jackknife_interval(pseudo_values(counts, score), bounded=True)


def _ahead(own: np.ndarray, theirs: np.ndarray, resamples: int) -> dict[str, ScoreInterval]:
    found = {}
    for name, (score, of) in _scores_of(own).items():
        over = paired_bootstrap(own[of], theirs[of], score, resamples)
        # of equal differences, such as none at all, nothing is known of others
        found[name] = replace(over, low=None, high=None) if over.low == over.high else over
    return found


@dataclass(frozen=True)
class Recommended:
    """An item that is recommended."""

    item: str
    title: str
    score: float


def recommend(run: FinishedRun, top: int, user: str | None = None, history: Path | None = None) -> list[Recommended]:
    """Return the `top` items for somebody, without those in the history.

    Args:
        run: a run of task=retrieval.
        top: how many.
        user: a user of the run's data, with all interactions that the data has of him.
        history: a file of items, the oldest first, in the column that the run's data calls them.

    Raises:
        UserError: the run is of another task, or its data is gone.
        DataError: there is no such user or item.
    """
    _task_of(run)
    data = data_of(run)
    example = _of_user(data, user) if user is not None else _of_file(data, history)
    predictor = run.predictor_of(run.adapted()) if data.task is not run.parts.task else run.predictor
    encoded = data.task.encode([example], run.processor, predictor.limits)
    batch = data.task.collate([example], encoded, [0]).to(run.device)
    with torch.inference_mode(), predictor.arithmetic():
        scores = data.task.outputs(predictor.model, batch).logits[0].float().cpu().numpy()
    best = ranked(scores, None, example.seen, top).best
    catalogue = example.catalogue
    return [Recommended(catalogue.items[n], catalogue.titles[n], float(scores[n])) for n in best]


def _of_user(data: DataModule, user: str) -> Interaction:
    """Return the example of what a user does next."""
    own = [one for split in ("test", "validation", "train") for one in data.splits[split].examples if one.user == user]
    if not own:
        users = sorted({one.user for one in data.splits["train"].examples})
        raise DataError(f"--user {user}: the run's data has no such user.{did_you_mean(user, users)}")
    sequence = max((one.sequence for one in own), key=len)
    return Interaction("next", user, None, own[0].catalogue, sequence, len(sequence), numbers=own[0].numbers)


def _of_file(data: DataModule, history: Path | None) -> Interaction:
    """Return the example of what comes after the items in a file."""
    assert history is not None, "a user or a history"
    format, catalogue = data.spec.format, data.splits["train"].examples[0].catalogue
    column = format.item if isinstance(format, Interactions) else "item"
    items = tuple(read_history(history, column, catalogue))
    return Interaction("next", "", None, catalogue, items, len(items))


def _task_of(run: FinishedRun) -> Retrieval:
    task = run.spec.task
    if not isinstance(task, Retrieval):
        raise UserError(f"{run.folder.path}: is a run of task={task.name}; only task=retrieval ranks all items")
    return task
