"""The rounds of a loop in which people label: each call goes as far as their labels do.

A round trains on the training split and on all that has been labelled so far. Then the query chooses from the pool, and
a file waits for labels.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from peftlab.active_learning import queries
from peftlab.active_learning.labelling_file import read_answers, read_pool, shown, suffix_of, write_questions
from peftlab.active_learning.loop import (
    KIND,
    LISTS,
    Settings,
    check,
    of_round,
)
from peftlab.active_learning.observing import kind_of, observe
from peftlab.active_learning.pool import affordable, costs, most, remaining, unseen, without_gold
from peftlab.chains.chain import Chain, check_data
from peftlab.composing.compose import compose
from peftlab.data.form import form_of
from peftlab.data.labelled import KEY, gold_name, write_labelled
from peftlab.data.masked.examples import ExampleMask, masked_examples
from peftlab.data.reading import read_data_set
from peftlab.devices.process_state import restored
from peftlab.errors import ConfigError, DataError
from peftlab.one_run import settle
from peftlab.reading.json_form import parsed
from peftlab.reading.unicode_text import Door
from peftlab.runs.record import RunRecord
from peftlab.storage.digests import file_sha256
from peftlab.use.finished import load


@dataclass(frozen=True)
class State:
    """Where a loop stands after a call."""

    folder: str
    round: int
    """The last one that was trained, from 0."""
    run: str
    metric: str
    score: float | None
    """Of that run on the test split."""
    labelled: int
    """Examples of the pool that have labels."""
    file: str | None
    """What waits for labels; None: the loop has ended."""
    questions: int
    """Examples in it."""

    def as_json(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return asdict(self)

    @property
    def said(self) -> str:
        """The state, and what to do, in two lines."""
        score = "-" if self.score is None else f"{self.score:.4f}"
        at = f"round {self.round}: {self.labelled} labels from the pool, test {self.metric} {score} ({self.run})"
        if self.file is None:
            return f"{at}\nThe loop has ended: that run is its result."
        asked = f"Label the {self.questions} examples in {self.file}, with ? where nobody can decide"
        return f"{at}\n{asked}; then give the same command again."


def ask(folder: Path, settings: Settings, query: str, rounds: int, pool: Path, command: Sequence[str] = ()) -> State:
    """Go on with a loop as far as its labels do, and return where it stands.

    Args:
        folder: of the chain.
        settings: of the loop; nothing is hidden from it, so that `Settings.initial` is 0.
        query: chooses what is asked.
        rounds: after the first run.
        pool: the file of the pool, see `read_pool`.
        command: the command line.

    Raises:
        UserError: the configuration, the data, the query or the pool cannot be used; or labels are missing or odd.
    """
    queries.named(query)
    own = {**settings.as_json(), "query": query, "pool": file_sha256(pool)}
    with Chain(folder, KIND, own, tuple(command)) as chain:
        return Dialogue(chain, settings, query, pool).go(rounds)


class Dialogue:
    """A loop with people: its configuration, its pool, and the chain that it goes on with."""

    def __init__(self, chain: Chain, settings: Settings, query: str, pool: Path) -> None:
        self.chain, self.settings, self.name = chain, settings, query
        with restored():
            self.config = compose(*settings.overrides)
            _, self.spec = settle(self.config)
            self.task = self.spec.task
            self.query = queries.check(query, kind_of(self.task))
            gold_name(self.task)  # refuses before a run, not after it
            check(self.spec, settings)
            _check(self.spec.budget, settings)
            splits, self.facts = read_data_set(self.spec.data, self.task)
            self.start = list(map(without_gold, splits["train"]))
            given = self.spec.data.labelled
        self.given = [parsed(line) for line in (given.read(KEY) if given else "").split("\n") if line.strip()]
        """The labelled objects of the data, whose place those of the loop would take."""
        self.pool = self._read(pool)
        self.objects = [shown(example) for example in self.pool]
        if (mask := self.spec.data.mask_pii) is not None:
            self.pool = list(masked_examples(self.pool, ExampleMask(mask.masker()))[0])
        if taken := {example.id for example in self.start} & {one["id"] for one in self.objects}:
            raise DataError(f"{pool}: the id '{min(taken)}' is that of a training example; give it another")
        self.cost = costs(self.pool, settings.in_words)

    def _read(self, pool: Path) -> list[Any]:
        """Return the examples of the pool, whose texts may have the names that they have in the training data."""
        form, door = form_of(self.spec.data.format), Door()
        examples = []
        for one in read_pool(pool):
            try:
                examples.append(self.task.from_input(form.usual(one), one["id"]).mapped(door))
            except DataError as error:
                raise DataError(f"{pool}: the object with the id '{one['id']}': {error}") from error
        return examples

    def go(self, rounds: int) -> State:
        """Do the rounds whose labels are there, and write what is asked next."""
        place = {one["id"]: n for n, one in enumerate(self.objects)}
        labelled: list[dict[str, Any]] = []
        asked: list[int] = []
        record = self.chain.run("round-0", self._config(None, None))
        check_data(record, self.facts.sha256)
        for number in range(1, rounds + 1):
            stage = f"round-{number - 1}"
            self._keep(stage, record, len(labelled))
            asks = (self.chain.stage(stage) or {}).get("asks")
            if asks is None:
                asks = [self.objects[n]["id"] for n in self._choose(number, asked, record)]
                self.chain.note(stage, asks=asks)
            if not asks:
                return self._state(number - 1, record, labelled)
            asked += [place[id] for id in asks]
            questions = [self.objects[place[id]] for id in asks]
            file = self.chain.folder / f"label-{number}{suffix_of(self.task)}"
            done = self.chain.stage(f"round-{number}") is not None
            if not file.is_file() and not done:
                write_questions(file, questions, self.task)
            answers = read_answers(file, questions, self.task)
            if answers is None and not done:
                return self._state(number - 1, record, labelled, file, len(questions))
            labelled += answers or []
            record = self.chain.run(f"round-{number}", self._config(self._kept(number, labelled, done, file), record))
            check_data(record, self.facts.sha256)
        self._keep(f"round-{rounds}", record, len(labelled))
        return self._state(rounds, record, labelled)

    def _choose(self, number: int, asked: Sequence[int], record: RunRecord) -> list[int]:
        """Return the places in the pool of what is asked in a round."""
        left = remaining(len(self.pool), asked)
        budget = max(1, number * self.settings.batch - int(self.cost[list(asked)].sum()))  # one sentence at least
        random = np.random.default_rng((self.spec.seed, number, zlib.crc32(self.name.encode())))
        mine, known = unseen(len(left)), unseen(len(self.start) + len(asked))
        if self.query.NEEDS and len(left):
            with restored():
                run = load(record.folder, self.spec.allow)
                seen = observe(run, [*self.pool, *self.start], self.query.NEEDS, (self.spec.seed, number))
            mine = seen.of(left)
            known = seen.of([*asked, *range(len(self.pool), len(self.pool) + len(self.start))])
        if not len(left):
            return []
        order = self.query.choose(mine, known, most(self.cost[left], budget), random)
        return [int(left[n]) for n in affordable(order, self.cost[left], budget)]

    def _config(self, file: Path | None, before: RunRecord | None) -> DictConfig:
        config = of_round(self.config, self.settings, before)
        if file is not None:
            config.data.labelled = str(file.absolute())
        return config

    def _kept(self, number: int, labelled: Sequence[Mapping[str, Any]], done: bool, answers: Path) -> Path:
        """Return the file of all labels so far, which stays as it was when its round was trained.

        Raises:
            DataError: labels have changed since.
        """
        file = self.chain.folder / LISTS / f"round-{number}.jsonl"
        before = file_sha256(file) if done and file.is_file() else None
        write_labelled(file, [*self.given, *labelled])
        if before not in (None, file_sha256(file)):
            raise DataError(
                f"{answers}: has changed since round {number} was trained with it. Put the old labels back, or begin a "
                "loop in another folder (--out)"
            )
        return file

    def _keep(self, stage: str, record: RunRecord, labelled: int) -> None:
        metric = record.data["selection"]["metric"]
        self.chain.note(stage, labelled=labelled, metric=metric, score=record.score("test", metric))

    def _state(
        self, number: int, record: RunRecord, labelled: Sequence[Any], file: Path | None = None, questions: int = 0
    ) -> State:
        metric = record.data["selection"]["metric"]
        score = record.score("test", metric)
        name = None if file is None else str(file)
        return State(str(self.chain.folder), number, str(record.folder), metric, score, len(labelled), name, questions)


def _check(budget: Any, settings: Settings) -> None:
    """Refuse what would leave labels out that people have given."""
    for key in ("train_examples", "half"):
        if getattr(budget, key) is not None:
            raise ConfigError(f"budget.{key}: would leave out labels that people were asked for; leave it out")
    if isinstance(settings.validation, float):
        raise ConfigError(
            f"--validation {settings.validation:g}: with --ask the validation split of the data is there; give none or "
            "split"
        )
