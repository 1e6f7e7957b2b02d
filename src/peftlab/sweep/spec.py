"""The configuration section `sweep`: what a sweep tries, how it chooses, and when it stops."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.errors import ConfigError, did_you_mean
from peftlab.storage.names import check_folder
from peftlab.sweep.ledger import SELECTION
from peftlab.validation import checked

spec = dataclass(kw_only=True, config=ConfigDict(extra="forbid"))

Search = Literal["grid", "random", "qmc", "tpe", "cmaes", "gp"]
Reuse = Literal["always", "same_code", "never"]
Prune = Literal["none", "successive_halving", "asha", "hyperband", "median"]


@spec
class PruningSpec:
    """When trials are compared, and how many of them go on."""

    eta: int = Field(default=3, ge=2)
    """successive_halving, asha, hyperband: one trial in `eta` passes a rung, to be trained `eta` times as long."""
    min_fraction: float = Field(default=0.1, gt=0, lt=1)
    """No trial is stopped before this fraction of its training."""
    warmup_trials: int = Field(default=5, ge=1)
    """median: completed trials needed before any is stopped."""


@spec
class SweepBudgetSpec:
    """The limits of a search, which ends at the first one reached; with equal_budget, of each method's search."""

    trials: int | None = Field(default=None, ge=1)
    """Runs started; each seed of a point is one."""
    full_runs: float | None = Field(default=None, gt=0)
    """Complete trainings; a stopped trial counts by the fraction that it reached."""
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps."""
    hours: float | None = Field(default=None, gt=0)
    """Device hours."""
    money: float | None = Field(default=None, gt=0)
    """In the currency of `price_per_device_hour`."""

    @property
    def limits(self) -> dict[str, float | None]:
        """All limits by name."""
        limits = {"trials": self.trials, "full_runs": self.full_runs, "steps": self.steps}
        return {**limits, "hours": self.hours, "money": self.money}

    @property
    def limited(self) -> bool:
        """Whether any limit is set."""
        return any(limit is not None for limit in self.limits.values())


@spec
class SweepSpec:
    """The settings of a sweep as a whole; see ``conf/sweep``."""

    protocol: Literal["none", "equal_budget"] = "none"
    """equal_budget: tune each method over its own space at equal cost, then test its choice with `final_seeds`."""
    search: Search = "grid"
    """grid: every cell; random; qmc: evenly spread, best a power of two; tpe, cmaes, gp: guided by earlier scores."""
    space: dict[str, str] = field(default_factory=dict)
    """The values of each key in Hydra's grammar; the command line may add dimensions and fix these."""
    methods: dict[str, dict[str, str]] = field(default_factory=dict)
    """By option of `peft`: a space for that method alone."""
    objectives: dict[str, str] | None = None
    """max or min, by dotted key of the run record; null: the score that selects the best checkpoint."""
    prune: Prune = "none"
    """The rule that stops trials early; those that later rank among the best resume."""
    pruning: PruningSpec = field(default_factory=PruningSpec)
    """The settings of that rule."""
    budget: SweepBudgetSpec = field(default_factory=SweepBudgetSpec)
    """When the search ends."""
    price_per_device_hour: float | None = Field(default=None, ge=0)
    """In any currency; for the cost of the sweep."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the search, not of the trials."""
    final_seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    """equal_budget: seeds of the tested runs of each method's choice; should differ from those of the search."""
    report: bool = True
    """End with a report of all runs, in the sweep's folder."""
    ensemble: Annotated[int, Field(ge=1)] | None = None
    """End with an ensemble of this many runs, those with the best validation score; null: with none."""
    name: str | None = None
    """Name of the sweep's folder, which may refer to trial settings; null: the trials' name, or names joined."""
    reuse: Reuse = "always"
    """Which finished trials are kept: all, those made by the same code, or none."""
    retries: int = Field(default=0, ge=0)
    """Immediate restarts of a trial that died without reporting an error."""
    pack: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = 1
    """Trials in one process, which compute their steps together where they can, see `peftlab.packing`; auto: as many as
    a GPU has memory for, see `peftlab.sweep.probe.trials_that_fit`, and one on a CPU."""
    dry_run: bool = False
    """Check every trial known in advance, estimate the cost, and stop."""
    probe_seconds: float = Field(default=3.0, ge=0)
    """Duration of the trial run for the estimate; 0: no estimate."""

    def __post_init__(self) -> None:
        """Check constraints across keys and beyond their types."""
        if self.name is not None and (Path(self.name).is_absolute() or ".." in Path(self.name).parts):
            raise ConfigError(f"sweep.name = '{self.name}': must name a folder below sweeps/; sweep_dir takes any path")
        if self.name is not None:
            check_folder("sweep.name", Path(self.name))
        if self.objectives == {}:
            raise ConfigError(f"sweep.objectives is empty: null means {{{SELECTION}: max or min, as the task sets it}}")
        for key, mode in (self.objectives or {}).items():
            if mode not in ("max", "min"):
                hint = did_you_mean(mode, ["max", "min"])
                raise ConfigError(f"sweep.objectives.{key} = '{mode}': should be one of max, min.{hint}")
        if not self.final_seeds or len(set(self.final_seeds)) < len(self.final_seeds):
            raise ConfigError(f"sweep.final_seeds = {self.final_seeds}: list different seeds, at least one")
        if self.budget.money is not None and not self.price_per_device_hour:
            raise ConfigError("sweep.budget.money needs the price of an hour: sweep.price_per_device_hour=...")
        if self.protocol == "equal_budget":
            self._check_equal_budget()
        elif self.search == "grid":
            self._check_grid()
        if self.prune != "none":
            self._check_pruning()

    def _check_grid(self) -> None:
        chosen = f"sweep.prune = '{self.prune}'" if self.prune != "none" else "sweep.budget" * self.budget.limited
        if chosen:
            raise ConfigError(
                f"{chosen}: a grid runs all its cells to the end. Choose a search, sweep.search=random, qmc, tpe, "
                "cmaes or gp, or remove it: sweep=grid has neither pruning nor a budget"
            )

    def _check_equal_budget(self) -> None:
        others = [name for name, limit in self.budget.limits.items() if name != "full_runs" and limit is not None]
        if self.budget.full_runs is None or others:
            problem = f"sweep.budget.{others[0]} is set" if others else "sweep.budget.full_runs is null"
            raise ConfigError(f"{problem}: methods get an equal number of full_runs, and no other limit")
        if self.search == "grid":
            raise ConfigError(
                "sweep.search = 'grid': methods have grids of different sizes, which is no equal budget. Allowed: "
                "random, qmc, tpe, cmaes, gp; none of them tries a point twice"
            )
        if self.objectives is not None and list(self.objectives) != [SELECTION]:
            raise ConfigError(f"sweep.objectives = {self.objectives}: equal_budget tunes by {SELECTION} alone; null")

    def _check_pruning(self) -> None:
        if self.objectives is not None and len(self.objectives) > 1:
            raise ConfigError(
                f"sweep.prune = '{self.prune}': with several objectives nothing is pruned. Set sweep.prune=none, or "
                "leave one objective"
            )
        if self.objectives is not None and list(self.objectives) != [SELECTION]:
            raise ConfigError(
                f"sweep.prune = '{self.prune}': trials are compared early by the score that their best checkpoint is "
                f"selected by, so that must be the objective: sweep.objectives=null, or sweep.prune=none"
            )


def idle(spec: SweepSpec, overrides: Sequence[str], methods: Collection[str | None]) -> Iterator[str]:
    """Yield the settings of a command that have no effect, each with the reason.

    Args:
        spec: the settings of the sweep.
        overrides: of the command line; of what only the files of a group set, the spaces of methods alone are told.
        methods: those of its trials.
    """
    for method in sorted(spec.methods.keys() - set(methods)):
        yield f"sweep.methods.{method}: the sweep has no trial with that method"
    guided = spec.prune in ("successive_halving", "asha", "hyperband")
    acts = {
        "pruning.eta": (guided, f"sweep.prune={spec.prune}"),
        "pruning.min_fraction": (spec.prune != "none", "sweep.prune=none"),
        "pruning.warmup_trials": (spec.prune == "median", f"sweep.prune={spec.prune}"),
        "final_seeds": (spec.protocol == "equal_budget", f"sweep.protocol={spec.protocol}"),
    }
    said = {text.partition("=")[0].lstrip("+") for text in overrides}
    for key, (does, reason) in acts.items():
        if f"sweep.{key}" in said and not does:
            yield f"sweep.{key}: {reason}"


def sweep_spec(config: DictConfig) -> SweepSpec:
    """Return the checked section `sweep` of a composed configuration.

    Raises:
        ConfigError: names the key, the allowed values and the nearest match.
    """
    try:
        section = OmegaConf.to_container(config.sweep, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"sweep: {error}") from error
    assert isinstance(section, dict)
    section |= {key: section.get(key) or {} for key in ("space", "methods")}
    _check_texts("sweep.space", section["space"])
    _check_keys("sweep.methods", section["methods"], '{lora: {peft.r: "4,8"}}')
    for option, space in section["methods"].items():
        _check_texts(f"sweep.methods.{option}", space)
    result: SweepSpec = checked(SweepSpec, section, "sweep")
    return result


def _check_keys(where: str, node: Any, example: str) -> None:
    if not isinstance(node, dict):
        raise ConfigError(f"{where} = {node!r}: must map keys to values to choose from, {example}")


def _check_texts(where: str, space: Any) -> None:
    _check_keys(where, space, '{optimizer.lr: "1e-4,3e-4"}')
    for key, text in space.items():
        if not isinstance(text, str):
            raise ConfigError(
                f'{where}.{key} = {text!r}: must be a text in Hydra\'s grammar, such as "1e-4,3e-4" or '
                '"tag(log, interval(1e-5, 1e-2))"'
            )
