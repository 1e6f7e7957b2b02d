"""What a watch looks at and when it alerts, as a file says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.errors import ConfigError, did_you_mean
from peftlab.opinion import detectors, sinks
from peftlab.opinion.times import duration, moment
from peftlab.reading import plain_yaml
from peftlab.validation import checked

FEWEST_SEASONS = 3
"""Whole seasons that a baseline has at least: the mean of a phase over fewer windows says too little."""


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("is no time zone, such as UTC or Europe/Berlin") from None
    return name


def _choice(package: Any, key: str) -> Any:
    """Return what builds one of the classes in a package of options, from its name or from a section with it."""

    def build(value: Any) -> Any:
        if type(value) in map(package.chosen, package.kinds()):  # from Python
            return value
        section = {key: value} if isinstance(value, str) else value
        if not isinstance(section, Mapping) or not isinstance(kind := section.get(key), str):
            raise ValueError(f"expected a section with `{key}`, one of {', '.join(package.kinds())}")
        if kind not in package.kinds():
            raise ValueError(
                f"there is no {key} '{kind}'.{did_you_mean(kind, package.kinds())} "
                f"Allowed: {', '.join(package.kinds())}"
            )
        others = {name: each for name, each in section.items() if name != key}
        return checked(package.chosen(kind), others, kind)

    return BeforeValidator(build)


Seconds = Annotated[float, BeforeValidator(duration), Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[^\s=]+$", max_length=60)]


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class Settings:
    """Which shares are watched, over which windows, and how many false alarms are allowed."""

    names: list[Name] | None = None
    """What the runs answer, in their order, such as topic and opinion; with scores, the columns of the labels."""
    window: Annotated[Seconds, Field(ge=60)] = 86400.0
    """The length of a window, such as 1d; windows begin at multiples of it since a Monday, by the clock of `zone`."""
    lateness: Seconds = 0.0
    """How far behind the newest text another may be and still count."""
    zone: Annotated[str, AfterValidator(_zone)] = "UTC"
    """The zone of windows, and of times that do not say theirs."""
    baseline: Annotated[int, Field(ge=5)] | str = 28
    """How many windows, the first ones, show what is normal; or a period, from a day to before another, as A/B."""
    season: Annotated[int, Field(ge=1)] = 1
    """Windows after which it repeats itself, such as 7 for days of a week; each phase has a mean of its own."""
    min_count: Annotated[int, Field(ge=1)] = 30
    """A window with fewer texts says nothing of a series."""
    repeats: Literal["once", "all"] = "once"
    """Whether texts that are equal but for case, white space, addresses and mentions count once a window."""
    correction: Literal["adjusted", "em", "none"] = "adjusted"
    """Of shares for the errors of the classifier."""
    confusion: Literal["test", "validation"] = "test"
    """The split whose answers show these errors."""
    detector: Annotated[Any, _choice(detectors, "kind")] = field(default_factory=detectors.chosen("cusum"))
    shift: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The change of a share that is to be found fast."""
    false_alarms_per_month: Annotated[float, Field(gt=0)] = 1.0
    """Alerts over all series in 30 days in which nothing changes, on average."""
    close_after: Annotated[int, Field(ge=1)] = 3
    """Quiet windows after which an alert is over."""
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """The probability that an interval covers."""
    series: list[str] | None = None
    """What is watched: a name, or a name within the values of another, such as `opinion in topic`; null: all names, and
    the last one of `names` in each of the others."""
    most_values: Annotated[int, Field(ge=1, le=1000)] = 20
    """Values of a column that are watched: the most frequent ones of the baseline."""
    jump: Annotated[int, Field(ge=1)] = 30
    """A text so many windows after the newest one is set aside: its time is more likely wrong than true."""
    sinks: list[Annotated[Any, _choice(sinks, "to")]] = field(default_factory=list)
    """Who is told."""
    seed: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        period = self.period
        windows = self.baseline if isinstance(self.baseline, int) else int((period[1] - period[0]) // self.window)
        if windows < 5:
            raise ValueError(f"baseline: {self.baseline} has {windows} windows; expected 5 or more")
        if self.season > 1 and windows < FEWEST_SEASONS * self.season:
            raise ValueError(
                f"season: {self.season}: the baseline has {windows} windows, and needs {FEWEST_SEASONS} of each phase: "
                f"at least {FEWEST_SEASONS * self.season}"
            )
        if self.names is not None and len(set(self.names)) < len(self.names):
            raise ValueError("names: two are the same")

    @property
    def period(self) -> tuple[float, float]:
        """The beginning and the end of the baseline, in seconds; all of time if it is a number of windows."""
        if isinstance(self.baseline, int):
            return float("-inf"), float("inf")
        begin, slash, end = self.baseline.partition("/")
        try:
            period = moment(begin.strip(), self.zone), moment(end.strip(), self.zone)
        except ValueError:
            period = (0.0, 0.0)
        if not slash or period[0] >= period[1]:
            raise ValueError(
                f"baseline: '{self.baseline}' is neither a number of windows nor a period such as 2026-01-01/2026-02-01"
            )
        return period


def read(file: Path | None) -> tuple[Settings, dict[str, Any]]:
    """Return the settings in a file and the values that it gives; without a file the defaults.

    Raises:
        ConfigError: it cannot be read, or a value is not allowed; says what is.
    """
    if file is None:
        return Settings(), {}
    with plain_yaml.reading(file):
        values = plain_yaml.load(file.read_text(encoding="utf-8")) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected keys and values, such as `window: 1d`")
    try:
        return checked(Settings, values, ""), values
    except ConfigError as error:
        raise ConfigError(f"{file}: {str(error).removeprefix(': ')}") from None
