"""Labels that people have given one by one: further training examples, beside those of the data set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from peftlab.data.json_objects import read_object
from peftlab.data.named_files import NamedFile
from peftlab.errors import ConfigError, DataError
from peftlab.scores.bio import TagError, to_bio
from peftlab.storage.atomic import replacing
from peftlab.tasks.inputs.several_labels import LabelledText
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.inputs.words import Sentence
from peftlab.tasks.task import Task

KEY = "data.labelled"

GOLD: Mapping[type, str] = {Text: "label", LabelledText: "labels", Sentence: "tags"}
"""By type of example: the name of its gold, in the example and in the file."""


def gold_name(task: Task) -> str:
    """Return the name of the gold of the task's examples.

    Raises:
        ConfigError: examples of this task cannot be labelled one by one.
    """
    if (name := GOLD.get(task.example)) is None:
        raise ConfigError(
            f"task={task.name}: labels can be given one by one to texts (label), texts with several labels (labels) "
            f"and sentences (tags), not to a {task.example.__name__}"
        )
    return name


def labelled_example(task: Task, fields: Mapping[str, Any], id: str, file: str, line: int) -> Any:
    """Return the example in an object of a file, which has a text, or words, and its gold.

    Raises:
        DataError: there is no text, or no gold of the right form.
    """
    name = gold_name(task)
    example = task.from_input(fields, id)
    gold: Any = fields.get(name)
    if isinstance(example, Sentence):
        if not _are_texts(gold) or len(gold) != len(example.words):
            number = len(gold) if isinstance(gold, list) else "none"
            raise DataError(f"'tags' must be {len(example.words)} BIO tags, one a word, and there are {number}")
        try:
            return replace(example, tags=to_bio(gold, "bio"), file=file, lines=[line] * len(gold))
        except TagError as error:
            raise DataError(f"'tags': {error}") from error
    if isinstance(example, LabelledText):
        if not _are_texts(gold):
            raise DataError("'labels' must be a list of labels, [] for none")
        return replace(example, labels=tuple(sorted(set(gold))), file=file, line=line)
    if not isinstance(gold, str) or not gold.strip():
        raise DataError("'label' is empty")
    return replace(example, label=gold.strip(), file=file, line=line)


def check_labels(task: Task, examples: Sequence[Any]) -> None:
    """Check that the labels of `examples` are among those that the task has learnt.

    Raises:
        DataError: one is not; names file and line.
    """
    task.learn_labels({"train": [], "labelled": examples}, task.declared_labels)


def write_labelled(file: Path, objects: Sequence[Mapping[str, Any]]) -> None:
    """Write the objects of labelled examples, each with an ``id``, for ``data.labelled``."""
    with replacing(file) as temporary:
        temporary.write_text("".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in objects), encoding="utf-8")


def read_labelled(file: NamedFile, task: Task, ids: Sequence[str]) -> list[Any]:
    """Return the labelled examples in a file, whose labels are those that the task has learnt.

    Args:
        file: JSON Lines, as `write_labelled` writes them.
        task: has learnt its labels.
        ids: the ids that are taken.

    Raises:
        ConfigError: the file has changed, or the task's examples cannot be labelled so.
        DataError: an object is no labelled example, or its id is missing or taken; names the line.
    """
    taken, examples = set(ids), []
    for number, line in enumerate(filter(str.strip, file.read(KEY).split("\n")), start=1):
        where = f"{file.path}:{number}"
        one = read_object(line, where, f"with a text and its {gold_name(task)}", ())
        if not isinstance(id := one.get("id"), str) or id in taken:
            raise DataError(f"{where}: expected an `id`, a string that no other training example has")
        taken.add(id)
        try:
            examples.append(labelled_example(task, one, id, str(file.path), number))
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
    check_labels(task, examples)
    return examples


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
