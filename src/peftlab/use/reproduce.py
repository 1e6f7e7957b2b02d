"""Train a run again from its record, and say whether the same came out, and if not, why.

The verdict is one of

- identical: the trail, the trained weights, the predictions, the scores are the same, bit for bit;
- equivalent: they are not, but code, packages or the machine differ, and the scores lie within a stated spread;
- different: the folder contradicts its record, the scores lie outside, or nothing explains other bits;
- incomplete: it was not trained again, and files are gone by which the record could be checked;
- not comparable: configuration, data or weights are not those of the record, or it was not trained to its end.

Without training again, a verdict only says that folder and record do not contradict each other. A forgery that is
consistent in itself, its predictions, scores, weights and digests changed alike, cannot be told from a run by reading;
training the run again tells it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

from peftlab.config import validate
from peftlab.devices.process_state import restored
from peftlab.errors import DiskError, UserError
from peftlab.methods.adapter_files import ADAPTER_WEIGHTS
from peftlab.one_run import run
from peftlab.runs.compare import differences
from peftlab.runs.find import find
from peftlab.runs.folder import VERDICTS, RunFolder, read_config, read_predictions
from peftlab.runs.identity import deciding_part
from peftlab.runs.record import FILE_NAME as RECORD
from peftlab.runs.record import RunRecord
from peftlab.runs.start import claim_folder
from peftlab.storage.atomic import replacing
from peftlab.storage.digests import file_sha256, sha256_of
from peftlab.training import trail
from peftlab.training.trail import Fork
from peftlab.use.check import NOT_COMPARABLE, SURROUNDINGS, check, here
from peftlab.use.claims import NOT_READABLE, Cause, Findings, Kind

log = logging.getLogger("peftlab")

ROOT = Path("reproductions")
"""Where runs are trained again: not among the runs, whose table and starts of ids they would crowd."""

SPREAD = 0.01
"""What the seed alone moves a score by: about a point of F1 (Reimers & Gurevych 2017, https://arxiv.org/abs/1707.09861)."""

FEWEST_SEEDS = 3
"""Runs that differ in the seed alone; their range then takes the place of `SPREAD`."""

Outcome = Literal["identical", "equivalent", "different", "incomplete", "not comparable"]

_ADAPTER, _TRAIL = f"adapter/{ADAPTER_WEIGHTS}", "trail.jsonl"
_PREDICTIONS = ("predictions/validation.jsonl", "predictions/test.jsonl")
_LEFT_THE_SAME = (_TRAIL, _ADAPTER, *_PREDICTIONS)
"""Files that the same training leaves the same, byte for byte; a later version may add keys to predictions."""

_CAUSES_TOLD = 3
"""How many of a kind the text names; `reproduction.json` has them all."""


@dataclass(frozen=True)
class Score:
    """The score that selects the best checkpoint, on one split."""

    name: str
    split: str
    recorded: float
    again: float | None
    """None: the repetition has none."""
    allowed: float
    """How far apart the two may be where the surroundings differ."""

    @property
    def near(self) -> bool:
        """Whether they are no further apart."""
        return self.again is not None and abs(self.again - self.recorded) <= self.allowed


@dataclass(frozen=True)
class Verdict:
    """What is to be thought of a run."""

    verdict: Outcome
    because: str
    run: str
    """The folder of the run."""
    again: str | None
    """The folder of its repetition; None: it was not trained again."""
    at: str
    causes: list[Cause]
    """Everything that is not as it was, or not as the record says; in the order of `Kind`, what came of it last."""
    unverified: list[str]
    """Entries of the record, and files, of which nothing tells whether they are true; none where it was trained again,
    which tells of all that decides a result."""
    scores: list[Score]
    """Empty where it was not trained again."""
    allowed_from: str
    """Where the allowed differences come from."""
    fork: Fork | None
    """Where the trails of the run and its repetition part; None: nowhere, or there are none."""

    @property
    def reproduced(self) -> bool:
        """Whether the record may be believed."""
        return self.verdict in ("identical", "equivalent")

    def document(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return asdict(self)

    def text(self) -> str:
        """Return the verdict for people."""
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
            lines += [f"{kind}: {c.what}: {_short(c.then)} -> {_short(c.now)}" for c in causes[:_CAUSES_TOLD]]
            if len(causes) > _CAUSES_TOLD:
                lines.append(f"{kind}: and {len(causes) - _CAUSES_TOLD} more")
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
    """Train a run again as its record says, compare what comes out, and keep the verdict beside the record.

    It gets as many threads as the run had, and of its devices those that are here. No tracking server hears of it.

    Args:
        name: a run folder, or the start of an id below ``runs/`` or ``sweeps/``.
        out: the folder to train in, new or empty; by default one below `ROOT`.
        check_only: check the folder, and compare all that decides the result with what is here, but do not train.
        spread: how far apart scores may be where the surroundings differ, in the units of the score; None: the range
            over the finished runs beside this one that differ from it in the seed alone, if there are `FEWEST_SEEDS`,
            else `SPREAD`.
        allow: packages of your own whose classes the run's configuration may name: their code is run.

    Raises:
        UserError: there is no such run, `out` is taken, or what the run needs (a package, say) is not here.
    """
    folder = RunFolder(RunRecord.load(find(name)), allow=allow)
    folder.check_usable(read_config(folder.path))
    if out is not None and Path(out).exists() and (not Path(out).is_dir() or any(Path(out).iterdir())):
        raise UserError(f"'{out}' is there already and not empty: name a new or empty folder")
    findings = check(folder)
    again = None
    if not check_only and not any(cause.kind in NOT_COMPARABLE for cause in findings.causes):
        again = _train(folder, None if out is None else Path(out))
    verdict = judge(folder, findings, again, spread)
    _keep(verdict, folder.path / VERDICTS)
    return verdict


def judge(folder: RunFolder, findings: Findings, again: RunRecord | None, spread: float | None = None) -> Verdict:
    """Return the verdict on the run in `folder`.

    Args:
        folder: of the run.
        findings: of `check`.
        again: of its repetition; None: there is none.
        spread: see `reproduce`.
    """
    fork, points = _trails(folder, again)
    results = list(_results(folder, again)) if again else []
    causes = [*findings.causes, *(_pieces(folder, again) if again else ())]
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
        because = f"the folder does not hold what the run has left, or contradicts itself: {edited}"
        if trained and not any(cause.what in _LEFT_THE_SAME for cause in results):
            because += "; training again gave the files whose digests the record has"
        return "different", because
    if "gone" in kinds and not trained:
        gone = _listed(cause.what for cause in causes if cause.kind == "gone")
        return "incomplete", f"nothing contradicts the record, but what would show it is not here any more: {gone}"
    surroundings = _listed(kind for kind in SURROUNDINGS if kind in kinds)
    elsewhere = f"in other surroundings ({surroundings})" if surroundings else ""
    if not trained:
        if elsewhere:
            return "equivalent", f"all that decides the result is the same, but {elsewhere} the last bits may not be"
        return "identical", "all that decides the result is the same, and the folder agrees with its record"
    if not results:
        told = f"trail ({points} points), trained weights, predictions and scores came out the same, bit for bit"
        return "identical", f"{told}, even {elsewhere}" if elsewhere else told
    if points and not fork:
        told = _listed(cause.what for cause in results)
        return (
            "different",
            f"training took the same course to the last bit, and does not leave what is recorded: {told}",
        )
    parts = folder.record.data["environment"]["nondeterministic_parts"]
    if not (elsewhere or parts):
        return "different", "the same code, packages and machine gave other bits"
    told = f"other bits {elsewhere or f'from what is not deterministic ({_listed(parts)})'}"
    if scores and all(score.near for score in scores):
        return "equivalent", f"{told}, and the scores are near enough"
    return "different", f"{told}, but the scores are further apart than that allows"


def _train(folder: RunFolder, out: Path | None) -> RunRecord:
    config = here(folder.read_config(), folder.record.data["environment"]["threads"])
    if out is None:
        out = claim_folder(ROOT / validate(config).run_name, folder.path.resolve().name)
    anew = config | {"run_dir": str(out), "existing": "auto"}
    with restored():
        return run(anew, ["peftlab", "reproduce", str(folder.path)])


def _trails(folder: RunFolder, again: RunRecord | None) -> tuple[Fork | None, int]:
    """Return where the trails part, and how many points both have; none where one is missing or broken."""
    try:
        one = trail.read(folder.trail)
        other = trail.read(RunFolder(again).trail) if again else None
        return (trail.fork(one, other), len(trail.in_both(one, other))) if one and other else (None, 0)
    except (ValueError, LookupError, TypeError):  # only a trail that was changed by hand, and its digest tells
        return None, 0


def _results(folder: RunFolder, again: RunRecord) -> Iterator[Cause]:
    """Yield what the record has and the repetition has otherwise."""
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
        if then is not None:  # what only a later version records contradicts nothing
            yield Cause("result", f"record.json: {key}", then, value)


def _same_answers(recorded: Path, again: Path) -> bool:
    """Return whether two files of predictions say the same of each example, in all that the recorded one says."""
    try:
        then, now = ({row["id"]: row for row in read_predictions(file)} for file in (recorded, again))
        return then.keys() == now.keys() and all(row.items() <= now[id].items() for id, row in then.items())
    except (OSError, ValueError, LookupError, TypeError):  # there is nothing to compare: the digests differ
        return False


def _same_points(recorded: Path, again: Path) -> bool:
    """Return whether all points of a recorded trail, which may have lost some in a power cut, are in another."""
    one, other = trail.read(recorded), trail.read(again)
    if one is None or other is None or one.damage or not one.points:
        return False
    return (
        one.tensors == other.tensors
        and all(point == its for point, its in trail.in_both(one, other))
        and (len(trail.in_both(one, other)) == len(one.points))
    )


def _never(recorded: Path, again: Path) -> bool:
    """Return that two other files only say the same where their digests are."""
    return False


def _pieces(folder: RunFolder, again: RunRecord) -> Iterator[Cause]:
    """Yield the batches that one of the two has computed in pieces: how much memory is there belongs to the machine."""
    then, now = (
        sorted(f"{event['stage']}, {event['positions']} positions" for event in record.events("out of memory"))
        for record in (folder.record, again)
    )
    if then != now:
        yield Cause("environment", "batches too large for memory", _listed(then) or None, _listed(now) or None)


def _facts(run: RunRecord) -> dict[str, Any]:
    """Return what else of a record follows from the training."""
    record = run.data
    data = {key: value for key, value in record["data"].items() if key not in ("origin", "licence")}
    validated = {str(event["step"]): event.get(record["selection"]["metric"]) for event in run.events("validated")}
    cost = {key: record["cost"][key] for key in ("steps", "epochs")}
    sections = {key: record[key] for key in ("method", "selection")}
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


def _selecting(record: RunRecord, name: str) -> dict[str, float]:
    return {score["split"]: score["value"] for score in record.scores(name=name)}


def _ranges(folder: RunFolder, recorded: Mapping[str, float]) -> tuple[dict[str, float], str]:
    """Return by split how far apart the runs beside this one are that differ in the seed alone, and who says so."""
    name, seed = folder.record.data["selection"]["metric"], folder.read_config()["seed"]
    found: dict[int, dict[str, float]] = {}
    for file in sorted(folder.path.absolute().parent.glob(f"*/{RECORD}")):
        try:
            beside = RunFolder(RunRecord.load(file), allow=folder.allow)
            scores = _selecting(beside.record, name)
            like_it = beside.record.data["status"] == "completed" and scores.keys() == recorded.keys()
            if like_it and _but_seed(beside) == _but_seed(folder):
                found[beside.read_config()["seed"]] = scores
        except (UserError, LookupError, TypeError):  # not a whole run: it says nothing
            continue
    found.pop(seed, None)  # it is not to vouch for itself
    if len(found) < FEWEST_SEEDS:
        return dict.fromkeys(recorded, SPREAD), f"fewer than {FEWEST_SEEDS} runs beside it differ in the seed alone"
    of_split = {split: [scores[split] for scores in found.values()] for split in recorded}
    ranges = {split: max(values) - min(values) for split, values in of_split.items()}
    return ranges, f"the range over the {len(found)} runs beside it that differ in the seed alone"


def _but_seed(folder: RunFolder) -> tuple[str, Any, Any]:
    """Return what two runs share that differ in their seed at most."""
    known = folder.record.data["identity"]
    config = deciding_part(folder.read_config() | {"seed": None})
    return sha256_of(config), known["data_sha256"], known["weights_sha256"]


def _keep(verdict: Verdict, file: Path) -> None:
    """Add `verdict` to the list in `file`; where that cannot be written, say so: the verdict stands."""
    try:
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
        with replacing(file) as temporary:
            text = json.dumps([*known, verdict.document()], indent=2, ensure_ascii=False)
            temporary.write_text(text + "\n", encoding="utf-8")
    except (OSError, DiskError, ValueError, TypeError) as error:
        log.warning("%s: the verdict cannot be kept there: %s", file, error)


def _listed(names: Iterable[str]) -> str:
    several = list(dict.fromkeys(names))
    return ", ".join(several[:3]) + (f" and {len(several) - 3} more" if len(several) > 3 else "")


def _short(value: Any) -> str:
    """Return a value for people: of a digest its start."""
    text = "nothing" if value is None else str(value)
    return text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text
