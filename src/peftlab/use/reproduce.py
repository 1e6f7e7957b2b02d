"""Trains a run again from its record, and says whether the result is the same, and if not, why.

The verdict is one of

- identical: trail, trained weights, predictions and scores are the same, bit for bit;
- equivalent: they are not, but code, packages or machine differ, and the scores lie within a stated spread;
- different: the folder contradicts its record, the scores lie outside the spread, or nothing explains other bits;
- incomplete: it was not trained again, and files that could confirm the record are gone;
- not comparable: configuration, data or weights are not those of the record, or the run did not finish.

Without training again, a verdict only says that folder and record do not contradict each other. It does not detect a
consistent forgery, in which predictions, scores, weights and digests were all changed; training the run again does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

from peftlab.config import validate
from peftlab.devices.process_state import restored
from peftlab.errors import UserError
from peftlab.methods.adapter_files import ADAPTER_WEIGHTS
from peftlab.one_run import run
from peftlab.report.numbers import limits
from peftlab.runs.compare import differences
from peftlab.runs.decisions import SECTION
from peftlab.runs.find import find
from peftlab.runs.folder import VERDICTS, RunFolder, keep_beside, read_config, read_predictions
from peftlab.runs.other_seeds import other_seeds
from peftlab.runs.record import RunRecord
from peftlab.runs.start import claim_folder
from peftlab.scores.scorer import SCORED
from peftlab.storage.digests import file_sha256
from peftlab.training import trail
from peftlab.training.trail import Fork
from peftlab.use.check import NOT_COMPARABLE, SURROUNDINGS, check, here
from peftlab.use.claims import NOT_READABLE, Cause, Findings, Kind

ROOT = Path("reproductions")
"""The folder of repetitions: among the runs they would crowd the table and make starts of ids ambiguous."""

SPREAD = 0.01
"""The effect of the seed alone on a score: about a point of F1 (Reimers & Gurevych 2017, https://arxiv.org/abs/1707.09861).

It is that part of the largest value which a score can have; of one without such a value, of the score itself.
"""

FEWEST_SEEDS = 3
"""From this many runs that differ in the seed alone, their range replaces `SPREAD`."""

Outcome = Literal["identical", "equivalent", "different", "incomplete", "not comparable"]

_ADAPTER, _TRAIL = f"adapter/{ADAPTER_WEIGHTS}", "trail.jsonl"
_PREDICTIONS = tuple(f"predictions/{split}.jsonl" for split in SCORED)
_LEFT_THE_SAME = (_TRAIL, _ADAPTER, *_PREDICTIONS)
"""Files that the same training reproduces byte for byte; a later version may add keys to predictions."""

_CAUSES_SHOWN = 3
"""How many causes of a kind the text lists; `reproduction.json` has them all."""


@dataclass(frozen=True)
class Score:
    """The score that selects the best checkpoint, on one split."""

    name: str
    split: str
    recorded: float | None
    """None: it is no number, such as the correlation with answers that are all the same."""
    again: float | None
    """None: the repetition has none, or it is no number."""
    allowed: float
    """How far apart the two may be if the surroundings differ."""

    @property
    def near(self) -> bool:
        """Whether their difference is allowed."""
        if self.again is None or self.recorded is None:
            return self.again is self.recorded
        return abs(self.again - self.recorded) <= self.allowed


@dataclass(frozen=True)
class Verdict:
    """The verdict on a run."""

    verdict: Outcome
    because: str
    run: str
    """The folder of the run."""
    again: str | None
    """The folder of its repetition; None: it was not trained again."""
    at: str
    causes: list[Cause]
    """Everything that has changed or contradicts the record, in the order of `Kind`: differences in results come last.
    """
    unverified: list[str]
    """Entries of the record, and files, that nothing can verify; empty if it was trained again, which verifies all that
    decides a result."""
    scores: list[Score]
    """Empty if it was not trained again."""
    allowed_from: str
    """The source of the allowed differences."""
    fork: Fork | None
    """Where the trails of the run and its repetition diverge; None: nowhere, or a trail is missing."""

    @property
    def reproduced(self) -> bool:
        """Whether the record can be trusted."""
        return self.verdict in ("identical", "equivalent")

    def document(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return asdict(self)

    def text(self) -> str:
        """Return the verdict as text."""
        lines = [f"{self.verdict}: {self.because}", f"run: {self.run}", f"trained again: {self.again or 'no'}"]
        for score in self.scores:
            lines.append(f"{score.split} {score.name}: {score.recorded!r}, again {score.again!r}")
        if self.scores and self.verdict != "identical":
            allowed = ", ".join(f"{score.allowed:.2g} on {score.split}" for score in self.scores)
            lines.append(f"allowed difference: {allowed} ({self.allowed_from})")
        if self.fork:
            before = "it is the first" if self.fork.same_until is None else f"the same up to {self.fork.same_until}"
            lines.append(
                f"first difference: after step {self.fork.step} ({before}), in {self.fork.tensor or 'the loss alone'}; "
                f"loss {self.fork.loss[0]}, again {self.fork.loss[1]}"
            )
        for kind, group in groupby(self.causes, key=lambda cause: cause.kind):
            causes = list(group)
            lines += [f"{kind}: {c.what}: {_short(c.then)} -> {_short(c.now)}" for c in causes[:_CAUSES_SHOWN]]
            if len(causes) > _CAUSES_SHOWN:
                lines.append(f"{kind}: and {len(causes) - _CAUSES_SHOWN} more")
        if self.unverified:
            reasons = dict.fromkeys(NOT_READABLE.get(entry, entry) for entry in self.unverified)
            lines.append(f"unverified: {'; '.join(reasons)}")
            lines.append("a consistent forgery cannot be told from a run by reading: training it again tells")
        return "\n".join(lines)


def reproduce(
    name: str | Path,
    out: str | Path | None = None,
    check_only: bool = False,
    spread: float | None = None,
    allow: Sequence[str] = (),
) -> Verdict:
    """Train a run again as its record says, compare the results, and keep the verdict next to the record.

    It uses as many threads as the run did, and the devices of the run that are here. Nothing goes to a tracking server.

    Args:
        name: a run folder, or the start of an id below ``runs/`` or ``sweeps/``.
        out: the folder to train in, new or empty; by default one below `ROOT`.
        check_only: check the folder and all that decides the result, but do not train.
        spread: how far apart scores may be if the surroundings differ, in the units of the score; None: the range over
            the finished runs next to this one that differ from it in the seed alone, if there are `FEWEST_SEEDS`, else
            a part of the score, see `SPREAD`.
        allow: your own packages whose classes the run's configuration may name: their code is run.

    Raises:
        UserError: there is no such run, `out` is not empty, `spread` is below 0, or a dependency of the run (such as a
            package) is missing.
    """
    if spread is not None and not 0 <= spread < math.inf:
        raise UserError(f"--spread {spread}: scores differ by a number from 0 on, in their own units")
    folder = RunFolder(RunRecord.load(find(name)), allow=allow)
    folder.record.check_trained("reproduce")
    folder.check_usable(read_config(folder.path))
    if out is not None and Path(out).exists() and (not Path(out).is_dir() or any(Path(out).iterdir())):
        raise UserError(f"'{out}' is there already and not empty: name a new or empty folder")
    findings = check(folder)
    again = None
    if not check_only and not any(cause.kind in NOT_COMPARABLE for cause in findings.causes):
        again = _train(folder, None if out is None else Path(out))
    verdict = judge(folder, findings, again, spread)
    keep_beside(folder.path, VERDICTS, verdict.document())
    return verdict


def judge(folder: RunFolder, findings: Findings, again: RunRecord | None, spread: float | None = None) -> Verdict:
    """Return the verdict on the run in `folder`.

    Args:
        folder: the run folder.
        findings: the result of `check`.
        again: the record of its repetition; None: there is none.
        spread: see `reproduce`.
    """
    fork, points = _trails(folder, again)
    results = list(_results(folder, again)) if again else []
    causes = [*findings.causes, *(_pieces(folder, again) if again else ()), *_packed(folder)]
    scores, allowed_from = _scores(folder, again, spread) if again else ([], "")
    outcome, because = _decide(folder, causes, results, scores, fork, points, again is not None)
    kinds = get_args(Kind)
    return Verdict(
        verdict=outcome,
        because=because,
        run=str(folder.path),
        again=str(again.folder) if again else None,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        causes=sorted([*causes, *results], key=lambda cause: kinds.index(cause.kind)),
        unverified=[] if again else findings.unverified,
        scores=scores,
        allowed_from=allowed_from,
        fork=fork,
    )


def _decide(
    folder: RunFolder,
    causes: list[Cause],
    results: list[Cause],
    scores: list[Score],
    fork: Fork | None,
    points: int,
    trained: bool,
) -> tuple[Outcome, str]:
    kinds = {cause.kind for cause in causes}
    for kind, reason in NOT_COMPARABLE.items():
        if kind in kinds:
            return "not comparable", reason
    if "edited" in kinds:
        edited = _listed(cause.what for cause in causes if cause.kind == "edited")
        because = f"the folder was changed after the run, or contradicts itself: {edited}"
        if trained and not any(cause.what in _LEFT_THE_SAME for cause in results):
            because += "; training again gave the files whose digests the record has"
        return "different", because
    if "gone" in kinds and not trained:
        gone = _listed(cause.what for cause in causes if cause.kind == "gone")
        return "incomplete", f"nothing contradicts the record, but files that could confirm it are gone: {gone}"
    surroundings = _listed(kind for kind in SURROUNDINGS if kind in kinds)
    elsewhere = f"in other surroundings ({surroundings})" if surroundings else ""
    if not trained:
        if elsewhere:
            return "equivalent", f"all that decides the result is the same, but {elsewhere} the last bits may not be"
        return "identical", "all that decides the result is the same, and the folder agrees with its record"
    if not results:
        same = f"trail ({points} points), trained weights, predictions and scores came out the same, bit for bit"
        return "identical", f"{same}, even {elsewhere}" if elsewhere else same
    if points and not fork:
        differing = _listed(cause.what for cause in results)
        return (
            "different",
            f"training took the same course to the last bit, but the results are not the recorded ones: {differing}",
        )
    parts = folder.record.data["environment"]["nondeterministic_parts"]
    if not (elsewhere or parts):
        return "different", "the same code, packages and machine gave other bits"
    explained = f"other bits {elsewhere or f'from nondeterministic parts ({_listed(parts)})'}"
    if scores and all(score.near for score in scores):
        return "equivalent", f"{explained}, and the scores are near enough"
    return "different", f"{explained}, but the scores are further apart than that allows"


def _train(folder: RunFolder, out: Path | None) -> RunRecord:
    config = here(folder.read_config(), folder.record.data["environment"]["threads"])
    if out is None:
        out = claim_folder(ROOT / validate(config).run_name, folder.path.resolve().name)
    anew = config | {"run_dir": str(out), "existing": "auto"}
    with restored():
        again = run(anew, ["peftlab", "reproduce", str(folder.path)])
    return RunRecord.load(again.folder)  # as the other is: null where a score is NaN


def _trails(folder: RunFolder, again: RunRecord | None) -> tuple[Fork | None, int]:
    """Return where the trails diverge, and the number of common points; none if a trail is missing or broken."""
    try:
        one = trail.read(folder.trail)
        other = trail.read(RunFolder(again).trail) if again else None
        return (trail.fork(one, other), len(trail.in_both(one, other))) if one and other else (None, 0)
    except (ValueError, LookupError, TypeError):  # the trail was changed by hand, which its digest shows
        return None, 0


def _results(folder: RunFolder, again: RunRecord) -> Iterator[Cause]:
    """Yield the results of the record that differ in the repetition."""
    one, other = folder.record.data, again.data
    before, now = ({file["path"]: file["sha256"] for file in record["files"]} for record in (one, other))
    for name in _LEFT_THE_SAME:
        file = folder.path / name
        then = before.get(name) or (file_sha256(file) if file.is_file() else None)
        if then == now.get(name) or (then is None and name == _TRAIL):  # an older run has none
            continue
        agree = _same_answers if name in _PREDICTIONS else _same_points if name == _TRAIL else _never
        if not agree(file, again.folder / name):
            yield Cause("result", name, then, now.get(name))
    scores = [{f"{m['split']} {m['name']}": m["value"] for m in record.scores()} for record in (folder.record, again)]
    for key, (then, value) in differences(*scores).items():
        yield Cause("result", key, then, value)
    for key, (then, value) in differences(_facts(folder.record), _facts(again)).items():
        if then is not None:  # an entry that only later versions record contradicts nothing
            yield Cause("result", f"record.json: {key}", then, value)


def _same_answers(recorded: Path, again: Path) -> bool:
    """Return whether two files of predictions agree on each example, in all keys of the recorded one."""
    try:
        then, now = ({row["id"]: row for row in read_predictions(file)} for file in (recorded, again))
        return then.keys() == now.keys() and all(row.items() <= now[id].items() for id, row in then.items())
    except (OSError, ValueError, LookupError, TypeError):  # there is nothing to compare: the digests differ
        return False


def _same_points(recorded: Path, again: Path) -> bool:
    """Return whether all points of a recorded trail, some of which a power cut may have lost, are in another."""
    one, other = trail.read(recorded), trail.read(again)
    if one is None or other is None or one.damage or not one.points:
        return False
    return (
        one.tensors == other.tensors
        and all(point == its for point, its in trail.in_both(one, other))
        and (len(trail.in_both(one, other)) == len(one.points))
    )


def _never(recorded: Path, again: Path) -> bool:
    """Return False: other files agree only if their digests do."""
    return False


def _pieces(folder: RunFolder, again: RunRecord) -> Iterator[Cause]:
    """Yield the batches that only one of the two computed in pieces: the memory belongs to the machine."""
    then, now = (
        sorted(f"{event['stage']}, {event['positions']} positions" for event in record.events("out of memory"))
        for record in (folder.record, again)
    )
    if then != now:
        yield Cause("environment", "batches too large for memory", _listed(then) or None, _listed(now) or None)


def _packed(folder: RunFolder) -> Iterator[Cause]:
    """Yield that steps were computed with those of other runs, which rounds them otherwise; a repetition is alone."""
    packing = folder.record.extensions.get("packing", {})
    if packing.get("joint_steps"):
        yield Cause("environment", "runs whose steps were computed together", packing.get("runs"), 1)


def _facts(run: RunRecord) -> dict[str, Any]:
    """Return the other entries of a record that follow from the training."""
    record = run.data
    aside = ("origin", "licence", "train_test_overlap")  # `check` holds the last one against the data
    data = {key: value for key, value in record["data"].items() if key not in aside}
    validated = {str(event["step"]): event.get(record["selection"]["metric"]) for event in run.events("validated")}
    cost = {key: record["cost"][key] for key in ("steps", "epochs")}
    sections = {key: record[key] for key in ("method", "selection", SECTION) if key in record}
    return {"data": data, "cost": cost, "history.validated": validated, **sections}


def _scores(folder: RunFolder, again: RunRecord, spread: float | None) -> tuple[list[Score], str]:
    name = folder.record.data["selection"]["metric"]
    recorded, repeated = _selecting(folder.record, name), _selecting(again, name)
    if spread is not None:
        ranges, allowed_from = dict.fromkeys(recorded, spread), "as given"
    else:
        ranges, allowed_from = _ranges(folder, recorded)
    scores = [Score(name, split, value, repeated.get(split), ranges[split]) for split, value in recorded.items()]
    return scores, allowed_from


def _selecting(record: RunRecord, name: str) -> dict[str, float | None]:
    return {score["split"]: score["value"] for score in record.scores(name=name)}


def _ranges(folder: RunFolder, recorded: Mapping[str, float | None]) -> tuple[dict[str, float], str]:
    """Return, by split, the range over the neighbouring runs that differ in the seed alone, and its source."""
    name = folder.record.data["selection"]["metric"]
    others = (_selecting(run, name) for run in other_seeds(folder).values())  # a run must not vouch for itself
    numbers = [{split: value for split, value in scores.items() if value is not None} for scores in others]
    by_seed = [scores for scores in numbers if scores.keys() == recorded.keys()]
    if len(by_seed) < FEWEST_SEEDS:
        most = limits(name)[1]
        is_bounded = math.isfinite(most)
        spreads = {split: SPREAD * (most if is_bounded else abs(value or 0.0)) for split, value in recorded.items()}
        of = f"the largest possible {name}" if is_bounded else f"the {name} itself"
        return spreads, f"{SPREAD:g} of {of}: fewer than {FEWEST_SEEDS} runs beside it differ in the seed alone"
    of_split = {split: [scores[split] for scores in by_seed] for split in recorded}
    ranges = {split: max(values) - min(values) for split, values in of_split.items()}
    return ranges, f"the range over the {len(by_seed)} runs beside it that differ in the seed alone"


def _listed(names: Iterable[str]) -> str:
    several = list(dict.fromkeys(names))
    return ", ".join(several[:3]) + (f" and {len(several) - 3} more" if len(several) > 3 else "")


def _short(value: Any) -> str:
    """Return a value as text; a digest is shortened."""
    text = "nothing" if value is None else str(value)
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
