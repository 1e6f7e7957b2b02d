"""The claims of a finished run's record, checked against the evidence, entry by entry. No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from peftlab.runs.compare import differences
from peftlab.runs.decisions import STATISTICS
from peftlab.runs.identity import leaves

if TYPE_CHECKING:
    from peftlab.config import RunSpec
    from peftlab.runs.record import RunRecord
    from peftlab.use.evidence import Course, Evidence
    from peftlab.use.unchanged import File

Kind = Literal["status", "config", "data", "weights", "edited", "gone", "code", "packages", "environment", "result"]
"""The kind of a cause. ``edited``: the run folder was changed after the run, or contradicts itself; ``gone``: a file
that the record lists is missing; ``result``: the same training gives something else."""

NOT_READABLE = {
    "command": "the command line",
    "overrides": "the command line",
    "started_at": "times, except their order",
    "ended_at": "times, except their order",
    "history.*.at": "times, except their order",
    "environment.threads": "the number of threads, if trainer.threads is null",
    "environment.openmp_wait": "how threads waited for one another",
    "cost.wall_seconds": "durations",
    "cost.train_seconds": "durations",
    "cost.peak_memory_gib": "the peak memory",
    "cost.memory": "the memory by purpose",
    "cost.memory.weights_gib": "the memory by purpose",
    "cost.memory.gradients_gib": "the memory by purpose",
    "cost.memory.optimizer_gib": "the memory by purpose",
    "cost.memory.activations_gib": "the memory by purpose",
    "cost.memory.expected_gib": "the memory that was expected",
    "cost.memory.expected_is": "what kind of claim that is",
    "cost.compile": "what compiling cost and saved",
    "cost.energy_joules": "the energy",
    "cost.energy_counted": "what hardware counted it",
    "cost.train_flops": "the FLOPs",
    "cost.token_share": "the share of padding",
    "cost.shapes": "the number of shapes",
    "metrics.*.loss": "the losses, which predictions do not contain",
    "trail.jsonl": "the course of the training between its beginning and the best checkpoint",
    "log.txt": "the log",
}
"""Patterns of the entries and files that no evidence can verify, and what they state."""

_OF_EVERY_RUN = ("started", "validated", "completed", "resumed", "interrupted", "failed", "pruned")
"""Events that make up the course of a run; others are incidents."""
_CLOCK = timedelta(minutes=5)
"""How far a clock may be set back during a run."""

_LOGGED = ("metrics.csv", "tables/")
"""Files of a logger, which may fail without failing the run."""

_OF_TRAINING = ("history", "selection", "cost")
"""Entries that tell of a training, which a model computed from other runs has not had."""

_WEIGHTS = (".safetensors", ".onnx")
"""How the files end that an adapter's bytes are counted of."""

LATER_KEYS = ("selection.sha256", "data.splits.*.*", "label_budget.*")
LATER_FILES = ("trail.jsonl", "adapter/labels.json")
"""Entries and files that runs of older versions lack."""
COUNTED_OTHERWISE = ("data.train_test_overlap",)
"""Entries that other versions count otherwise: earlier ones took what follows one history for copies of one another."""


@dataclass(frozen=True)
class Cause:
    """Something that has changed, or contradicts the record."""

    kind: Kind
    what: str
    then: Any
    """According to the record; None: unknown, or nothing."""
    now: Any
    """The present value, or that of the repetition."""


@dataclass(frozen=True)
class Findings:
    """The result of checking a run."""

    causes: list[Cause]
    unverified: list[str]
    """Entries of the record, and files, that nothing here can verify."""


def hold(
    record: RunRecord, spec: RunSpec, present: Mapping[str, File], evidence: Evidence, same_code: bool
) -> Findings:
    """Check the record of a completed run against the evidence.

    Args:
        record: the record.
        spec: the specification of the run.
        present: the files of the run folder that the record lists, or that are the run's own.
        evidence: the evidence on the run.
        same_code: whether the run was made by the code that runs here, which leaves the same entries and files;
            otherwise those that only later versions leave may be missing.

    Raises:
        LookupError, TypeError, AttributeError: the record lacks an entry that every record has.
    """
    claims = _Claims(record, spec, present, evidence, same_code)
    parts = [claims.files(), claims.entries(), claims.scores()]
    if spec.derived is None:
        parts += [claims.history(), claims.selection(), claims.cost(), claims.trail()]
    else:
        claims.unverified += _OF_TRAINING
    causes = [cause for part in parts for cause in part]
    return Findings(causes, list(dict.fromkeys(claims.unverified)))


class _Claims:
    """The claims of one record; each method checks some of them against the evidence."""

    def __init__(
        self,
        record: RunRecord,
        spec: RunSpec,
        present: Mapping[str, File],
        evidence: Evidence,
        same_code: bool,
    ) -> None:
        self.run, self.record = record, record.data
        self.spec, self.present, self.evidence, self.same_code = spec, present, evidence, same_code
        self.unverified = [*NOT_READABLE, *(name for name in record.extensions if name not in evidence.sections)]
        self.resumed = bool(record.events("resumed"))
        self.skipped = bool(record.events("step left out"))
        self.course: Course = evidence.course
        self.logged = {} if record.events("logger failed") else evidence.logged

    def files(self) -> Iterator[Cause]:
        """Every finished run has its files, and the record lists each of them once."""
        listed = Counter(file["path"] for file in self.record["files"])
        for path in (path for path, times in listed.items() if times > 1):
            yield self._edited(f"files: {path} is listed twice", None, None)
        expected = [path for path in self.evidence.expected if self.logged or not path.startswith(_LOGGED)]
        for path in dict.fromkeys([*expected, *self.present]):
            if path in listed:
                continue
            if path in self.present:
                yield self._edited(f"files: {path} is here and not listed", None, self.present[path].sha256)
            elif self.same_code or path not in LATER_FILES:
                yield self._edited(f"files: {path} is neither listed nor here", None, None)
            else:
                self.unverified.append(path)
        for fault in self.evidence.adapter:
            yield Cause("edited", fault, None, None)

    def entries(self) -> Iterator[Cause]:
        """Entries that follow from configuration, data and model."""
        if not self.resumed:  # a run may get another name when it is resumed
            yield from self._held({"name": self.record["name"]}, {"name": self.spec.run_name})
        yield from self._held({"error": self.record["error"]}, {"error": None})
        own = self.evidence.environment
        yield from self._held(
            {"environment": {key: self.record["environment"][key] for key in own}}, {"environment": own}
        )
        size = sum(
            file.bytes
            for path, file in self.present.items()
            if path.startswith("adapter/") and path.endswith(_WEIGHTS) and not path.endswith(STATISTICS)
        )
        recorded, counted = dict(self.record["method"]), dict(self.evidence.method)
        if size:
            counted["adapter_bytes"] = size
        else:  # the weights are gone, which `check` says of the files
            recorded.pop("adapter_bytes", None)
            self.unverified.append("method.adapter_bytes")
        yield from self._held({"method": recorded}, {"method": counted})
        yield from self._held({"data": self.record["data"]}, {"data": self.evidence.data})
        for name, section in self.evidence.sections.items():
            yield from self._held({name: self.record.get(name, {})}, {name: section})

    def scores(self) -> Iterator[Cause]:
        """The record has every score of the task on every split, as it follows from the predictions, and no other."""
        expected: dict[tuple[str, str], float | None] = {}
        for answers in self.evidence.answers:
            expected |= {(answers.split, name): value for name, value in answers.scores.items()}
            expected[answers.split, "loss"] = None
            for fault in answers.faults:
                yield Cause("edited", f"predictions/{answers.split}.jsonl", None, fault)
        seen: set[tuple[str, str]] = set()
        for score in self.run.scores():
            key, value = (score["split"], score["name"]), score["value"]
            what = " ".join(key)
            if key not in expected:
                if self.same_code or key in seen:
                    yield self._edited(f"{what} is recorded twice, or is no score of this run", value, None)
                else:
                    self.unverified.append(f"metrics: {what}")
                continue
            seen.add(key)
            follows = expected.pop(key)
            if follows is not None and not self._is_same(value, follows):
                yield self._edited(f"{what} does not follow from the predictions", value, follows)
            elif not self._is_logged("/".join(key), value):
                yield self._edited(f"{what} is not in metrics.csv", value, None)
            yield from self._held(
                {what: {key: score[key] for key in ("checkpoint", "scorer")}},
                {what: {"checkpoint": "best", "scorer": self.spec.task.scorer.name}},
            )
        for (split, name), value in expected.items():
            if self.same_code or name in ("loss", self.spec.task.selection.metric):
                yield self._edited(f"{split} {name} is missing", None, value)
            else:
                self.unverified.append(f"metrics: {split} {name}")

    def history(self) -> Iterator[Cause]:
        """The events lead from the start to the end of the run, in order, and every validation is there when due."""
        record, events = self.record, self.run.events()
        names = [event["event"] for event in events]
        self.unverified += [f"history: {name}" for name in names if name not in _OF_EVERY_RUN]
        of_every_run = [name for name in names if name in _OF_EVERY_RUN]
        once = of_every_run.count("started") == of_every_run.count("completed") == 1
        if not once or (names[0], of_every_run[-1]) != ("started", "completed"):
            yield self._edited("history does not lead from the start to the end of a run", names[:1], names[-1:])
            return
        end = names.index("completed")
        # events of other ranks are added later
        times = [event["at"] for event in events[:end] if "rank" not in event]
        times = [record["started_at"], *times, record["ended_at"], *(event["at"] for event in events[end:])]
        # a resumed run may have been on machines whose clocks differ
        if (wrong := _out_of_order(times)) and not (self.resumed and _is_time(wrong)):
            yield self._edited("started_at, ended_at and history are out of order", wrong, None)
        validated = self.run.events("validated")
        steps = [event["step"] for event in validated]
        if self.resumed:  # validations after the checkpoint that it resumed from are repeated
            steps = sorted({*steps})
        due, last = self.course.interval, record["cost"]["steps"]
        if not self.skipped and (steps != [due * (n + 1) for n in range(len(steps))] or last // due != len(steps)):
            yield self._edited("history: the steps of the validations", steps, f"every {due} up to {last}")
        metric = self.spec.task.selection.metric
        for event in validated:
            what = f"history: {metric} after step {event['step']}"
            if event["of"] != self.course.steps:
                yield self._edited("history: steps of the whole training", event["of"], self.course.steps)
            if not self.resumed and not self._is_logged(f"validation/{metric}", event[metric]):
                yield self._edited(f"{what} is not in metrics.csv", event[metric], None)

    def selection(self) -> Iterator[Cause]:
        """The best checkpoint is the first of the best validations, and its weights are those of the trail."""
        record, selected, chosen = self.record, self.spec.task.selection, self.record["selection"]
        best = self.present.get("checkpoints/best.safetensors")
        expected: dict[str, Any] = {"metric": selected.metric, "split": "validation", "mode": selected.mode}
        expected |= {key: chosen.get(key) for key in ("value", "epoch", "step")}
        expected |= {"sha256": best.sha256 if best else chosen.get("sha256")}
        step, of_epoch = chosen["step"], self.course.steps_of_epoch
        values = [
            (event["step"], event[selected.metric])
            for event in self.run.events("validated")
            if event[selected.metric] is not None
        ]
        recorded = self.run.scores("validation", selected.metric)
        after = step == record["cost"]["steps"] and step not in [at for at, _ in values]
        """Whether it is the validation after the last step, which is not in the history."""
        if self.spec.task.decides:  # the scores are those after its decisions, and the best was chosen before
            if after and not self._is_logged(f"validation/{selected.metric}", chosen["value"]):
                yield self._edited("selection.value is not in metrics.csv", chosen["value"], None)
        elif recorded and recorded[0]["value"] != chosen["value"]:
            expected["value"] = recorded[0]["value"]
        if not after and values:
            first = _selected(values, selected.mode, self.spec.budget.select)
            if not self.resumed or (step, chosen["value"]) not in values:
                expected["step"] = first[0]
                if expected["value"] == chosen["value"]:
                    expected["value"] = first[1]
        elif not after:
            expected["step"] = record["cost"]["steps"]
        if not self.skipped:
            expected["epoch"] = -(-expected["step"] // of_epoch) if after else (expected["step"] - 1) // of_epoch
        yield from self._held({"selection": chosen}, {"selection": expected})
        trail, hashes = self.evidence.trail, self.evidence.best
        if trail is not None and hashes is not None:
            for point in trail.points:
                if point["step"] == step and not _are(hashes, point["hashes"]):
                    what = f"checkpoints/best.safetensors is not what trail.jsonl has after step {step}"
                    yield Cause("edited", what, None, None)

    def cost(self) -> Iterator[Cause]:
        """The steps are those of the budget, and the measured costs contradict neither it nor each other."""
        cost, course = self.record["cost"], self.course
        steps = cost["steps"]
        if not (steps == course.steps or (self.evidence.may_stop_early and 0 < steps < course.steps)):
            yield self._edited("cost.steps", steps, course.steps)
            return
        if "activation_cache" in cost:  # its size, and the time to fill it
            self.unverified.append("cost.activation_cache")
            if not self.spec.trainer.cache_activations:
                yield self._edited("cost.activation_cache", cost["activation_cache"], None)
        if odd := list(self._odd_measurements(cost)):
            yield from odd
            return
        if cost["train_seconds"] > cost["wall_seconds"]:
            yield self._edited("cost: it trained for longer than it took", cost["train_seconds"], cost["wall_seconds"])
        if self.skipped:
            self.unverified += ["cost.epochs", "cost.samples_per_second", "cost.tokens_per_second"]
            return
        if not math.isclose(cost["epochs"], steps / course.steps_of_epoch, abs_tol=1e-4):
            yield self._edited("cost.epochs", cost["epochs"], round(steps / course.steps_of_epoch, 4))
        if self.resumed and self.record["environment"]["world_size"] > 1:
            self.unverified += ["cost.samples_per_second", "cost.tokens_per_second"]
            return
        for (key, digits), seen in zip((("samples", 2), ("tokens", 1)), course.seen(steps), strict=True):
            if key == "tokens" and self.evidence.augments:
                self.unverified.append("cost.tokens_per_second")
                continue
            a_second = cost[f"{key}_per_second"]
            if not _is_rate(a_second, seen, cost["train_seconds"], digits):
                yield self._edited(f"cost.{key}_per_second is not {seen} in train_seconds", a_second, None)

    def _odd_measurements(self, cost: Mapping[str, Any]) -> Iterator[Cause]:
        """Yield the measured costs that are no numbers of at least 0."""
        others = {"steps", "epochs", "activation_cache", "energy_counted", "memory", "compile"}
        if cost.get("energy_joules") is None:  # the hardware counts none, or the run is older
            others.add("energy_joules")
            if counted := cost.get("energy_counted"):
                yield self._edited("cost.energy_counted: energy_joules is unknown", counted, [])
        for key, value in cost.items():
            if key not in others and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
                yield self._edited(f"cost.{key} is no measurement", value, None)

    def trail(self) -> Iterator[Cause]:
        """The trail has a point wherever one is due."""
        if self.evidence.broken_trail:
            yield Cause("edited", "trail.jsonl", None, self.evidence.broken_trail)
        if self.evidence.trail is None or not 0 < self.record["cost"]["steps"] <= self.course.steps:
            return
        last, every = self.record["cost"]["steps"], self.spec.trainer.trail_every
        due = {0, last, *range(every, last + 1, every), *(2**n for n in range(last.bit_length()) if 2**n <= last)}
        steps = [point["step"] for point in self.evidence.trail.points]
        is_whole = due <= {*steps} and steps == sorted({*steps}) and steps[-1] == last
        if not self.skipped and not (is_whole if self.resumed else steps == sorted(due)):
            yield Cause("edited", "trail.jsonl: the steps of its points", steps, sorted(due))

    def _held(self, then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Cause]:
        """Yield the entries of the record that differ from their expected values."""
        has, should = dict(leaves(then)), dict(leaves(now))
        for key, (one, other) in differences(then, now).items():
            only_later = key not in has and any(fnmatchcase(key, pattern) for pattern in LATER_KEYS)
            of_other_code = only_later or key in COUNTED_OTHERWISE or key not in should
            if not self.same_code and of_other_code and not key.endswith((".rows", ".file")):
                self.unverified.append(key)
            else:
                yield self._edited(key, one, other)

    def _edited(self, what: str, then: Any, now: Any) -> Cause:
        return Cause("edited", f"record.json: {what}", then, now)

    def _is_same(self, value: Any, follows: float) -> bool:
        """Return whether a recorded score is the one that follows; other code may sum floats in another order."""
        if math.isnan(follows):
            return value is None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value == follows or (not self.same_code and is_number and math.isclose(value, follows, rel_tol=1e-6))

    def _is_logged(self, name: str, value: Any) -> bool:
        """Return whether ``metrics.csv`` has the value too, if it has the metric at all; null stands for NaN."""
        logged = self.logged.get(name)
        if logged is None:
            return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        return value in logged if value is not None else any(not math.isfinite(one) for one in logged)


def _are(hashes: Sequence[str | None], of_point: Sequence[str]) -> bool:
    """Return whether tensors are those of a point, as far as their hashes can be compared."""
    return len(hashes) == len(of_point) and all(own in (None, its) for own, its in zip(hashes, of_point, strict=True))


def _selected(values: Sequence[tuple[int, float]], mode: str | None, select: str) -> tuple[int, float]:
    """Return the step and the score of the selected validation: the first of the best, or the last."""
    return values[-1] if select == "last" else min(values, key=lambda one: one[1] if mode == "min" else -one[1])


def _is_rate(a_second: float, total: int, seconds: float, digits: int) -> bool:
    """Return whether `total` in `seconds` gives the rate `a_second`; both are rounded, seconds to milliseconds."""
    if not seconds:
        return True
    slack = 0.5001 * 10**-digits
    return total / (seconds + 0.0005) - slack <= a_second <= total / max(seconds - 0.0005, 1e-9) + slack


def _is_time(text: Any) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except (ValueError, TypeError):
        return False


def _out_of_order(times: list[Any]) -> Any:
    """Return the first of `times` that is no time, or earlier than the one before; None if all are in order."""
    if odd := [repr(time) for time in times if not _is_time(time)]:
        return odd[0]
    moments = [datetime.fromisoformat(time) for time in times]
    return next((str(b) for a, b in pairwise(moments) if a - b > _CLOCK), None)
