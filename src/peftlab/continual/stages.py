"""The stages of a stream, and the configuration of the run of each."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf.errors import OmegaConfBaseException

from peftlab.composing.compose import compose, explain_composition
from peftlab.composing.hydra_gate import plain_values
from peftlab.continual.spec import StageSpec, StreamSpec, stream_spec
from peftlab.data.reading import read_data_set
from peftlab.errors import ConfigError
from peftlab.one_run import settle
from peftlab.storage.digests import sha256_of

Config = dict[str, Any]
"""A composed configuration in plain values."""

DATA_OF_A_STAGE = ("data", "budget", "task")
"""The sections that decide what the test split of a stage is."""

OF_A_CONTENDER = ("stream.memory", "stream.method", "stream.merge")
"""The settings of the stream in which contenders may differ."""

OF_THE_STREAM = ("stream", "seed", "adapter", "run_dir", "existing")
"""What is set for a stream as a whole."""

OF_MEMORY = "peftlab.regularizers.der.Der"
"""The regulariser that acts on the memory, and has nothing to do before there is one."""


@dataclass(frozen=True)
class Stage:
    """One stage of a stream, in a certain order."""

    name: str
    labels: tuple[str, ...]
    """The labels that it brings; empty where its task has none."""
    restricted: bool
    """Whether its data has other labels too, which are left out."""
    values: tuple[str, ...] | None
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Composing:
    """Composes the configurations of a stream from the overrides of its command."""

    overrides: tuple[str, ...]
    config_dir: str | None = None
    _composed: dict[tuple[str, ...], Config] = field(default_factory=dict)

    def __call__(self, *more: str) -> Config:
        """Return the configuration with `more` overrides, each in the place of an earlier one of the same key.

        Raises:
            ConfigError: there is no such option or key, or one has no value.
        """
        if more not in self._composed:
            layers = {key_of(text): text for text in (*self.overrides, *more)}
            config = compose(*layers.values(), config_dir=self.config_dir)
            try:
                self._composed[more] = plain_values(config)
            except OmegaConfBaseException as error:
                raise ConfigError(explain_composition(error, [])) from error
        return deepcopy(self._composed[more])


def key_of(override: str) -> str:
    """Return the key that an override sets."""
    return override.lstrip("+~").partition("=")[0]


def _refuse_what_is_of_the_stream(where: str, overrides: Sequence[str], but: Sequence[str] = ()) -> None:
    """Refuse overrides of a contender or a stage that would be overlooked there, `but` those of some keys."""

    def is_in(key: str, keys: Sequence[str]) -> bool:
        return any(key == one or key.startswith(f"{one}.") for one in keys)

    for text in overrides:
        key = key_of(text)
        if is_in(key, OF_THE_STREAM) and not is_in(key, but):
            allowed = f" Of its section, these may be set here: {', '.join(but)}" if but else ""
            raise ConfigError(
                f"{where}: {text}: is set for the stream as a whole, in the command or its experiment; seeds are "
                f"listed in stream.seeds.{allowed}"
            )


@dataclass(frozen=True)
class Contender:
    """A way to learn a stream: the overrides in which it differs from the others."""

    name: str
    overrides: tuple[str, ...]
    composing: Composing

    def config(self, *more: str) -> Config:
        """Return its configuration with `more` overrides."""
        return self.composing(*self.overrides, *more)

    @cached_property
    def spec(self) -> StreamSpec:
        """Its own settings of the stream, such as its memory."""
        return stream_spec(self.config()["stream"])


class Plan:
    """The stages of a stream in one order, as `contender` learns them with one seed."""

    def __init__(self, contender: Contender, seed: int, order: int) -> None:
        _refuse_what_is_of_the_stream(f"stream.methods.{contender.name}", contender.overrides, OF_A_CONTENDER)
        self.contender, self.spec, self.seed, self.order = contender, contender.spec, seed, order
        self.stages = self._ordered()

    def _ordered(self) -> list[Stage]:
        if isinstance(number := self.spec.stages, int):
            labels = _drawn(self._labels_of(self._whole()), self.order)
            if len(labels) < 2 * number:
                raise ConfigError(f"stream.stages = {number}: {len(labels)} labels are not two for each stage")
            parts = [labels[places[0] : places[-1] + 1] for places in np.array_split(np.arange(len(labels)), number)]
            return [Stage(str(n), tuple(part), True, None, ()) for n, part in enumerate(parts, 1)]
        return [self._stage(each) for each in _drawn(number, self.order)]

    def _stage(self, each: StageSpec) -> Stage:
        _refuse_what_is_of_the_stream(f"stream.stages: {each.name}", each.overrides)
        config = self._whole(*each.overrides)
        labels = each.labels or self._labels_of(config)
        values = None if each.values is None else tuple(each.values)
        return Stage(str(each.name), tuple(labels), each.labels is not None, values, tuple(each.overrides))

    def _whole(self, *more: str) -> Config:
        """Return the configuration that a stage takes its part of.

        Raises:
            ConfigError: it is a part itself.
        """
        config = self.contender.config(*more)
        if config["data"].get("subset") is not None:
            raise ConfigError(
                "data.subset: the stages of a stream are subsets themselves, and take its place. Give each stage its "
                "labels, or its values of stream.column; where stages are a number, data.labels=[...] names the labels "
                "to divide"
            )
        return config

    def _labels_of(self, config: Config) -> list[str]:
        """Return the labels of the data of `config`: the declared ones, or those of the training split."""
        if config["data"]["labels"]:
            return list(config["data"]["labels"])
        _, spec = settle(config | {"stream": None})
        read_data_set(spec.data, spec.task)
        return spec.task.declared_labels

    def seen(self, last: int) -> list[str]:
        """Return the labels of the stages up to the one at `last`, in order."""
        return list(dict.fromkeys(label for stage in self.stages[: last + 1] for label in stage.labels))

    def alone(self, place: int, labels: Sequence[str] | None = None, forgetful: bool = True) -> Config:
        """Return the configuration of the stage at `place` as if it was the only one.

        Args:
            place: of the stage.
            labels: of the head; None: those of the stage.
            forgetful: whether there is nothing to keep, so that regularisers that keep it are left out.
        """
        stage = self.stages[place]
        config = self.contender.config(*stage.overrides) | {"stream": None, "seed": self.seed, "run_dir": None}
        subset: dict[str, Any] = {}
        if stage.restricted:
            subset["labels"] = list(stage.labels)
        if stage.values is not None:
            subset |= {"column": self.spec.column, "values": list(stage.values)}
        config["data"]["subset"] = subset or None
        if stage.labels:
            config["data"]["labels"] = list(labels or stage.labels)
        regularizers = config.get("regularizer") or {}
        config["regularizer"] = {name: node for name, node in regularizers.items() if not (forgetful and _keeps(node))}
        return config

    def keeping(self) -> list[str]:
        """Return the sections of the configuration that keep what earlier stages have learnt."""
        config = self.contender.config()
        kept = [f"regularizer.{name}" for name, node in (config.get("regularizer") or {}).items() if _keeps(node)]
        return kept + [f"peft={config['peft']['name']}"] * ("previous" in config["peft"])

    def config(self, place: int, earlier: Sequence[Path]) -> Config:
        """Return the configuration of the stage at `place`, which follows the runs in the folders `earlier`."""
        labels = self.seen(place) if self.spec.scenario == "class" else None
        config = self.alone(place, labels, forgetful=not earlier)
        if "previous" in config["peft"]:
            config["peft"]["previous"] = filled(config["peft"]["previous"], earlier)
        elif earlier:
            config["adapter"] = str(earlier[-1] / "adapter")
        for node in config["regularizer"].values():
            if isinstance(node, dict) and "previous" in node:
                node["previous"] = filled(node["previous"], earlier)
        if self.spec.memory is not None and earlier:
            own = config["data"].get("replay") or []  # of runs before the stream
            config["data"]["replay"] = [*own, *({"run": str(run), **self.spec.memory} for run in earlier)]
        return config

    def joint(self) -> Config:
        """Return the configuration of one run on the data of all stages, as long as all of them together.

        Raises:
            ConfigError: they have heads, or data sets, of their own; or no choice of labels and values has just them.
        """
        if self.spec.scenario == "task":
            raise ConfigError(
                "stream.controls: joint: the stages of scenario=task have heads of their own; leave it out"
            )
        if any(stage.overrides for stage in self.stages):
            raise ConfigError(
                "stream.controls: joint: the stages have data sets of their own. Write them into one, with a column "
                "that tells them apart, or leave it out"
            )
        # some labels and some values would be all their pairs, also those of no stage
        if min(len({stage.labels for stage in self.stages}), len({stage.values for stage in self.stages})) > 1:
            raise ConfigError(
                "stream.controls: joint: the stages differ in labels and in values, and their data at once is no "
                "subset by these. Have them differ in one of the two, or leave it out"
            )
        config = self.alone(0, sorted(self.seen(len(self.stages) - 1)))
        if (subset := config["data"]["subset"]) is not None:
            if "labels" in subset:
                subset["labels"] = list(config["data"]["labels"])
            if "values" in subset:
                subset["values"] = sorted({value for stage in self.stages for value in stage.values or ()})
        for key in ("train_examples", "max_steps"):  # of a stage; other limits grow with the data
            if isinstance(number := config["budget"][key], int | float) and number >= 1:
                config["budget"][key] = number * len(self.stages)
        return config

    def test_of(self, place: int) -> str:
        """Return a digest of what decides the test split of the stage at `place`."""
        config = self.alone(place)
        return str(sha256_of({key: config[key] for key in DATA_OF_A_STAGE}))


def _keeps(node: Any) -> bool:
    """Return whether a regulariser keeps what earlier runs have learnt, of which its options name none."""
    if not isinstance(node, dict):
        return False
    return node.get("_target_") == OF_MEMORY or ("previous" in node and node["previous"] in (None, []))


def filled(previous: Any, earlier: Sequence[Path]) -> Any:
    """Return the earlier runs that an option asks for: null stands for the last one, an empty list for all."""
    if previous not in (None, []) or not earlier:
        return previous
    return str(earlier[-1]) if previous is None else [str(run) for run in earlier]


def _drawn(members: Sequence[Any], order: int) -> list[Any]:
    """Return `members` in the order of this number; 0: as they are."""
    if order == 0:
        return list(members)
    return [members[place] for place in np.random.default_rng(order).permutation(len(members))]
