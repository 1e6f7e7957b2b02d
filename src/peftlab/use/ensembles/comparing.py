"""An ensemble held against its members: what it gains on the test split, and what it costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from peftlab.errors import UserError
from peftlab.report.analysis.counts import Counted, counted
from peftlab.report.sections.answers import calibration_of_runs
from peftlab.report.statistics.bootstrap import bootstrap
from peftlab.report.statistics.measured import score_of
from peftlab.report.study import Run
from peftlab.runs.folder import ENSEMBLE, keep_beside
from peftlab.use.derive import against
from peftlab.use.examples import data_of, some
from peftlab.use.finished import FinishedRun

_TIMED, _WRITTEN = 200, 8
"""How many test examples are answered to time a model, and how many by one that writes."""


@dataclass(frozen=True)
class Line:
    """What is shown of one model; None where it is unknown."""

    id: str
    name: str
    method: str
    seed: int | None
    validation: float | None
    test: float | None
    ece: float | None
    """Expected calibration error on the test split."""
    parameters: int
    seconds: float
    """For a thousand examples: of the CPU, or of the clock where the model is on a GPU."""


@dataclass(frozen=True)
class Gain:
    """The test score of an ensemble less another, with a 95 % interval over test sets like this one."""

    value: float
    low: float | None
    high: float | None
    p: float | None = None
    """Of approximate randomisation; None: not tested."""


@dataclass(frozen=True)
class Comparison:
    """An ensemble beside its members."""

    metric: str
    direction: str
    scorer: str
    ensemble: Line
    members: list[Line]
    best: str
    """The id of the member with the best score on the validation split."""
    mean: float | None
    """The members' mean test score."""
    over_best: Gain | None
    """Against the best member."""
    over_mean: Gain | None
    """Against the mean of the members' scores."""
    units: str | None
    """What is drawn for the intervals: ``groups`` of test examples, or ``examples``."""
    uncompared: str | None
    """Why there is no difference to the best, or none to the mean; None: there are both."""
    temperature: float
    weights: list[float] | None
    """Of the members; None: their answers are not averaged."""
    ece_before: float | None
    """The ECE of the ensemble without its temperature."""
    device_seconds: float | None
    """The training of all members took this long."""

    def document(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return asdict(self)


def compare(run: FinishedRun, members: Sequence[FinishedRun]) -> Comparison:
    """Return how `run` compares with `members`, the runs that it was computed from, and keep it in its folder.

    Raises:
        UserError: predictions cannot be read.
    """
    metric, sign = run.spec.task.selection.metric, 1 if run.spec.task.selection.mode == "max" else -1
    values = [one.record.score("validation", metric) for one in members]
    places = [place for place, value in enumerate(values) if value is not None]
    best = members[max(places, key=lambda place: sign * (values[place] or 0.0), default=0)]
    over_best, over_mean, units, uncompared = None, None, None, None
    try:
        paired = against(best, run)
        found = paired.difference
        over_best, units = Gain(found.value, found.low, found.high, paired.tests[0].p), paired.units
        over_mean = _over_mean(run, members, metric)
    except (UserError, ValueError) as error:
        uncompared = str(error)
    options = run.config["peft"]
    temperature, tests = options.get("temperature", 1.0), [one.record.score("test", metric) for one in members]
    before = calibration_of_runs([_run(run)], temperature)
    trained = [one.record.device_seconds() for one in members]
    mixture, timed = getattr(run.parts.peft, "mixture", None), _sample(run)
    result = Comparison(
        metric=metric,
        direction="max" if sign == 1 else "min",
        scorer=run.spec.task.scorer.name,
        ensemble=_line(run, metric, timed),
        members=[_line(one, metric, timed) for one in members],
        best=best.record.data["run_id"],
        mean=statistics.fmean(of_all) if (of_all := [test for test in tests if test is not None]) else None,
        over_best=over_best,
        over_mean=over_mean,
        units=units,
        uncompared=uncompared,
        temperature=temperature,
        weights=None if mixture is None else list(mixture.weights),
        ece_before=None if before is None else before.ece,
        device_seconds=None if None in trained else sum(filter(None, trained)),
    )
    keep_beside(run.folder.path, ENSEMBLE, result.document())
    return result


def _over_mean(run: FinishedRun, members: Sequence[FinishedRun], metric: str) -> Gain:
    """Return the score of `run` less the mean of the members' scores, all on the same resamples.

    Raises:
        ValueError: their predictions are not of the same clusters.
    """
    parts = [_counted(one) for one in (run, *members)]
    if any(part.names != parts[0].names for part in parts):
        raise ValueError("their groups of test examples differ")
    score, width = score_of(parts[0].scorer, metric), parts[0].counts.shape[1]

    def gain(totals: np.ndarray) -> np.ndarray:
        own, *others = (score(totals[:, start : start + width]) for start in range(0, len(parts) * width, width))
        return own - np.mean(others, 0)

    found = bootstrap(np.concatenate([part.counts for part in parts], 1), gain)
    return Gain(found.value, found.low, found.high)


def _counted(run: FinishedRun) -> Counted:
    if (found := counted(_run(run))) is None:
        raise ValueError(f"{run.folder.path} has no test predictions")
    return found


def _run(run: FinishedRun) -> Run:
    return Run(run.record, str(run.folder.path))


def _line(run: FinishedRun, metric: str, timed: Sequence[Any]) -> Line:
    record, calibrated = run.record, calibration_of_runs([_run(run)])
    return Line(
        id=record.data["run_id"],
        name=record.data["name"],
        method=record.data["method"]["name"],
        seed=record.data["environment"]["seeds"].get("global"),
        validation=record.score("validation", metric),
        test=record.score("test", metric),
        ece=None if calibrated is None else calibrated.ece,
        parameters=record.data["method"]["total_parameters"],
        seconds=round(_seconds_per_thousand(run, timed), 4),
    )


def _sample(run: FinishedRun) -> list[Any]:
    """Return the test examples, or validation examples if it has none, that models are timed on."""
    splits = data_of(run, task=run.parts.task).splits
    examples = splits["test" if "test" in splits else "validation"].examples
    return some(examples, _WRITTEN if run.parts.task.generates else _TIMED, seed=0)


def _seconds_per_thousand(run: FinishedRun, examples: Sequence[Any]) -> float:
    """Return how long the model takes for a thousand examples, from a sample of them and after a first batch."""
    predictor = run.predictor_of(run.adapted())
    encoded = predictor.task.encode(examples, run.processor, run.spec.data.limits)
    batches = [batch for _, batch in predictor.batches(examples, encoded)]
    clock: Callable[[], float] = time.process_time if run.device.type == "cpu" else time.perf_counter
    with torch.inference_mode(), predictor.arithmetic():
        predictor.task.answers_without_gold(batches[0], predictor.model)
        began = clock()
        for batch in batches:
            predictor.task.answers_without_gold(batch, predictor.model)
        return 1000 * (clock() - began) / len(examples)
