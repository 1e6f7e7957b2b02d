"""Replay: chosen training examples of earlier runs join those of a new one (Rolnick et al. 2019)."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked_dataclass

from peftlab.data.listed import of_list
from peftlab.data.memory import Memory, Recalled
from peftlab.data.reading import DataFacts, Examples, plain, read_data_set
from peftlab.data.sampling import sampled, shots
from peftlab.data.spec import BudgetSpec, DataSpec
from peftlab.data.views import joined
from peftlab.errors import ConfigError, UserError
from peftlab.runs.find import find
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.specs import build
from peftlab.storage.digests import sha256_of
from peftlab.tasks.task import Task
from peftlab.validation import checked

log = logging.getLogger("peftlab")


@checked_dataclass(kw_only=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class _Parts:
    """The sections of a run's configuration that decide on its training examples."""

    data: DataSpec
    task: Task
    budget: BudgetSpec


def read_with_memory(spec: DataSpec, task: Task) -> tuple[Examples, DataFacts]:
    """Read a data set as `read_data_set` does, and what is remembered of earlier runs.

    Raises:
        UserError: as `read_data_set` and `recall` raise it.
    """
    splits, facts = read_data_set(spec, task)
    if spec.replay is None:
        return splits, facts
    memories = recall(spec, task, splits, facts.sha256)
    factors = facts.factors | {name: factor for memory in memories for name, factor in memory.weights.items()}
    facts = replace(facts, memories=memories, factors=factors)
    if task.labels:  # without declared ones, the labels are those of all that is learnt
        task.learn_labels({**splits, "train": with_memory(facts, "train", splits["train"])}, spec.labels)
    return splits, facts


def with_memory(facts: DataFacts, split: str, examples: Sequence[Any]) -> Sequence[Any]:
    """Return the `examples` of a split that are used, followed by the remembered ones if it is the training split."""
    again = [example for memory in facts.memories for example in memory.repeated]
    return joined(examples, again) if again and split == "train" else examples


def replay_of(facts: DataFacts) -> dict[str, Any]:
    """Return the entry ``replay`` of the section ``data`` of the configuration, made definite; empty without it."""
    return {"replay": [asdict(memory.entry) for memory in facts.memories]} if facts.memories else {}


def recall(spec: DataSpec, task: Task, splits: Examples, sha256: Mapping[str, str]) -> list[Recalled]:
    """Return the examples that a run remembers of earlier ones.

    A memory is taken from what its run trained on, but for what that run itself remembered.

    Args:
        spec: the data of the run, with the entries of its memory.
        task: its task.
        splits: its own examples.
        sha256: the digest of each split's file.

    Raises:
        UserError: there is no such finished run, or its data has changed.
        ConfigError: its examples cannot be those of this run.
    """
    recalled = []
    for number, entry in enumerate(spec.replay or []):
        key = f"data.replay.{number}"
        try:
            memory = _recalled(entry, f"replay{number}", spec, task, sha256)
        except UserError as error:
            raise type(error)(f"{key}: {error}") from error
        if entry.sha256 not in (None, memory.entry.sha256):
            raise ConfigError(
                f"{key}: the examples of {entry.run} are not those that this run began with, whose digest is "
                f"{entry.sha256}. Name that run, or set {key}.sha256=null to begin anew"
            )
        recalled.append(memory)
    for split, count in _known(recalled, splits, task):
        log.warning("data.replay: %d texts of the %s split are in the memory, and so trained on", count, split)
    return recalled


def _recalled(entry: Memory, name: str, spec: DataSpec, task: Task, sha256: Mapping[str, str]) -> Recalled:
    folder = RunFolder(RunRecord.load(find(entry.run)))
    if folder.record.data["status"] != "completed":
        raise UserError(f"{folder.path} did not finish: a memory is taken from finished runs")
    config = folder.read_config(unused=("callbacks", "logger", "regularizer", "augment"))
    their_task = config["task"] | {"selection": config["task"]["selection"] | {"mode": None}}
    their_data = {key: value for key, value in config["data"].items() if key != "replay"}
    sections = {"data": their_data, "task": their_task, "budget": config["budget"]}
    parts: _Parts = checked(_Parts, build(sections, ""), "")
    _check(folder.path, parts, spec, task, folder.record.data["identity"]["data_sha256"]["train"] == sha256["train"])
    theirs, facts = read_data_set(parts.data, parts.task)
    if facts.sha256 != folder.record.data["identity"]["data_sha256"]:
        raise UserError(f"the data of {folder.path} is not what it was trained on. Put the old files back")
    members = sampled("train", of_list(theirs, parts.budget.listed)["train"], parts.task, parts.budget)
    taken = [members[place] for place in _places(entry, members, parts.task)]
    digest = sha256_of([json.dumps([task.encoded_text(one), task.gold(one)], default=str) for one in taken])
    whole = Path(folder.path).absolute()
    own = [replace(example, id=f"{name}:{example.id}") for example in taken]
    factors = {f"{name}:{example.id}": facts.factors[example.id] for example in taken if example.id in facts.factors}
    return Recalled(replace(entry, run=str(whole), sha256=digest), list(parts.task.labels), own, factors)


def _check(where: Path, parts: _Parts, spec: DataSpec, task: Task, same_file: bool) -> None:
    """Check that examples of a run can be learnt in another one."""
    if type(parts.task) is not type(task):
        raise ConfigError(f"{where} is a run of task={parts.task.name}, and this one is of {task.name}")
    if spec.mask_pii != parts.data.mask_pii:
        raise ConfigError(f"{where} has another data.mask_pii than this run, and a memory is read as its run read it")
    if same_file and spec.fold not in (None, parts.data.fold):
        raise ConfigError(
            f"{where} was trained on examples that this run is tested on: it has data.fold="
            f"{parts.data.fold or 'null'}, and this run {spec.fold}. Name a run with the same fold"
        )


def _places(entry: Memory, members: Sequence[Any], task: Task) -> Sequence[int]:
    if entry.per_class is None:
        return range(len(members))
    classes = [task.classes(example) for example in members]
    if not any(classes):
        raise ConfigError(
            f"per_class={entry.per_class}: the examples of task={task.name} have no classes to go by. Remember all of "
            "them: per_class=null, or `peftlab continue --replay all`"
        )
    places: list[int] = shots(classes, entry.per_class, entry.seed).tolist()
    return places


def _known(recalled: Sequence[Recalled], splits: Examples, task: Task) -> Iterator[tuple[str, int]]:
    """Yield the splits that are scored, and how many of their texts are remembered."""
    texts = {plain(task.text_key(example)) for memory in recalled for example in memory.examples}
    for split in ("validation", "test") if texts else ():
        if count := sum(plain(task.text_key(example)) in texts for example in splits.get(split, [])):
            yield split, count
