"""The names of labels: which are invalid, and which look alike to a reader."""

from __future__ import annotations

import itertools
import json
import logging
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import yaml

from peftlab.errors import ConfigError, DataError, did_you_mean
from peftlab.reading.unicode_text import code_points, has_controls, is_valid

log = logging.getLogger("peftlab")

_SHOWN = 10
"""Most labels listed in a message."""

_AS_YAML = 40
"""Characters of a label that YAML may read as a number or a flag; what is longer could make it take all memory."""


def learnt_labels(
    splits: Mapping[str, Sequence[Any]],
    labels_of: Callable[[Any], Iterable[str | None]],
    declared: Sequence[str] | None,
    fewest: int,
) -> list[str]:
    """Return the labels of whole texts: the declared ones, else those of the training split, sorted.

    If all are whole numbers, they are sorted by value.

    Args:
        splits: the examples of each split; each has its ``place``.
        labels_of: returns the labels of an example; None stands for a missing one.
        declared: the labels that the configuration declares.
        fewest: the least number of labels that can be learnt.

    Raises:
        ConfigError, DataError: as `Task.learn_labels` raises them.
    """
    first_of: dict[str, Any] = {}
    for example in splits["train"]:
        for label in labels_of(example):
            if label is not None:
                first_of.setdefault(label, example)
    check_declared(declared or [])
    labels = list(declared) if declared else _in_order(set(first_of))
    if len(labels) < fewest:
        whose = "data.labels" if declared else f"{where(splits['train'])}the training split"
        count = f"1 label: {labels[0]}" if labels else "no label"
        raise DataError(f"{whose} has {count}; a classifier needs {'two' if fewest == 2 else 'one'} or more")
    for label, example in first_of.items():
        if not is_name(label):
            raise DataError(
                f"{example.place}: the label {shown(label)} holds a character that no name may have. Remove it."
            )
    check_found(labels, first_of)
    allowed = set(labels)
    for examples in splits.values():
        for example in examples:
            for label in labels_of(example):
                if label not in allowed:
                    listed = ", ".join(labels[:_SHOWN]) + (", ..." if len(labels) > _SHOWN else "")
                    raise DataError(
                        f"{example.place}: unknown label {shown(str(label))}.{nearest(str(label), allowed)} "
                        f"Labels {'declared' if declared else 'in the training split'}: {listed}; "
                        "name them all with data.labels=[...]"
                    )
    return labels


def check_declared(labels: Sequence[str]) -> None:
    """Check the names that the configuration declares.

    Raises:
        ConfigError: a name is repeated, is empty, or holds a character that no name may have.
    """
    for n, label in enumerate(labels):
        if not _skeleton(label):
            raise ConfigError(f"data.labels: name {n + 1} of {len(labels)} is empty. Write one, or leave it out")
        if not is_name(label):
            raise ConfigError(f"data.labels: {shown(label)} holds a character that no name may have. Remove it")
        if label in labels[:n]:
            raise ConfigError(f"data.labels: '{label}' is listed twice. List each label once")


def check_found(declared: Collection[str], occurring: Collection[str]) -> None:
    """Check declared names against those in the training data, and log which of the latter look alike.

    Raises:
        ConfigError: a declared name is not in the data, but looks like one that is.
    """
    for label in set(declared) - set(occurring):
        if alike := [other for other in occurring if _skeleton(other) == _skeleton(label)]:
            raise ConfigError(
                f"data.labels: {code_points(label)} looks like {code_points(alike[0])}, which the data has, and is "
                "another. Write it as in the data"
            )
    for names in _groups(occurring, _skeleton):
        log.warning("these labels look alike but are distinct: %s", ", ".join(map(code_points, names)))
    for names in _groups(occurring, str.casefold):
        if len({_skeleton(name) for name in names}) > 1:
            log.info("these labels differ only in letter case but are distinct: %s", ", ".join(names))


def is_name(label: str) -> bool:
    """Return whether `label` has visible characters, and no control character or half a surrogate pair."""
    return bool(_skeleton(label)) and is_valid(label) and not has_controls(label)


def nearest(label: str, labels: Iterable[str]) -> str:
    """Return which of `labels` an unknown one may mean, as a sentence after a space; or an empty string."""
    for other in (labels := list(labels)):
        if _skeleton(other) == _skeleton(label):
            return f" It looks like {code_points(other)}."
    if (read := _as_yaml_reads(label)) != label and read in labels:
        return f" Without quotes it is read as {read}: write \"data.labels=['{label}',...]\"."
    return did_you_mean(label, labels)


def shown(label: str) -> str:
    """Return a label in quotation marks, with the code points of invisible characters."""
    return f"'{label}'" if code_points(label) == repr(label) else code_points(label)


def where(examples: Sequence[Any]) -> str:
    """Return the file of `examples` as the start of a message; empty without examples."""
    return f"{examples[0].file}: " if examples else ""


def _skeleton(label: str) -> str:
    """Return what a reader sees of a label: composed, without zero-width characters, and with plain spaces."""
    visible = [c for c in unicodedata.normalize("NFC", label) if c.isspace() or not _is_hidden(c)]
    return " ".join("".join(visible).split())


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf") or "\ufe00" <= character <= "\ufe0f"


def _as_yaml_reads(label: str) -> str:
    """Return a label as a configuration reads it without quotes: ``yes`` becomes true, and 007 becomes 7."""
    if len(label) > _AS_YAML:
        return label
    try:
        return json.dumps(yaml.safe_load(label))
    except (yaml.YAMLError, TypeError, ValueError):
        return label


def _groups(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    """Return the names, sorted, that share a key with another."""
    groups = itertools.groupby(sorted(names, key=lambda name: (key(name), name)), key)
    return [group for group in (list(members) for _, members in groups) if len(group) > 1]


def _in_order(labels: set[str]) -> list[str]:
    by_value = all(label.isdecimal() for label in labels)
    return sorted(labels, key=lambda label: (int(label) if by_value else 0, label))
