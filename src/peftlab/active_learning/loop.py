"""The rounds of a loop on data whose labels are known, and hidden from it until it asks (a study with an oracle).

Each round is a run of its own, on the examples that a list in the chain's folder names. A loop begins with a random
sample, which all queries share, as they share the pool and the seeds: their curves are paired.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from omegaconf import DictConfig, OmegaConf

from peftlab.active_learning import queries
from peftlab.active_learning.observing import kind_of, observe
from peftlab.active_learning.pool import (
    affordable,
    chosen_by_labels,
    costs,
    most,
    of_validation,
    remaining,
    unseen,
    without_gold,
)
from peftlab.chains.chain import Chain, check_data
from peftlab.composing.compose import compose
from peftlab.config import RunSpec
from peftlab.data.listed import write_list
from peftlab.data.reading import read_data_set
from peftlab.data.sampling import sampled
from peftlab.devices.process_state import restored
from peftlab.errors import ConfigError
from peftlab.one_run import settle
from peftlab.reading.json_form import parsed
from peftlab.runs.record import RunRecord
from peftlab.storage.atomic import remove_torn
from peftlab.use.finished import load

log = logging.getLogger("peftlab")

KIND = "active"
"""The kind of its chains."""

LISTS = "lists"
"""The folder of the lists, in the chain's."""

NEVER = 1e9
"""Epochs between validations, so that the only one is at the end."""


@dataclass(frozen=True)
class Settings:
    """What decides the rounds of a loop, besides query and seed."""

    overrides: tuple[str, ...]
    """Of the configuration of every run, in Hydra's grammar."""
    batch: int
    """Labels that are asked for in a round."""
    initial: int
    """Labels of the random sample that it begins with."""
    in_words: bool = False
    """Whether both count words, as labels of sentences cost."""
    validation: Literal["none", "split"] | float = "none"
    """The validation labels: none decide anything, the last weights are kept; those of the data set's split; or a share
    of the labels that are asked for."""
    warm_start: bool = False
    """Whether a run begins with the adapter of the round before."""

    def as_json(self) -> dict[str, Any]:
        """Return the settings as those of a chain."""
        return {**asdict(self), "overrides": list(self.overrides)}


@dataclass(frozen=True)
class Asked:
    """The ids whose labels are known in a round, in the order in which they were asked for."""

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()

    @property
    def every(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.train, *self.validation)


class Loop:
    """The rounds of one configuration in a chain.

    Args:
        chain: their folder.
        settings: those of the chain.

    Raises:
        UserError: the configuration or the data cannot be used, or a loop cannot be honest with them.
    """

    def __init__(self, chain: Chain, settings: Settings) -> None:
        self.chain, self.settings = chain, settings
        with restored():
            self.config = compose(*settings.overrides)
            _, self.spec = settle(self.config)
            self.kind = kind_of(self.spec.task)
            check(self.spec, settings)
            splits, facts = read_data_set(self.spec.data, self.spec.task)
            members = sampled("train", splits["train"], self.spec.task, self.spec.budget)
            rows = len(sampled("validation", splits["validation"], self.spec.task, self.spec.budget))
        self.pool = [without_gold(example) for example in members]
        """All examples that may be asked about, those that were included."""
        self.data_sha256 = facts.sha256
        self.ids = [example.id for example in self.pool]
        self.cost = costs(self.pool, settings.in_words)
        self.beside = rows if settings.validation == "split" else 0
        """Labels that decide besides those asked for: of the data set's validation split."""
        self.by_labels = chosen_by_labels(self.spec)
        if settings.initial >= self.cost.sum():
            raise ConfigError(
                f"--initial {settings.initial}: the pool has {self.cost.sum():,} {self.unit}, so that none are left to "
                "ask about"
            )

    @property
    def unit(self) -> str:
        """What budgets count."""
        return "words" if self.settings.in_words else "labels"

    @cached_property
    def place(self) -> dict[str, int]:
        """The place of each id in the pool."""
        return {id: n for n, id in enumerate(self.ids)}

    def rounds(self, query: str, seed: int, rounds: int) -> Iterator[dict[str, Any]]:
        """Do the rounds of a query, or find them done, and yield the facts of each; the first is the random sample's.

        They end early where the pool does.
        """
        chosen = queries.check(query, self.kind)
        asked, record = Asked(), None
        remove_torn(self.chain.folder / LISTS)  # of a loop that was killed while it wrote
        for number in range(rounds + 1):
            budget = min(self.settings.initial + number * self.settings.batch, int(self.cost.sum()))
            name = f"seed-{seed}-{query}-{number}" if number else f"seed-{seed}-start"
            file = self.chain.folder / LISTS / f"{name}.json"
            if number and len(asked.every) == len(self.pool):
                log.info("%s, seed %d: the pool is empty after %d rounds", query, seed, number - 1)
                return
            if not file.is_file():
                now = self._ask(chosen, query, seed, number, budget, asked, record)
                write_list(file, now.train, now.validation)
            before, asked = record, _read(file)
            record = self.chain.run(name, self._config(seed, file, before))
            check_data(record, self.data_sha256)
            yield self._facts(name, query, seed, number, budget, asked, record)

    def _ask(
        self, chosen: Any, query: str, seed: int, number: int, budget: int, asked: Asked, record: RunRecord | None
    ) -> Asked:
        """Return what is known after asking for the labels of a round."""
        random = np.random.default_rng((seed, number, zlib.crc32(query.encode()) if number else 0))
        taken = [self.place[id] for id in asked.every]
        left = remaining(len(self.pool), taken)
        budget -= int(self.cost[taken].sum())
        number_of = most(self.cost[left], budget)
        if record is None:
            order = random.permutation(len(left))
        elif not chosen.NEEDS:
            order = chosen.choose(unseen(len(left)), unseen(len(taken)), number_of, random)
        else:
            with restored():
                run = load(record.folder, self.spec.allow)
                seen = observe(run, self.pool, chosen.NEEDS, (seed, number))
            order = chosen.choose(seen.of(left), seen.of(taken), number_of, random)
        new = [self.ids[left[place]] for place in affordable(order, self.cost[left], budget)]
        apart: list[str] = []
        if isinstance(share := self.settings.validation, float):
            total = len(asked.every) + len(new)
            apart = of_validation(new, total, len(asked.validation), share, random)
            if not asked.validation and not apart:  # the whole validation split would choose in their place
                raise ConfigError(
                    f"--validation {share:g}: the first sample has {len(new)} example{'s' * (len(new) != 1)}, and one "
                    "more is needed to choose checkpoints by. Set a larger --initial, or --validation none"
                )
        train = [id for id in new if id not in apart]
        return Asked((*asked.train, *train), (*asked.validation, *apart))

    def _config(self, seed: int, file: Path, before: RunRecord | None) -> DictConfig:
        """Return the configuration of a run on the examples that `file` lists."""
        config = of_round(self.config, self.settings, before)
        config.seed += seed
        config.budget.update({"listed": str(file.absolute()), "train_examples": None, "half": None})
        return config

    def _facts(
        self, name: str, query: str, seed: int, number: int, budget: int, asked: Asked, record: RunRecord
    ) -> dict[str, Any]:
        metric = record.data["selection"]["metric"]
        facts = {
            "query": query if number else None,
            "seed": seed,
            "round": number,
            "budget": budget,
            "asked": int(self.cost[[self.place[id] for id in asked.every]].sum()),
            "trained_on": len(asked.train),
            "validated_on": len(asked.validation),
            "beside": self.beside,
            "pool_by_labels": self.by_labels,
            "metric": metric,
            "score": record.score("test", metric),
        }
        self.chain.note(name, **facts)
        return {**facts, "query": query}


def of_round(base: DictConfig, settings: Settings, before: RunRecord | None) -> DictConfig:
    """Return the configuration of a round, which may be changed, but for the examples that it is trained on.

    Where no validation labels are paid for, it trains to the end of its budget and keeps its last weights.

    Args:
        base: the configuration of the loop.
        settings: of the loop.
        before: the run of the round before; None: this is the first.
    """
    config = base.copy()
    OmegaConf.set_struct(config, False)
    if settings.validation == "none":
        config.budget.update({"select": "last", "validate_every": NEVER})
        if "early_stopping" in (config.get("callbacks") or {}):
            config.callbacks.early_stopping = None
    if settings.warm_start and before is not None:
        config.adapter = str((before.folder / "adapter").absolute())
    return config


def study(
    folder: Path, settings: Settings, asked: Sequence[str], rounds: int, seeds: int, command: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Do the rounds of several queries and seeds in the chain of `folder`, and return the facts of all.

    What is there already is found: a later call may name further queries, more rounds or more seeds.

    Raises:
        UserError: the configuration, the data or a query cannot be used, or the folder holds something else.
    """
    for name in asked:
        queries.named(name)
    with Chain(folder, KIND, settings.as_json(), tuple(command)) as chain:
        loop = Loop(chain, settings)
        for name in asked:
            queries.check(name, loop.kind)
        return [facts for seed in range(seeds) for name in asked for facts in loop.rounds(name, seed, rounds)]


def default_folder(settings: Settings) -> Path:
    """Return the folder of a loop that has no name of its own.

    Raises:
        UserError: the configuration cannot be used.
    """
    with restored():
        return Path("active") / settle(compose(*settings.overrides))[1].run_name


def _read(file: Path) -> Asked:
    ids: Mapping[str, list[str]] = parsed(file.read_text(encoding="utf-8"))
    return Asked(tuple(ids["train"]), tuple(ids.get("validation", ())))


def check(spec: RunSpec, settings: Settings) -> None:
    """Refuse what would let the loop see labels that it has not asked for, or what cannot act in it."""
    budget = spec.budget
    if budget.per_class is not None or budget.stratified:
        raise ConfigError(
            "budget.per_class and budget.stratified choose the pool by labels that nobody has yet: leave them out; "
            "--initial N is a random sample"
        )
    if budget.listed is not None or budget.overfit_batches is not None:
        key = "listed" if budget.listed is not None else "overfit_batches"
        raise ConfigError(f"budget.{key}: a loop itself says which examples a run learns from; leave it out")
    if spec.adapter is not None and settings.warm_start:
        raise ConfigError("--warm-start: begins with the adapter of the round before; leave adapter=... out")
    if not budget.test:
        raise ConfigError("budget.test=false: a curve is one of test scores; set budget.test=true")
    if settings.in_words and spec.task.head.outputs != "token":
        raise ConfigError(f"--batch-tokens counts labelled words, and task={spec.task.name} labels texts: give --batch")
    if settings.validation == "none" and spec.task.decides:
        raise ConfigError(
            f"--validation none: task={spec.task.name} decides by validation labels (task.threshold=auto). Set "
            "task.threshold=0.5, or pay for them: --validation 0.2"
        )
    if settings.validation == "none" and spec.out_of_scope is not None:
        raise ConfigError(
            "--validation none: out_of_scope chooses its threshold by validation labels. Pay for them, --validation "
            "split, or set out_of_scope=none"
        )
