"""Reads a data set that a user names, for its card: an option of ``conf/data``, or a file or folder of their own."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from peftlab.composing.compose import compose, conf_dir
from peftlab.config import RunSpec
from peftlab.data.containers.saved import NOTES
from peftlab.data.data_card import DataCard, Tokenised, data_card
from peftlab.data.encoding import BLOCK, encode
from peftlab.data.reading import read_data_set
from peftlab.devices.process_state import restored
from peftlab.errors import ConfigError, did_you_mean
from peftlab.images.pictures import SUFFIXES
from peftlab.models import backbone
from peftlab.one_run import settle
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import LONGEST_TEXT

OF_SUFFIX = {
    **dict.fromkeys((".csv", ".tsv", ".tab"), "csv"),
    **dict.fromkeys((".jsonl", ".ndjson"), "json_lines"),
    **dict.fromkeys((".parquet", ".arrow", ".feather"), "rows"),
    **dict.fromkeys((".conll", ".bio", ".iob", ".iob2"), "files"),
}
"""The option of ``conf/data`` that reads files with a suffix, as far as that is unambiguous."""

OF_FILES = dict.fromkeys(SUFFIXES, "pictures")
"""The option that reads folders of files with a suffix, in place of ``folders``, which reads texts."""

OF_KEYS = {
    ("messages",): "conversations",
    ("instruction", "output"): "conversations",
    ("prompt", "answer"): "conversations",
    ("source", "target"): "source_target",
    ("chosen", "rejected"): "preferences",
}
"""The option that reads objects with these keys, and without a ``label``, in place of ``json_lines``."""


def card_of(subject: str, overrides: Sequence[str] = (), model: str | None = None) -> DataCard:
    """Return the card of a data set.

    Args:
        subject: an option of ``conf/data``, or the path of a file or folder.
        overrides: further settings in Hydra's grammar, such as ``data.format.text=body`` or ``task=ner``.
        model: an option of ``conf/model`` or a folder, whose tokenizer counts tokens; None: words are counted, and
            nothing is fetched but the data.

    Raises:
        UserError: there is no such data, it cannot be read, or the option that reads it is not clear.
    """
    with restored():
        spec = _spec_of(subject, list(overrides), model)
        splits, facts = read_data_set(spec.data, spec.task)
        tokenised = None
        if model is not None:
            processor = backbone.fetch(spec.model, spec.task).processor(spec.task.processor)
            spec.task.bind(processor)
            tokenised = {split: _tokenised(members, spec, processor) for split, members in splits.items()}
        return data_card(spec.data.name, splits, facts, spec.task, spec.data.max_tokens, tokenised)


def _tokenised(members: Sequence[Any], spec: RunSpec, processor: Processor) -> Tokenised:
    """Return a split as a run of `spec` sees it, and the lengths of its examples when nothing is cut off."""
    encoded = encode(spec.task, members, processor, spec.data.limits)
    whole = spec.data.limits._replace(max_tokens=LONGEST_TEXT)
    lengths = [
        spec.task.encode(list(members[start : start + BLOCK]), processor, whole).tokens
        for start in range(0, len(members), BLOCK)
    ]
    return Tokenised(encoded, np.concatenate(lengths))


def _spec_of(subject: str, overrides: list[str], model: str | None) -> RunSpec:
    """Return the configuration that reads the data; the task is that which takes its examples, unless it is named."""
    path: Path | None = None
    option = subject if subject in _options("data") else _named("data", overrides)
    if subject not in _options("data"):
        path = _existing(subject)
        option = option or option_for(path)
    if _named("data", overrides) is None:
        overrides = [f"data={option}", *overrides]
    folder = None if model is None or model in _options("model") else Path(model)
    if model is not None:
        overrides.append(f"model={model}" if folder is None else "model=folder")
    if _named("task", overrides) is None and (task := task_of_experiments(option)) is not None:
        overrides = [f"task={task}", *overrides]
    spec = _settled(overrides, path, folder)
    if _named("task", overrides) is not None:
        return spec
    task = getattr(spec.data.format, "task", None)
    example: type | None = getattr(spec.data.format, "example", None)
    if task is None and example is not None and example is not spec.task.example:
        task = _task_of(example)
    return spec if task is None else _settled([*overrides, f"task={task}"], path, folder)


def _settled(overrides: Sequence[str], path: Path | None, model: Path | None) -> RunSpec:
    config = compose(*overrides)
    for section, place in (("data", path), ("model", model)):
        if place is not None:
            config[section].path = str(place)
    return settle(config)[1]


def option_for(path: Path) -> str:
    """Return the option of ``conf/data`` that reads the user's file or folder, by its suffix, and by the keys of the
    first object of JSON lines.

    Raises:
        ConfigError: several options could read it, or none.
    """
    if path.is_file():
        members = [path]
        suffixes = {path.suffix.lower()}
    else:
        members = [member for member in path.iterdir() if not member.name.startswith(".")]
        if any(member.name in NOTES for member in members):
            return "rows"
        if members and all(member.is_dir() for member in members):
            inside = next((file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")), path)
            return OF_FILES.get(inside.suffix.lower(), "folders")
        suffixes = {member.suffix.lower() for member in members if member.is_file()}
    options = {OF_SUFFIX[suffix] for suffix in suffixes if suffix in OF_SUFFIX}
    if options == {"json_lines"}:
        lines = sorted(member for member in members if OF_SUFFIX.get(member.suffix.lower()) == "json_lines")
        return _of_first_object(lines[0]) or "json_lines"
    if len(options) == 1:
        return options.pop()
    of_files = sorted(option for option in _options("data") if _reads_files(option))
    raise ConfigError(f"{path}: its name does not say how to read it. Name the option, data=...: {', '.join(of_files)}")


def _of_first_object(file: Path) -> str | None:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            first = json.loads(lines.readline(LONGEST_TEXT))
    except (OSError, ValueError, RecursionError):  # reading it says what is wrong
        return None
    if not isinstance(first, dict) or "label" in first:
        return None
    return next((option for keys, option in OF_KEYS.items() if first.keys() >= {*keys}), None)


def _existing(subject: str) -> Path:
    path = Path(subject).expanduser()
    if not path.exists():
        options = _options("data")
        raise ConfigError(
            f"'{subject}' is neither a data set nor a file or folder.{did_you_mean(subject, options)} "
            f"Data sets: {', '.join(options)}"
        )
    return path


def _options(group: str) -> list[str]:
    return sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))


def _named(group: str, overrides: Sequence[str]) -> str | None:
    """Return the option of a group that an override names."""
    pairs = (text.lstrip("+").partition("=") for text in overrides)
    return next((option for key, _, option in pairs if key == group), None)


def _reads_files(option: str) -> bool:
    return "path" in _read("data", option)


def task_of_experiments(data: str | None) -> str | None:
    """Return the task that the experiments on a data set have; None if there are none."""
    for experiment in _options("experiment"):
        chosen: dict[str, Any] = {}
        for entry in _read("experiment", experiment).get("defaults", []):
            chosen |= entry if isinstance(entry, dict) else {}
        if chosen.get("override /data") == data:
            task: str | None = chosen.get("override /task")
            return task
    return None


def _task_of(example: type) -> str:
    """Return the first option of ``conf/task`` whose task takes such examples.

    Raises:
        ConfigError: none does.
    """
    for option in _options("task"):
        module, _, name = str(_read("task", option)["_target_"]).rpartition(".")
        if getattr(importlib.import_module(module), name).example is example:
            return option
    raise ConfigError(f"no task takes a {example.__name__} as an example. Name your own: task=...")


def _read(group: str, option: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8"))
    return document
