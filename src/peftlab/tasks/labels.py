"""The names of labels: which are invalid, and which look alike to a reader."""

from __future__ import annotations

import itertools
import json
import logging
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import yaml

from peftlab.errors import ConfigError, did_you_mean
from peftlab.reading.unicode_text import code_points, has_controls, is_valid

log = logging.getLogger("peftlab")


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
    try:
        return json.dumps(yaml.safe_load(label))
    except (yaml.YAMLError, TypeError, ValueError):
        return label


def _groups(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    """Return the names, sorted, that share a key with another."""
    groups = itertools.groupby(sorted(names, key=lambda name: (key(name), name)), key)
    return [group for group in (list(members) for _, members in groups) if len(group) > 1]
