"""From composed configuration to a validated run: `resolve`, then `validate`, which builds with `peftlab.specs`."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, get_args

from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab import specs
from peftlab.abstaining.spec import OutOfScope
from peftlab.abstaining.spec import refuse as refuse_out_of_scope
from peftlab.composing.compose import explain_composition
from peftlab.composing.hydra_gate import plain_values
from peftlab.data.augmentation.augmentation import Augmentation
from peftlab.data.named_files import resolve_files
from peftlab.data.spec import BudgetSpec, DataSpec
from peftlab.devices.hardware import resolve_hardware
from peftlab.devices.spec import TrainerSpec
from peftlab.errors import ConfigError
from peftlab.federated.refusals import refuse as refuse_in_rounds
from peftlab.federated.spec import FederatedSpec, rounds_as_epochs
from peftlab.generation.options import Generation
from peftlab.imports import find_here
from peftlab.methods.adapter_files import AdapterSpec, resolve_adapter
from peftlab.methods.continued import resolve_previous
from peftlab.methods.method import Method
from peftlab.models.backbone import ModelSpec
from peftlab.models.quantizing import check_installed
from peftlab.privacy.refusals import refuse_uncounted
from peftlab.privacy.spec import PrivacySpec
from peftlab.regularizers.regularizer import PassRule, RateRule, Regularizer, StepRule, Term, WeightAverage, key_of
from peftlab.runs.derivation import DerivedSpec
from peftlab.runs.notice import Notice
from peftlab.schedules import Schedule
from peftlab.scores.scorer import SCORED, Direction
from peftlab.semi_supervised.joining import without_null_views
from peftlab.semi_supervised.method import SemiSupervised
from peftlab.semi_supervised.refusals import refuse as refuse_unlabelled
from peftlab.specs import ALLOWED_PREFIXES, Kinds, check_names, packages_of, prefixes_of, section
from peftlab.storage.names import check_folder
from peftlab.tasks.task import Task
from peftlab.training.foreign_objects import KINDS, make
from peftlab.training.labels_used import refuse_stopping
from peftlab.training.optimizers import OptimizerSpec
from peftlab.validation import checked

OF_MANY_RUNS = ("sweep", "stream")
"""Sections that are no part of a single run."""

NORM = "train/grad_norm"
"""The logged value that has no direction."""

_LOGGED = ("loss", "lr", "head_lr", "grad_norm")
"""The names that a training itself logs under ``train/``."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class RunSpec:
    """Everything that makes up one run, validated; see ``conf/config.yaml``."""

    model: ModelSpec
    data: DataSpec
    task: Task
    peft: Method
    optimizer: OptimizerSpec
    scheduler: Schedule
    trainer: TrainerSpec
    budget: BudgetSpec
    callbacks: dict[str, Callback | None] = field(default_factory=dict)
    logger: dict[str, functools.partial[Any] | None] = field(default_factory=dict)
    regularizer: dict[str, Regularizer] = field(default_factory=dict)
    augment: dict[str, Augmentation] = field(default_factory=dict)
    federated: FederatedSpec | None = None
    privacy: PrivacySpec | None = None
    semi: SemiSupervised | None = None
    out_of_scope: OutOfScope | None = None
    adapter: AdapterSpec | None = None
    derived: DerivedSpec | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    name: str | None = None
    run_dir: Path | None = None
    sweep_dir: Path | None = None
    existing: Literal["auto", "resume", "rerun", "skip"] = "auto"
    allow: list[str] = field(default_factory=list)
    notice: Notice = None

    def __post_init__(self) -> None:
        """Check the folder, which must be below ``runs/`` and possible to make, and rules across sections."""
        self._check_directions()
        self._check_regularizers()
        self._check_augmentations()
        refuse_stopping(self.budget, self.callbacks)
        self._check_quantization()
        self._check_method()
        self._check_generation()
        if self.federated is not None and self.derived is None:
            refuse_in_rounds(self.federated, self)
        if self.semi is not None:
            refuse_unlabelled(self.semi, self)
        if self.out_of_scope is not None:
            refuse_out_of_scope(self.out_of_scope, self)
            self.data.aside = self.out_of_scope.aside(self.seed)
        refuse_uncounted(self)
        if Path(self.run_name).is_absolute() or ".." in Path(self.run_name).parts:
            raise ConfigError(f"name = '{self.run_name}': must name a folder below runs/; run_dir takes any path")
        check_folder(
            "name" if self.name else "name (of task, data.name and method, unless name=... is given)",
            Path(self.run_name),
        )
        for key, folder in (("run_dir", self.run_dir), ("sweep_dir", self.sweep_dir)):
            if folder is not None:
                check_folder(key, folder)

    def _check_directions(self) -> None:
        for name, callback in self.callbacks.items():
            monitor, mode = getattr(callback, "monitor", None), getattr(callback, "mode", None)
            direction = direction_of(self.task, monitor)
            if direction is not None and mode in get_args(Direction) and mode != direction:
                raise ConfigError(
                    f"callbacks.{name}.mode = '{mode}': of {monitor}, {'less' if direction == 'min' else 'more'} is "
                    f"better. Set callbacks.{name}.mode={direction}, or null where the key is there"
                )

    def _check_regularizers(self) -> None:
        acting, hardware = self.acting, self.trainer
        for kind, what in (
            (StepRule, "make the gradient of a step"),
            (WeightAverage, "keep an average of the weights"),
        ):
            if len(several := [name for name, each in acting.items() if isinstance(each, kind)]) > 1:
                raise ConfigError(f"regularizer: {' and '.join(several)} each {what}: choose one of them")
        shares = {name: each.replaces for name, each in acting.items() if isinstance(each, Term) and each.replaces}
        if sum(shares.values()) > 1 + 1e-6:
            listed = " and ".join(f"{name} ({share:g})" for name, share in shares.items())
            raise ConfigError(f"regularizer: {listed} replace more than all of the task's loss. Lower their share")
        for name, each in acting.items():
            key = key_of(name)
            if name in _LOGGED or (name == "semi" and name in self.regularizer):
                raise ConfigError(f"{key}: train/{name} is logged already; give it another name")
            changes = isinstance(each, PassRule) or (isinstance(each, Term) and each.from_embeddings)
            if changes and hardware.compile:
                raise ConfigError(
                    f"{key}: changes what the model computes on the way, and compiled code calls no hooks: "
                    "trainer.compile=false"
                )
            if isinstance(each, PassRule) and not each.checkpointable and hardware.gradient_checkpointing:
                raise ConfigError(
                    f"{key}: activations would be computed again without it: trainer.gradient_checkpointing=false"
                )
            reads = isinstance(each, Term) and each.reads_weights
            if hardware.sharded and (changes or reads or not isinstance(each, Term | RateRule)):
                raise ConfigError(
                    f"{key}: needs the whole model on each device; use trainer=ddp, not {hardware.strategy}"
                )
            if isinstance(each, Term) and each.couples and (hardware.accumulate > 1 or hardware.world_size > 1):
                raise ConfigError(
                    f"{key}: compares the examples of a batch with each other, and trainer.accumulate="
                    f"{hardware.accumulate} on {hardware.world_size} devices divides it: use 1 and one device"
                )

    def _check_augmentations(self) -> None:
        for name, each in list(self.augment.items())[1:]:
            if each.first:
                raise ConfigError(f"augment: {name} edits unchanged texts only: put it first, augment=[{name},...]")

    def _check_quantization(self) -> None:
        if (kind := self.model.quantize) == "none":
            return
        check_installed(kind)
        if (reason := self.peft.rewrites) is not None:
            raise ConfigError(
                f"model.quantize={kind}: peft={self.peft.name} needs the weights of the backbone in full precision: "
                f"{reason}. Set model.quantize=none, or choose another method, such as lora"
            )
        if self.trainer.sharded:
            raise ConfigError(
                f"model.quantize={kind}: quantised layers are whole on each device; use trainer=ddp, not "
                f"{self.trainer.strategy}"
            )

    def _check_method(self) -> None:
        """Refuse rows of several texts, or a sharded model, with a method that cannot work on it."""
        if self.trainer.sharded and type(self.peft).conclude is not Method.conclude:
            what = f"peft={self.peft.name}: it looks at the inputs of whole layers after the training"
            raise ConfigError(f"{what}. Use trainer=ddp, not {self.trainer.strategy}")
        if self.task.packs and self.peft.needs_own_rows is not None:
            raise ConfigError(
                f"peft={self.peft.name}: {self.peft.needs_own_rows}, and task.packing puts several into a row. Set "
                "task.packing=off"
            )

    def _check_generation(self) -> None:
        """Refuse texts of a model whose shards must compute together, as ranks write texts of other lengths."""
        generate = getattr(self.task, "generate", None)
        if isinstance(generate, Generation) and generate.at != "never" and self.trainer.sharded:
            raise ConfigError(
                f"task.generate.at={generate.at}: the devices of trainer.strategy={self.trainer.strategy} must compute "
                "each token together, and their texts end at different places. Use trainer=ddp, or write none while "
                "training, task.generate.at=never"
            )

    @property
    def in_rounds(self) -> bool:
        """Whether a step of the run is a round of clients."""
        return self.federated is not None and self.federated.rounds is not None

    @property
    def chosen(self) -> dict[str, Regularizer]:
        """The regularisers, and how the run learns from unlabelled texts, if it does."""
        return self.regularizer | ({} if self.semi is None else {"semi": self.semi})

    @property
    def acting(self) -> dict[str, Regularizer]:
        """The same but those whose options turn them off."""
        return {name: each for name, each in self.chosen.items() if each.off is None}

    @property
    def passes(self) -> int:
        """The forward passes of a step over each of its examples, those of teachers included."""
        of_terms = 1 + sum(each.passes for each in self.acting.values() if not isinstance(each, StepRule))
        return of_terms * (1 + sum(each.passes for each in self.acting.values() if isinstance(each, StepRule)))

    def max_steps(self, of_epoch: int) -> int | None:
        """Return the steps, of so many an epoch, after which `max_steps` or `max_passes` ends the run; None: none."""
        budget = self.budget
        of_passes = budget.max_passes and max(1, round(budget.max_passes * of_epoch / self.passes))
        return min((limit for limit in (budget.max_steps, of_passes) if limit is not None), default=None)

    def steps(self, of_epoch: int) -> int:
        """Return the number of optimiser steps of the run, of so many an epoch, unless it stops early."""
        most = self.max_steps(of_epoch)
        return round(min((self.budget.max_epochs or math.inf) * of_epoch, math.inf if most is None else most))

    @property
    def may_cut_batches(self) -> bool:
        """Whether a batch that does not fit in memory is computed in pieces."""
        couples = any(isinstance(each, Term) and each.couples for each in self.acting.values())
        return self.trainer.on_out_of_memory == "split" and not self.trainer.sharded and not couples

    @property
    def augmenting(self) -> dict[str, Augmentation]:
        """The augmentations that edit any examples."""
        return {name: each for name, each in self.augment.items() if each.share > 0}

    @property
    def changing_embeddings(self) -> list[str]:
        """The names of the regularisers that change the output of the input embeddings, or of frozen layers."""
        kinds = (Term, PassRule)
        return [name for name, each in self.acting.items() if isinstance(each, kinds) and each.from_embeddings]

    @property
    def needing_all_layers(self) -> dict[str, str]:
        """The regularisers for which no frozen layer may be skipped, by name, each with its reason."""
        reading = [name for name, each in self.acting.items() if isinstance(each, Term) and each.reads_layers]
        return {
            **dict.fromkeys(self.changing_embeddings, "changes the embeddings below"),
            **dict.fromkeys(reading, "reads the hidden states of all layers"),
        }

    @property
    def run_name(self) -> str:
        """The folder of this run and similar ones: the experiment's name, or task-data-peft."""
        return self.name or f"{self.task.name}-{self.data.name}-{self.peft.name}"


def resolve(cfg: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration as plain values, with interpolations and every ``auto`` resolved.

    Args:
        cfg: a composed configuration, whose allowed packages are then searched for in the current folder too; or the
            plain values of an earlier run, where ``${...}`` is a text like any other.

    Raises:
        ConfigError: a key has no value, or hardware or an adapter is missing.
    """
    try:
        config: Any = plain_values(cfg) if isinstance(cfg, DictConfig) else deepcopy(cfg)
    except OmegaConfBaseException as error:
        raise ConfigError(explain_composition(error, [])) from error
    if isinstance(cfg, DictConfig):  # from the user's command: their packages may lie in its folder
        find_here(packages_of(config))
    if config.get("stream") is not None:
        raise ConfigError(
            "stream: it makes a chain of runs, and this is one run: `peftlab train` makes the chain, without -m "
            "(stream.seeds, stream.orders and stream.methods make a study of it)"
        )
    resolved = {str(key): value for key, value in config.items() if key not in OF_MANY_RUNS}
    for group in ("callbacks", "logger", "regularizer", "augment"):  # options switched off count as never chosen
        chosen = section(resolved, group, "Options are chosen as a list") if resolved.get(group) else {}
        resolved[group] = {name: node for name, node in chosen.items() if node is not None}
    if isinstance(resolved.get("trainer"), dict):
        resolved["trainer"] = resolve_hardware(resolved["trainer"])
    if (adapter := resolved.pop("adapter", None)) is not None:
        resolved["adapter"] = resolve_adapter(adapter)
    resolve_previous(resolved.get("peft"))
    rounds_as_epochs(resolved)
    resolve_files(resolved)
    without_null_views(resolved)
    _resolve_directions(resolved)
    return resolved


def _resolve_directions(config: dict[str, Any]) -> None:
    """Set the mode of the selection and of callbacks that watch a score, where null, to the score's direction."""
    prefixes = prefixes_of(config)
    check_names(config, "", prefixes)
    task = build(config.get("task"), "task", prefixes)
    if not isinstance(task, Task):
        return  # `validate` reports the error
    config["task"]["selection"]["mode"] = task.selection.mode
    for name, node in config["callbacks"].items():
        if isinstance(node, dict) and "monitor" in node and node.get("mode", "") is None:
            node["mode"] = direction_of(task, node["monitor"])
            if node["mode"] is None and (node["monitor"] == NORM or config.get("allow")):
                raise ConfigError(
                    f"callbacks.{name}.mode is null, and it is unknown whether more of '{node['monitor']}' is better: "
                    f"set callbacks.{name}.mode=min or max"
                )
            node["mode"] = node["mode"] or "min"  # never logged: `check_monitors` refuses it by name


def direction_of(task: Task, monitor: Any) -> Direction | None:
    """Return the direction of the value that a callback monitors; None where it is unknown."""
    split, _, score = str(monitor).partition("/")
    if score == "loss" or split in SCORED:
        return task.directions.get(score)
    return None


def build(node: Any, path: str, prefixes: tuple[str, ...] = ALLOWED_PREFIXES) -> Any:
    """Build `node` like `specs.build`, with classes of `KINDS` allowed too."""
    return specs.build(node, path, prefixes, Kinds(KINDS, make))


def validate(config: Mapping[str, Any]) -> RunSpec:
    """Build every object of `config` and check every key and value.

    Raises:
        ConfigError: names the key, the allowed values and the nearest match.
    """
    prefixes = prefixes_of(config)
    return checked(RunSpec, build(dict(config), "", prefixes), "")
