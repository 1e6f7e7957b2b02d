"""The search space of a sweep: dimensions in Hydra's override grammar, from the command line and `sweep.space`.

``a=1,2``, ``a=choice(1,2)``, ``a=range(1,9)`` and ``a=glob(*)`` are choices; ``a=interval(1e-5,1e-2)`` is continuous,
or integer if both ends are written as integers; ``tag(log, interval(1e-5, 1e-2))`` is logarithmic. ``seed=0,1,2`` is
no dimension: every point is repeated with each seed.

For the same key, the command line overrides `sweep.methods`, which overrides `sweep.space`.
"""

from __future__ import annotations

import inspect
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from peftlab.errors import ConfigError, did_you_mean
from peftlab.sweep.arguments import as_typed, key_of
from peftlab.sweep.plan import Proposal
from peftlab.sweep.spec import SweepSpec

METHOD = "peft"
"""The group whose options may have dimensions of their own."""
SEED = "seed"

_LIST_SEEDS = "To repeat every point, list seeds: seed=0,1,2 or seed=range(0,3)"
NOT_SWEPT = ("hydra", "sweep", "sweep_dir", "run_dir", "existing")

Params = Mapping[str, str | int | float]
"""A point: the value of each key, a number for an interval, the text of the override for a choice."""


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    key: str
    """As in an override, with its prefix (``+experiment``)."""
    texts: tuple[str, ...]
    """The values as written in overrides."""
    ordered: bool = False
    """Whether the values are rising or falling numbers, so that neighbours are similar."""

    @property
    def size(self) -> int:
        """Number of values."""
        return len(self.texts)

    def values(self) -> Iterable[str]:
        """Return all values."""
        return self.texts

    def at(self, share: float) -> str:
        """Return the value at the relative position `share`, in [0, 1)."""
        return self.texts[int(share * len(self.texts))]

    def text(self, value: str | int | float) -> str:
        """Return the value as written in an override."""
        return str(value)

    def value(self, text: str) -> str | None:
        """Return the value of an override's text; None if it is not a choice."""
        if text not in self.texts:
            text = _canonical(text)
        return text if text in self.texts else None


@dataclass(frozen=True)
class Interval:
    """A number from `low` to `high`, inclusive."""

    key: str
    low: float
    high: float
    log: bool = False
    """Whether the scale is logarithmic."""
    integer: bool = False

    @property
    def size(self) -> int | None:
        """Number of values; None if continuous."""
        if self.integer:
            return int(self.high) - int(self.low) + 1
        return 1 if self.low == self.high else None

    def values(self) -> Iterable[int | float]:
        """Return all values of a countable interval."""
        return range(int(self.low), int(self.high) + 1) if self.integer else (self.low,)

    def at(self, share: float) -> int | float:
        """Return the number at the relative position `share`, in [0, 1)."""
        margin = 0.5 if self.integer else 0.0  # makes the ends as likely as other values
        low, high = self.low - margin, self.high + margin
        value = math.exp(_between(math.log(low), math.log(high), share)) if self.log else _between(low, high, share)
        inside = min(max(value, self.low), self.high)
        return round(inside) if self.integer else inside

    def text(self, value: str | int | float) -> str:
        """Return the value as written in an override; Hydra parses it to the same number."""
        return repr(int(value) if self.integer else float(value))

    def value(self, text: str) -> int | float | None:
        """Return the value of an override's text; None if it is outside the interval."""
        try:
            number = int(text) if self.integer else float(text)
        except ValueError:
            return None
        return number if self.low <= number <= self.high else None


Dimension = Choice | Interval


@dataclass(frozen=True)
class Space:
    """The points that a sweep may try."""

    fixed: tuple[str, ...] = ()
    """The overrides that are not dimensions, as typed."""
    dimensions: tuple[Dimension, ...] = ()
    """The dimensions of every point."""
    conditional: Mapping[str, tuple[Dimension, ...]] = field(default_factory=dict)
    """Additional or replacing dimensions, by option of `METHOD`."""
    seeds: tuple[int, ...] = ()
    """The seeds of every point; empty if the seed is not swept."""
    method: str | None = None
    """The option of `METHOD` that all points share, if known and not a dimension."""

    @classmethod
    def parse(
        cls,
        arguments: Sequence[str],
        spec: SweepSpec,
        config_loader: ConfigLoader | None = None,
        method: str | None = None,
    ) -> Self:
        """Parse the overrides of a command line and the dimensions of `spec`.

        Args:
            arguments: the overrides as typed.
            spec: for `space`, `methods` and the seed of shuffled choices.
            config_loader: Hydra's, which resolves ``glob``.
            method: the default option of `METHOD`.

        Raises:
            ConfigError: names the key and the allowed values.
        """
        reader = _Reader(_parser(config_loader), spec.seed)
        arguments = as_typed(arguments)
        swept = Counter(reader.key_of(argument) for argument in arguments if reader.sweeps(argument))
        for key in (key for key, times in swept.items() if times > 1):
            raise ConfigError(f"{key} is swept more than once: write all its values in one list, {key}=A,B,C")
        # as everywhere in Hydra, the last override wins; deleting a key and setting it are separate
        last = {(reader.key_of(argument), argument.startswith("~")): argument for argument in arguments}
        fixed = tuple(argument for argument in last.values() if not reader.takes(argument))
        for key, text in spec.space.items():
            reader.add(key, text, f"sweep.space.{key}", reader.dimensions)
        common = tuple(reader.dimensions.values())
        among = next((one for one in common if is_method(one.key)), None)
        method = None if isinstance(among, Choice) else reader.method or method
        options = among.texts if isinstance(among, Choice) else (method,)
        if spec.methods and options == (None,):
            raise ConfigError(f"sweep.methods: which of them? Name the method, {METHOD}={','.join(spec.methods)}")
        existing = config_loader.get_group_options(METHOD) if config_loader is not None else ()
        conditional: dict[str, tuple[Dimension, ...]] = {}
        for option, space in spec.methods.items():
            if existing and option not in existing:
                hint = did_you_mean(option, existing)
                raise ConfigError(f"sweep.methods.{option}: there is no {METHOD}={option}.{hint}")
            if METHOD in space:
                raise ConfigError(f"sweep.methods.{option}.{METHOD}: the space of a method cannot choose the method")
            own: dict[str, Dimension] = {}
            for key, text in space.items():
                reader.add(key, text, f"sweep.methods.{option}.{key}", own)
            if option in options:
                conditional[option] = tuple(own.values())
        return cls(fixed, common, conditional, reader.seeds, method)

    @property
    def methods(self) -> tuple[str, ...]:
        """The swept options of `METHOD`; empty if it is not a dimension."""
        among = next((one for one in self.dimensions if is_method(one.key)), None)
        return among.texts if isinstance(among, Choice) else ()

    def dimensions_of(self, method: str | None) -> tuple[Dimension, ...]:
        """Return the dimensions of points with this option of `METHOD`, fixed to it."""
        own = self.conditional.get(method or self.method or "", ())
        instead = {_bare(one.key) for one in own}
        common = (one for one in self.dimensions if _bare(one.key) not in instead)
        return (*(Choice(one.key, (method,)) if method and is_method(one.key) else one for one in common), *own)

    def within(self, method: str) -> Space:
        """Return the subspace with this option of `METHOD`."""
        return Space(self.fixed, self.dimensions_of(method), {}, self.seeds, method)

    @property
    def size(self) -> int | None:
        """Number of points; None if a dimension is continuous."""
        total = 0
        for method in self.methods or (None,):
            sizes = [one.size for one in self.dimensions_of(method)]
            counted = [size for size in sizes if size is not None]
            if len(counted) < len(sizes):
                return None
            total += math.prod(counted)
        return total

    def points(self) -> Iterator[Params]:
        """Yield every point, method by method, the last dimension varying fastest; all must be countable."""
        for method in self.methods or (None,):
            dimensions = self.dimensions_of(method)
            for values in itertools.product(*(one.values() for one in dimensions)):
                yield {one.key: value for one, value in zip(dimensions, values, strict=True)}

    def method_of(self, params: Params) -> str | None:
        """Return the option of `METHOD` at a point; None if unknown."""
        return next((str(value) for key, value in params.items() if is_method(key)), self.method)

    def overrides_of(self, params: Params, seed: int | None = None) -> tuple[str, ...]:
        """Return the overrides of a point and seed."""
        texts = [f"{one.key}={one.text(params[one.key])}" for one in self.dimensions_of(self.method_of(params))]
        return (*texts, *([] if seed is None else [f"{SEED}={seed}"]))

    def params_of(self, overrides: Sequence[str]) -> tuple[dict[str, str | int | float], int | None] | None:
        """Return the point and seed of overrides; None if they are not of this space."""
        texts = dict(override.partition("=")[::2] for override in overrides)
        if len(texts) < len(overrides):
            return None
        seed = None
        if self.seeds:
            text = texts.pop(SEED, "")
            seed = int(text) if text.isdecimal() else None
            if seed not in self.seeds:
                return None
        method = self.method_of(texts)
        if self.methods and method not in self.methods:
            return None
        dimensions = self.dimensions_of(method)
        if {one.key for one in dimensions} != set(texts):
            return None
        params: dict[str, str | int | float] = {}
        for one in dimensions:
            value = one.value(texts[one.key])
            if value is None:
                return None
            params[one.key] = value
        return params, seed

    def example(self) -> tuple[str, ...]:
        """Return the overrides of one point and seed."""
        return self.overrides_of(next(self.examples()), self.seeds[0] if self.seeds else None)

    def examples(self) -> Iterator[Params]:
        """Yield points that cover every option and both ends of every interval, varied one at a time."""
        for method in self.methods or (None,):
            dimensions = self.dimensions_of(method)
            options = {one.key: one.texts if isinstance(one, Choice) else (one.low, one.high) for one in dimensions}
            first: dict[str, str | int | float] = {key: values[0] for key, values in options.items()}
            yield first
            for key, values in options.items():
                yield from ({**first, key: value} for value in values[1:] if value != first[key])


def grid(space: Space) -> list[Proposal]:
    """Return a trial for every point and seed, the seed varying fastest, then the last dimension.

    Raises:
        ConfigError: an interval has no cells.
    """
    for one in (one for method in (space.methods or (None,)) for one in space.dimensions_of(method)):
        if isinstance(one, Interval):
            raise ConfigError(
                f"{one.key}: an interval has no cells that a grid could run. List values, {one.key}=a,b,c, or choose "
                "a search: sweep=search, or sweep.search=random, qmc, tpe, cmaes or gp with a sweep.budget"
            )
    seeds: tuple[int | None, ...] = space.seeds or (None,)
    return [Proposal(space.overrides_of(params, seed)) for params in space.points() for seed in seeds]


def _between(low: float, high: float, share: float) -> float:
    return (1 - share) * low + share * high  # never overflows


def is_method(key: str) -> bool:
    """Return whether the key of a dimension, without its prefix, is `METHOD`."""
    return _bare(key) == METHOD


def _bare(key: str) -> str:
    return key.lstrip("+")


def _parser(config_loader: ConfigLoader | None) -> OverridesParser:
    """Return Hydra's parser with an ``interval`` that keeps integers."""
    functions = create_functions()
    functions.functions["interval"] = _interval
    functions.definitions["interval"] = inspect.signature(_interval, eval_str=True)
    return OverridesParser(functions, config_loader)


def _interval(start: int | float, end: int | float) -> IntervalSweep:
    whole = isinstance(start, int) and isinstance(end, int)
    return IntervalSweep(start=start if whole else float(start), end=end if whole else float(end))


class _Reader:
    """Reads overrides one by one, the command line first."""

    def __init__(self, parser: OverridesParser, shuffled_by: int) -> None:
        self.dimensions: dict[str, Dimension] = {}
        self.seeds: tuple[int, ...] = ()
        self.method: str | None = None
        self._parser, self._shuffled_by = parser, shuffled_by
        self._typed: set[str] = set()
        """Keys on the command line."""

    def key_of(self, argument: str) -> str:
        """Return the key of a command-line argument."""
        return key_of(self._parsed(argument, argument))

    def sweeps(self, argument: str) -> bool:
        """Return whether a command-line argument has several values."""
        return bool(self._parsed(argument, argument).is_sweep_override())

    def takes(self, argument: str) -> bool:
        """Read a command-line argument; return whether it is a dimension or a list of seeds."""
        override = self._parsed(argument, argument)
        key = key_of(override)
        self._typed.add(key)
        if not override.is_sweep_override():
            if key == METHOD and not override.is_delete():
                self.method = str(override.value())
            return False
        self._refuse_what_is_of_the_sweep(key, argument)
        if key == SEED:
            self.seeds = _seeds(override, argument, self._shuffled_by)
        else:
            self.dimensions[key] = _dimension(override, argument, self._shuffled_by)
        return True

    def add(self, key: str, text: str, where: str, to: dict[str, Dimension]) -> None:
        """Read the configuration entry at `where`, unless the command line has its key."""
        override = self._parsed(f"{key}={text}", f"{where}={text}")
        bare = key_of(override)
        if bare == SEED:
            raise ConfigError(f"{where}: the seed is not searched over. {_LIST_SEEDS}")
        self._refuse_what_is_of_the_sweep(bare, where)
        if bare not in self._typed:
            to[bare] = _dimension(override, f"{where}={text}", self._shuffled_by)

    def _refuse_what_is_of_the_sweep(self, key: str, where: str) -> None:
        if key.replace("/", ".").partition(".")[0] in NOT_SWEPT:
            raise ConfigError(f"{where}: '{key}' is a setting of the sweep as a whole, which has one value of it")

    def _parsed(self, text: str, where: str) -> Override:
        try:
            return self._parser.parse_overrides([text])[0]
        except (HydraException, ValueError, TypeError) as error:
            reason = str(error).partition("\nSee https")[0].replace("\n", " ")
            raise ConfigError(f"{where}: not in Hydra's grammar: {reason}") from error


def _seeds(override: Override, argument: str, shuffled_by: int) -> tuple[int, ...]:
    if override.is_interval_sweep():
        raise ConfigError(f"{argument}: the seed is not searched over. {_LIST_SEEDS}")
    dimension = _dimension(override, argument, shuffled_by)
    assert isinstance(dimension, Choice)
    if not all(text.isdecimal() for text in dimension.texts):
        raise ConfigError(f"{argument}: seeds are whole numbers, seed=0,1,2")
    return tuple(int(text) for text in dimension.texts)


def _dimension(override: Override, where: str, shuffled_by: int) -> Dimension:
    key, swept = override.get_key_element(), override.value()
    tags = set(getattr(swept, "tags", ()))
    if unknown := tags - {"log"}:
        hint = did_you_mean(min(unknown), ["log"])
        raise ConfigError(f"{where}: there is no tag '{min(unknown)}'.{hint} Allowed: log")
    if isinstance(swept, IntervalSweep):
        return _interval_of(key, swept, where)
    if tags:
        raise ConfigError(f"{where}: the tag log goes with an interval: tag(log, interval(1e-5, 1e-2))")
    if not override.is_sweep_override():
        return Choice(key, (override.get_value_element_as_str(),))
    try:
        values = _in_order(override)
    except HydraException as error:
        raise ConfigError(f"{where}: the choices are not known here; list them, {key}=a,b") from error
    texts = tuple(dict.fromkeys(values))
    if not texts:
        raise ConfigError(f"{where}: holds no value")
    if getattr(swept, "shuffle", False):
        texts = tuple(random.Random(f"{shuffled_by} {key}").sample(texts, len(texts)))  # noqa: S311
        return Choice(key, texts)
    return Choice(key, texts, _is_ordered(texts))


def _in_order(override: Override) -> list[str]:
    """Return the texts of a choice or a range, unshuffled."""
    swept: Any = override.value()
    shuffled = getattr(swept, "shuffle", False)
    try:
        if isinstance(swept, RangeSweep) and not swept.step:
            raise HydraException("a range has a step")
        if shuffled:
            swept.shuffle = False
        return list(override.sweep_string_iterator())
    finally:
        if shuffled:
            swept.shuffle = True


def _interval_of(key: str, swept: IntervalSweep, where: str) -> Interval:
    low, high = swept.start, swept.end
    assert low is not None
    assert high is not None
    log = "log" in swept.tags
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ConfigError(f"{where}: an interval goes from a number to one that is not lower, interval(1e-5, 1e-2)")
    if log and low <= 0:
        raise ConfigError(f"{where}: by the logarithm only numbers above 0 can be searched")
    return Interval(key, low, high, log, isinstance(low, int) and isinstance(high, int))


def _is_ordered(texts: Sequence[str]) -> bool:
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return False
    pairs = list(itertools.pairwise(numbers))
    return len(numbers) > 1 and (all(a < b for a, b in pairs) or all(a > b for a, b in pairs))


def _canonical(text: str) -> str:
    """Return the value of an override as this module writes it; an empty text if Hydra cannot parse it."""
    try:
        override = OverridesParser.create().parse_override(f"key={text}")
        return "" if override.is_sweep_override() else override.get_value_element_as_str()
    except (HydraException, ValueError, TypeError):
        return ""
