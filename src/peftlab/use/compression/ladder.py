"""A ladder of ever smaller or faster models, each scored and timed, down to the last one that loses little enough."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.errors import UserError
from peftlab.reading.json_form import finite
from peftlab.report.statistics.membership import clopper_pearson
from peftlab.report.study import Run
from peftlab.runs.folder import COMPRESSION, keep_beside
from peftlab.storage.atomic import replacing
from peftlab.use.compression.measuring import agreement, instructions, measure
from peftlab.use.compression.steps import Chosen, Making, NothingToDoError
from peftlab.use.derive import against

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

log = logging.getLogger("peftlab")


@dataclass(frozen=True)
class Rung:
    """A model of the ladder, and what it costs."""

    step: str
    """The step that made it; ``original`` for the run that the ladder begins with."""
    run: str
    """Its folder."""
    id: str
    score: float | None
    """On the test split."""
    drop: dict[str, float | None]
    """By how much its score is worse than the original's: ``value``, with the ends ``low`` and ``high`` of the paired
    95 % interval over clusters."""
    agreement: float | None
    """The share of test examples that it answers as the original does."""
    measured: dict[str, Any]
    """See `Measured`."""
    beside: str | None
    """The step whose model took turns with it when it was timed: the merged one, if it is merged."""
    file: dict[str, Any]
    """What is known of the file of a model outside torch; empty for others."""
    verdict: str
    """``accepted``; ``too much`` is lost; or ``open``, as a later distillation decides."""


@dataclass
class Ladder:
    """The rungs in order, the original first."""

    run: str
    metric: str
    max_drop: float
    units: str
    """What the intervals are over: ``groups`` of examples or ``examples``."""
    clusters: int
    """How many."""
    rungs: list[Rung] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Steps that were passed over, and why the ladder ended before its last step."""

    @property
    def accepted(self) -> Rung:
        """The last rung that loses little enough."""
        return next(rung for rung in reversed(self.rungs) if rung.verdict == "accepted")

    @property
    def base(self) -> Rung:
        """What times and bytes are compared with: the merged model, or the original where there is none."""
        return next((rung for rung in self.rungs if rung.step == "merge"), self.rungs[0])

    def faster(self, rung: Rung) -> float:
        """Return how many times less CPU time `rung` takes than `base`.

        Both were timed in turns; before the merged model, each took turns with the original.
        """
        if rung is self.base:
            return 1.0
        own, beside = (_cpu(rung.measured[key]) for key in ("timing", "beside"))
        if own is not None and beside is not None:
            return beside / own * (1.0 if rung.beside == self.base.step else self.faster(self.rungs[0]))
        own, beside = (_cpu(self.base.measured[key]) for key in ("timing", "beside"))  # the original, beside the base
        assert own is not None
        assert beside is not None
        return own / beside

    def smaller(self, rung: Rung) -> float:
        """Return how many times fewer bytes the weights of `rung` have than those of `base`."""
        return float(self.base.measured["weight_bytes"] / rung.measured["weight_bytes"])

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        rungs = [{**asdict(one), "faster": self.faster(one), "smaller": self.smaller(one)} for one in self.rungs]
        return {**asdict(self), "rungs": rungs, "accepted": self.accepted.step}

    def rows(self) -> list[list[str]]:
        """Return the table of the rungs, its heads first."""
        heads = ["rung", self.metric, "drop", "95 %", "agree", "CPU s/1000", "faster", "ms at 1", "ms at 32", "MB"]
        rows = [[*heads, "smaller", "memory MB", "parameters", "verdict"]]
        for one in self.rungs:
            drop, of, times = one.drop, one.measured, one.measured["timing"]["milliseconds"]
            rows.append(
                [
                    one.step,
                    _number(one.score, ".4f"),
                    _number(drop["value"], "+.4f"),
                    "-" if drop["high"] is None else f"{drop['low']:+.4f} to {drop['high']:+.4f}",
                    _number(one.agreement, ".3f"),
                    f"{of['timing']['cpu_seconds']:.2f}",
                    f"{self.faster(one):.2f}",
                    *(f"{of_size['p50']:.1f} ({of_size['p95']:.1f})" for of_size in times.values()),
                    f"{of['weight_bytes'] / 1e6:.1f}",
                    f"{self.smaller(one):.2f}",
                    _number(of["memory_bytes"] and of["memory_bytes"] / 1e6, ".0f"),
                    f"{of['parameters']:,}",
                    one.verdict,
                ]
            )
        return rows


def compress(
    run: FinishedRun,
    steps: Sequence[Chosen],
    max_drop: float = 0.005,
    out: Path | None = None,
    teacher: FinishedRun | None = None,
    threads: int | None = None,
    keep_going: bool = False,
) -> Ladder:
    """Make a smaller or faster model of `run` by each of `steps`, of the one before, as long as too little is lost.

    Each is a run of its own, scored on the same test examples. The ladder ends where the paired interval over clusters
    admits that more than `max_drop` of the original's score is lost; of a model that a later step distils, only the
    distilled one is judged. Rungs that were made before are taken as they are, so that an interrupted ladder goes on.

    Args:
        run: the run.
        steps: see `peftlab.use.compression.steps.parse`.
        max_drop: the most of the score that may be lost, in its own unit.
        out: the folder of the runs, and of ``ladder.json`` and ``ladder.md``; None: the runs are in ``runs/``.
        teacher: what ``distil`` learns from; None: `run`.
        threads: for timing; None: as many as the run had.
        keep_going: whether the ladder goes on after too much is lost.

    Raises:
        UserError: `run` has no test score, or a step cannot be made.
    """
    if run.record.derived is None and not run.spec.budget.test:
        raise UserError(f"{run.folder.path}: the run was not tested, and a ladder is judged on the test split")
    base = against(run, run)
    difference = base.difference
    ladder = Ladder(str(run.folder.path), base.metric, max_drop, base.units, difference.clusters)
    made = _Made(run, ladder, threads, out)
    made.add("original", run, "accepted")
    current = run
    for place, chosen in enumerate(steps):
        how = {chosen.step.name: chosen.value if chosen.step.read else True}
        name = f"{run.record.data['name']}-{chosen.step.name}"
        try:
            current = chosen.step.make(Making(current, chosen.value, how, teacher or run, name, out))
        except NothingToDoError as reason:
            ladder.notes.append(f"{chosen} was passed over: {reason}")
            log.info("%s", ladder.notes[-1])
            continue
        is_open = chosen.step.cuts and any(later.step.name == "distil" for later in steps[place + 1 :])
        rung = made.add(str(chosen), current, "open" if is_open else None)
        if rung.verdict == "too much" and not keep_going and place + 1 < len(steps):
            left = ",".join(map(str, steps[place + 1 :]))
            ladder.notes.append(
                f"the ladder ends with {chosen}, {_told(rung)}: not made: {left}. --keep-going makes them"
            )
            break
    made.write()
    return ladder


class _Made:
    """The ladder as it grows: each rung is measured, kept beside its record, and written to the folder."""

    def __init__(self, original: FinishedRun, ladder: Ladder, threads: int | None, out: Path | None) -> None:
        self.original, self.ladder, self.threads, self.out = original, ladder, threads, out
        self.beside: tuple[str, FinishedRun] | None = None
        """What rungs are timed in turns with."""

    def add(self, step: str, run: FinishedRun, verdict: str | None) -> Rung:
        """Measure the `run` that `step` made, and judge it unless its `verdict` is given."""
        drop = self._drop(run)
        judged = "accepted" if drop["high"] is not None and drop["high"] <= self.ladder.max_drop else "too much"
        rung = Rung(
            step=step,
            run=str(run.folder.path),
            id=str(run.record.data["run_id"]),
            score=run.record.score("test", self.ladder.metric),
            drop=drop,
            agreement=agreement(self.original, run),
            measured=self._measured(run),
            beside=self.beside and self.beside[0],
            file=getattr(run.model, "about", {}),
            verdict=verdict or judged,
        )
        keep_beside(run.folder.path, COMPRESSION, self._document(rung))
        if self.beside is None or step == "merge":
            self.beside = (step, run)
        self.ladder.rungs.append(rung)
        self.write()
        log.info("%s: %s of the test split %s, %s", step, self.ladder.metric, _number(rung.score, ".4f"), rung.verdict)
        return rung

    def _measured(self, run: FinishedRun) -> dict[str, Any]:
        """Return what an interrupted ladder measured of `run` in turns with the same model, or measure it."""
        threads = self.threads or run.record.data["environment"]["threads"]
        about = {"original": self.original.record.data["run_id"], "beside_id": self._beside_id}
        for document in reversed(Run(run.record, str(run.folder.path)).beside(COMPRESSION)):
            measured = document["measured"]
            same_machine = (measured["threads"], measured["isa"]) == (threads, instructions())
            if same_machine and {key: document.get(key) for key in about} == about:
                return dict(measured)
        return asdict(measure(run, self.beside and self.beside[1], threads))

    def _document(self, rung: Rung) -> dict[str, Any]:
        """Return what is kept beside the record of a rung."""
        ladder = self.ladder
        about = {"original": self.original.record.data["run_id"], "beside_id": self._beside_id}
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return {**asdict(rung), "metric": ladder.metric, "max_drop": ladder.max_drop, **about, "at": at}

    @property
    def _beside_id(self) -> str | None:
        return self.beside and str(self.beside[1].record.data["run_id"])

    def write(self) -> None:
        """Write the ladder so far to its folder, if it has one."""
        if self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(finite(self.ladder.document()), indent=2, ensure_ascii=False)
        for name, content in (("ladder.json", text), ("ladder.md", markdown(self.ladder))):
            with replacing(self.out / name) as temporary:
                temporary.write_text(content + "\n", encoding="utf-8")

    def _drop(self, run: FinishedRun) -> dict[str, float | None]:
        difference = against(self.original, run).difference
        if self.original.spec.task.selection.mode == "min":
            return {"value": difference.value, "low": difference.low, "high": difference.high}
        low, high = (None if end is None else 0.0 - end for end in (difference.high, difference.low))
        return {"value": 0.0 - difference.value, "low": low, "high": high}


def about(ladder: Ladder) -> list[str]:
    """Return what the reader of the table has to know, in lines."""
    last = ladder.accepted.measured
    timed = f"{last['examples']:,} examples with {last['threads']} thread{'s' * (last['threads'] > 1)} on {last['isa']}"
    before = "; those before it, with the original" if ladder.rungs.index(ladder.base) > 1 else ""
    return [
        f"{ladder.metric} on the test split. Intervals are paired with the original, over {ladder.clusters:,} "
        f"{ladder.units}; a rung is accepted if the upper end of its drop is at most {ladder.max_drop:g}.",
        f"Times are of forward passes, {timed}: CPU seconds for 1,000 examples, and p50 (p95) of a batch of 1 and of "
        f"32. Faster and smaller are against the rung {ladder.base.step}, with which each was timed in turns"
        f"{before}.",
        *ladder.notes,
        *_without_width(ladder),
        f"The last rung that is accepted: {ladder.accepted.step}, {ladder.accepted.run}",
    ]


def _without_width(ladder: Ladder) -> Iterator[str]:
    """Yield what is not known of rungs whose score is the original's on every cluster; merging changes no function."""
    drops = {one.step: (one.drop["low"], one.drop["high"]) for one in ladder.rungs}
    equal = [step for step, ends in drops.items() if step not in ("original", "merge") and ends == (0, 0)]
    beyond = clopper_pearson(0, ladder.clusters).high
    if equal and beyond > ladder.max_drop:
        yield (
            f"On none of the {ladder.clusters:,} {ladder.units} do the scores of {', '.join(equal)} differ, so that "
            f"the interval has no width. It says nothing of others, up to {beyond:.1%} of which may differ (Clopper & "
            "Pearson): a larger test split would show more."
        )


def markdown(ladder: Ladder) -> str:
    """Return the ladder as a page."""
    heads, *rows = ladder.rows()
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 2) + ["---"], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join([f"# Compression of {ladder.run}", table, *about(ladder)])


def _cpu(timing: Mapping[str, Any] | None) -> float | None:
    return None if timing is None else timing["cpu_seconds"]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _told(rung: Rung) -> str:
    high = rung.drop["high"]
    return "of whose drop there is no interval" if high is None else f"which may lose up to {high:.4f}"
