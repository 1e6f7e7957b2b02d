"""The rules of alerts, as a file says them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from typing_extensions import override

from peftlab.errors import ConfigError, did_you_mean
from peftlab.reading import plain_yaml
from peftlab.reading.durations import seconds_in
from peftlab.serving.observing.window import Window
from peftlab.storage.atomic import replacing
from peftlab.validation import explain, unknown_key

PROBES = ("/livez", "/readyz")
"""The routes that orchestrators ask all the time."""
DEFAULT = Path(__file__).with_name("alerts.yml")


def _seconds(value: Any) -> Any:
    """Return the seconds in ``90s``, ``5m``, ``1h`` or ``2d``; what is written otherwise stays as it is."""
    if not isinstance(value, str):
        return value
    if (seconds := seconds_in(value, "smhd")) is None:
        raise ValueError("expected a time, such as 90s, 5m, 1h or 2d")
    return seconds


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, le=30 * 86400)]
Share = Annotated[float, Field(ge=0, le=1)]
Subject = str
"""What a value is of: a model, or the whole server, which is an empty text."""

spec = dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))


@spec
class Rule(ABC):
    """When somebody is to be alerted."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    window: Annotated[Seconds, Field(ge=10)] = 300.0
    """The time that is looked back on, in seconds."""
    lasting: Seconds = 0.0
    """How long the condition must have held."""
    cool_down: Seconds = 3600.0
    """How long after an alert the same rule is silent."""

    unit: ClassVar[str] = ""

    @abstractmethod
    def values(self, window: Window) -> dict[Subject, float]:
        """Return what the rule looks at, for each subject that there is enough of."""

    @abstractmethod
    def is_broken(self, value: float) -> bool:
        """Return whether `value` calls for an alert."""

    @property
    @abstractmethod
    def limit(self) -> str:
        """The threshold in words, such as ``above 0.5 s``."""


@spec
class _Above(Rule):
    above: float

    @override
    def is_broken(self, value: float) -> bool:
        return value > self.above

    @property
    @override
    def limit(self) -> str:
        return f"above {self.above:g}{self.unit}"


@spec
class Latency(_Above):
    """A percentile of the time that requests took, in seconds."""

    above: Annotated[float, Field(gt=0)]
    percentile: Annotated[float, Field(gt=0, lt=100)] = 99.0
    model: str | None = None
    route: str = "/v1/predict"
    at_least: Annotated[int, Field(ge=1)] = 20
    """The fewest requests that say something."""
    unit: ClassVar[str] = " s"

    @override
    def values(self, window: Window) -> dict[Subject, float]:
        only = {"route": self.route, "model": self.model}
        if window.total("peftlab_request_seconds_count", **only) < self.at_least:
            return {}
        value = window.quantile("peftlab_request_seconds", self.percentile / 100, **only)
        return {} if value is None else {self.model or "": value}


@spec
class Errors(_Above):
    """The share of requests with one of some statuses; ``5xx`` stands for 500 to 599.

    Probes do not count: many good ones would hide that every question fails.
    """

    above: Share
    statuses: list[Annotated[str, Field(pattern=r"^[1-5](\d\d|xx)$")]] = field(default_factory=lambda: ["5xx"])
    model: str | None = None
    at_least: Annotated[int, Field(ge=1)] = 20
    """The fewest requests that say something."""

    @override
    def values(self, window: Window) -> dict[Subject, float]:
        by_status = Counter(window.by("peftlab_requests_total", "status", model=self.model))
        for route in PROBES:
            by_status.subtract(window.by("peftlab_requests_total", "status", model=self.model, route=route))
        count = sum(by_status.values())
        if count < self.at_least:
            return {}
        bad = sum(n for status, n in by_status.items() if {status, f"{status[0]}xx"} & set(self.statuses))
        return {self.model or "": bad / count}


@spec
class Refused(_Above):
    """The share of inputs that got no answer."""

    above: Share
    model: str | None = None
    at_least: Annotated[int, Field(ge=1)] = 20
    """The fewest inputs that say something."""

    @override
    def values(self, window: Window) -> dict[Subject, float]:
        count = window.total("peftlab_inputs_total", model=self.model)
        if count < self.at_least:
            return {}
        return {self.model or "": window.total("peftlab_inputs_refused_total", model=self.model) / count}


@spec
class Drift(_Above):
    """How far inputs or answers are from the run's own validation split, where chance does not explain it."""

    above: Annotated[float, Field(ge=0)] = 0.1
    measure: Literal["psi", "js"] = "psi"
    of: Literal["any", "lengths", "unknown", "labels", "confidence"] = "any"
    model: str | None = None

    @override
    def values(self, window: Window) -> dict[Subject, float]:
        drifts: dict[Subject, float] = {}
        now = window.end.values
        for labels, value in now.get("peftlab_drift", {}).items():
            at = dict(labels)
            if (
                at["measure"] != self.measure
                or self.of not in ("any", at["of"])
                or self.model not in (None, at["model"])
            ):
                continue
            limit = now["peftlab_drift_limit"][frozenset({**at, "measure": "js"}.items())]
            by_chance = now["peftlab_drift"][frozenset({**at, "measure": "js"}.items())] <= limit
            drifts[at["model"]] = max(drifts.get(at["model"], 0.0), 0.0 if by_chance else value)
        return drifts


@spec
class LabelShare(Rule):
    """The share of a label among the labels of a model's answers."""

    label: str
    above: Share | None = None
    below: Share | None = None
    model: str | None = None
    at_least: Annotated[int, Field(ge=1)] = 100
    """The fewest labels that say something."""

    def __post_init__(self) -> None:
        if self.above is None and self.below is None:
            raise ValueError("expected `above` or `below`, or both")

    @override
    def values(self, window: Window) -> dict[Subject, float]:
        shares = {}
        for model, count in window.by("peftlab_answers_total", "model", model=self.model).items():
            if count >= self.at_least:
                shares[model] = window.total("peftlab_answers_total", model=model, label=self.label) / count
        return shares

    @override
    def is_broken(self, value: float) -> bool:
        return (self.above is not None and value > self.above) or (self.below is not None and value < self.below)

    @property
    @override
    def limit(self) -> str:
        bounds = {"above": self.above, "below": self.below}
        return " or ".join(f"{name} {bound:g}" for name, bound in bounds.items() if bound is not None)


@spec
class Queue(_Above):
    """How many inputs wait."""

    above: Annotated[float, Field(ge=0)]
    unit: ClassVar[str] = " inputs"

    @override
    def values(self, window: Window) -> dict[Subject, float]:
        return {"": sum(window.end.by("peftlab_queue_inputs", "").values())}


@spec
class Silence(Rule):
    """Fewer requests than there should be."""

    below: Annotated[int, Field(ge=1)] = 1
    model: str | None = None
    route: str = "/v1/predict"
    unit: ClassVar[str] = " requests"

    @override
    def values(self, window: Window) -> dict[Subject, float]:
        if window.seconds < 0.9 * self.window:  # the server has not been there for so long
            return {}
        only = {"route": self.route, "model": self.model}
        return {self.model or "": window.total("peftlab_requests_total", **only)}

    @override
    def is_broken(self, value: float) -> bool:
        return value < self.below

    @property
    @override
    def limit(self) -> str:
        return f"below {self.below}{self.unit}"


KINDS: dict[str, type[Rule]] = {
    "latency": Latency,
    "errors": Errors,
    "refused": Refused,
    "drift": Drift,
    "label_share": LabelShare,
    "queue": Queue,
    "silence": Silence,
}


@spec
class Webhook:
    """An address that takes each message as JSON by POST."""

    webhook: Annotated[str, Field(pattern=r"^https?://[^\s/]+")] | None = None
    webhook_from: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] | None = None
    """The environment variable with the address, which may be a secret."""
    timeout: Annotated[float, Field(gt=0, le=60)] = 5.0
    retries: Annotated[int, Field(ge=0, le=10)] = 3

    def __post_init__(self) -> None:
        if (self.webhook is None) == (self.webhook_from is None):
            raise ValueError("expected `webhook`, an address, or `webhook_from`, an environment variable that has it")


@spec
class LinesFile:
    """A file that gets each message as a line of JSON."""

    file: Annotated[str, Field(min_length=1)]


@plain_dataclass(frozen=True)
class Alerts:
    """What a file of alerts says."""

    rules: tuple[Rule, ...]
    to: tuple[Webhook | LinesFile, ...]


def read(file: str | Path) -> Alerts:
    """Return the rules in a file, and who is told.

    Raises:
        ConfigError: it cannot be read or used; names the line, and says what is allowed.
    """
    path = Path(file)
    with plain_yaml.reading(path):
        text = path.read_text(encoding="utf-8")
        document = plain_yaml.load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(document, dict) or not isinstance(node, yaml.MappingNode):
        raise ConfigError(
            f"{path}:1: expected the keys `rules` and `to`; `peftlab serve --write-alerts FILE` writes one"
        )
    at = {key.value: (key, value) for key, value in node.value}
    for name in document:
        if name not in ("rules", "to"):
            raise ConfigError(f"{path}:{_line(at[name][0])}: {unknown_key(name, ['rules', 'to'])}")
    rules = _each(path, document, at, "rules", _rule)
    names = [rule.name for rule in rules]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ConfigError(f"{path}:{_line(at['rules'][1].value[number])}: there is a rule '{name}' above already")
    return Alerts(tuple(rules), tuple(_each(path, document, at, "to", _recipient)))


def write_default(file: str | Path) -> None:
    """Write rules to begin with.

    Raises:
        ConfigError: there is a file already.
        DiskError: it cannot be written.
    """
    path = Path(file)
    if path.exists():
        raise ConfigError(f"{path}: is there already; name a new file")
    with replacing(path) as temporary:
        temporary.write_text(DEFAULT.read_text(encoding="utf-8"), encoding="utf-8")


def _each(path: Path, document: Mapping[str, Any], at: Mapping[str, Any], name: str, build: Any) -> list[Any]:
    values, place = document.get(name), f"{path}:{_line(at[name][0]) if name in at else 1}"
    if not isinstance(values, list) or not values or not all(isinstance(value, dict) for value in values):
        raise ConfigError(f"{place}: `{name}` must be a list of at least one section of keys and values")
    return [build(path, value, node) for value, node in zip(values, at[name][1].value, strict=True)]


def _rule(path: Path, values: dict[str, Any], node: yaml.MappingNode) -> Rule:
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        said = "a rule has no `kind`" if kind is None else f"kind: {kind!r} is none"
        hint = did_you_mean(str(kind), KINDS)
        raise ConfigError(f"{path}:{_line(_key(node, 'kind'))}: {said}.{hint} Allowed: {', '.join(KINDS)}")
    rule: Rule = _checked(KINDS[kind], {key: value for key, value in values.items() if key != "kind"}, path, node)
    return rule


def _recipient(path: Path, values: dict[str, Any], node: yaml.MappingNode) -> Webhook | LinesFile:
    recipient: Webhook | LinesFile = _checked(LinesFile if "file" in values else Webhook, values, path, node)
    return recipient


def _checked(cls: type, values: Mapping[str, Any], path: Path, node: yaml.MappingNode) -> Any:
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        lines = []
        for detail in error.errors():
            key = str(detail["loc"][0]) if detail["loc"] else ""
            said = explain(cls, detail, "").removeprefix(": ").replace(f"{key}=...", f"{key}: ...")
            lines.append(f"{path}:{_line(_key(node, key))}: {said}")
        raise ConfigError("\n       ".join(lines)) from error


def _key(node: yaml.MappingNode, name: str) -> yaml.Node:
    """Return the node of a key; the section's own if it has no such key."""
    keys: Sequence[yaml.Node] = [key for key, _ in node.value if key.value == name]
    return keys[0] if keys else node


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
