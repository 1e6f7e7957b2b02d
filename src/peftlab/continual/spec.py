"""The configuration section `stream`: what is learnt one after another, and what it is compared with. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.data.subset import Values
from peftlab.errors import ConfigError
from peftlab.storage.names import check_folder
from peftlab.validation import checked

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid"))

Scenario = Literal["class", "domain", "task"]
Control = Literal["joint", "separate", "nearest_mean"]


def _as_stages(stages: Any) -> Any:
    """Return the stages of a list, each as a mapping; one that is a list has these labels."""
    if not isinstance(stages, list):
        return stages
    return [{"labels": stage} if isinstance(stage, list) else stage for stage in stages]


@spec
class StageSpec:
    """What one stage of a stream trains on."""

    name: str | None = None
    """Its name in tables and folders; None: its place in the list, from 1."""
    labels: Values = None
    """The labels that it brings; None: all of its data."""
    values: Values = None
    """The values of `StreamSpec.column` that it has; None: all."""
    overrides: list[str] = field(default_factory=list)
    """What else is different in it, in Hydra's grammar, such as another data set."""

    def __post_init__(self) -> None:
        """Check that its name can be that of a folder."""
        if self.name is not None:
            if "/" in self.name or not self.name.strip("."):
                raise ValueError(f"name = '{self.name}': names a folder of the stream; write letters and digits")
            check_folder("stream.stages.name", Path(self.name))


@spec
class StreamSpec:
    """A stream of stages, each an ordinary run that starts from the one before; see ``conf/stream``."""

    scenario: Scenario
    """class: each stage brings new labels, and all seen so far are told apart; domain: the same labels, of other texts;
    task: each stage has a head of its own, and a text comes with the name of its task."""
    stages: Annotated[Annotated[int, Field(ge=2)] | list[StageSpec], BeforeValidator(_as_stages)]
    """The stages; a number: the labels of the data in so many groups of equal size."""
    column: str | None = None
    """The column of the data whose values divide it into stages."""
    metric: str | None = None
    """The score that fills the matrix; None: the one that selects checkpoints."""
    order: int = Field(default=0, ge=0, lt=2**32)
    """0: as they are listed; any other number: an order of its own, drawn at random. Where `stages` is a number, the
    labels are put in that order, and so the groups are others too."""
    method: Literal["sequential", "separate_and_merge"] = "sequential"
    """sequential: a stage starts from the adapter of the one before; separate_and_merge: each from the pretrained
    model, and in the end their weights are merged."""
    merge: dict[str, Any] = field(default_factory=lambda: {"how": "ties"})
    """separate_and_merge: the rule of `peftlab ensemble` and its options."""
    memory: dict[str, Any] | None = None
    """What each stage remembers of the earlier ones: the options of an entry of ``data.replay``, such as
    ``{per_class: 5}``. None: nothing."""
    controls: list[Control] = field(default_factory=list)
    """What is trained beside: joint, all the data at once; separate, each stage alone; nearest_mean, no training at
    all: the class whose mean embedding, of the frozen encoder, is nearest."""
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] | None = None
    """The seeds of a study; None: that of the run."""
    orders: list[Annotated[int, Field(ge=0, lt=2**32)]] | None = None
    """The orders of a study; None: `order`."""
    methods: dict[str, list[str]] | None = None
    """The contenders of a study, by name: what is different in each, in Hydra's grammar. None: one, as configured."""

    def __post_init__(self) -> None:
        """Check that the stages say what they consist of, and that a memory or a merging can act."""
        if self.scenario == "task" and self.memory is not None:
            raise ValueError("memory: the head of a task knows no label of the others; use scenario=class, or null")
        if self.method == "separate_and_merge":
            self._check_merging()
        if not isinstance(self.stages, int):
            self._check_stages(self.stages)
        elif self.scenario == "domain":
            raise ValueError("stages: a number divides labels, and domains share theirs: list stages, by values")
        elif self.column is not None:
            raise ValueError(f"column = '{self.column}': a number divides labels; list stages, by values")

    def _check_stages(self, stages: Sequence[StageSpec]) -> None:
        """Check that each stage brings something, and none what another one has."""
        if len(stages) < 2:
            raise ValueError("stages: a stream has two or more")
        if self.column is not None and not any(stage.values for stage in stages):
            raise ValueError(f"column = '{self.column}': no stage has values of it. List them, or leave column out")
        for place, stage in enumerate(stages, 1):
            stage.name = stage.name or str(place)
            if stage.values is not None and self.column is None:
                raise ValueError(f"stages: {stage.name} has values, of which column? Set stream.column")
            if stage.labels is not None and self.scenario == "domain":
                raise ValueError(f"stages: {stage.name} has labels of its own, and domains share theirs")
            if not (stage.labels or stage.values or stage.overrides):
                raise ValueError(f"stages: {stage.name} says nothing: give labels, values or overrides")
        names = [stage.name for stage in stages]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"stages: two are named {twice}")
        seen: set[str] = set()
        for stage in stages:
            if self.scenario == "class" and (again := seen & {*(stage.labels or ())}):
                raise ValueError(f"stages: {stage.name} brings '{min(again)}', which an earlier stage has too")
            seen |= {*(stage.labels or ())}

    def _check_merging(self) -> None:
        """Check that the models of the stages can be merged, and that nothing is asked for that would not act."""
        if self.scenario == "task":
            raise ValueError(
                "method=separate_and_merge: the tasks of scenario=task have heads of their own, which cannot be "
                "merged; use scenario=class or domain"
            )
        if self.memory is not None:
            raise ValueError("memory: with method=separate_and_merge no stage follows another one; set memory=null")


def stream_spec(section: Any) -> StreamSpec:
    """Return the validated section `stream` of a configuration.

    Raises:
        ConfigError: names the wrong key, and what is allowed.
    """
    if not isinstance(section, Mapping):
        raise ConfigError(f"stream = {section!r}: choose an option, stream=classes, domains or tasks")
    stream: StreamSpec = checked(StreamSpec, dict(section), "stream")
    for key, values in (("seeds", stream.seeds), ("orders", stream.orders), ("controls", stream.controls)):
        if values is not None and len({*values}) < len(values):
            raise ConfigError(f"stream.{key} = {values}: one of them is listed twice")
    return stream
