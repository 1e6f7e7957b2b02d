"""The types of entities or slots in BIO tags: those of the training data, or declared ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import NoReturn

from peftlab.errors import ConfigError, DataError
from peftlab.tasks.inputs.labels import check_declared, check_found, is_name, nearest, shown, where
from peftlab.tasks.inputs.words import Sentence


def learn_types(splits: Mapping[str, Sequence[Sentence]], declared: Sequence[str] | None) -> list[str]:
    """Return the entity types in order: the declared ones, else those of the training split, sorted.

    Raises:
        ConfigError: a declared name is none.
        DataError: there is no type, or a sentence of any split has another; the message names file and line.
    """
    occurring = {tag[2:] for sentence in splits["train"] for tag in sentence.tags if tag != "O"}
    check_declared(declared or [])
    if "O" in (declared or []):
        raise ConfigError("data.labels: 'O' is the tag outside entities, not an entity type. Remove it")
    types = list(declared) if declared else sorted(occurring)
    if not types:
        raise DataError(
            f"{where(splits['train'])}the training split has no entity: every tag is O; is data.format.tag_column "
            "right?"
        )
    check_found(types, occurring)
    allowed = {"O", *(f"{mark}-{type_}" for type_ in types if _is_type(type_) for mark in "BI")}
    for sentences in splits.values():
        for sentence in sentences:
            for tag, line in zip(sentence.tags, sentence.lines, strict=True):
                if tag not in allowed:
                    _refuse(tag, f"{sentence.file}:{line}", allowed, types, bool(declared))
    return types


def _refuse(tag: str, place: str, allowed: Set[str], types: Sequence[str], declared: bool) -> NoReturn:
    if not _is_type(tag[2:]):
        raise DataError(f"{place}: {shown(tag[2:])} in the tag {shown(tag)} is not an entity type. Mend it.")
    raise DataError(
        f"{place}: unknown label {shown(tag)}.{nearest(tag, allowed)} Entity types "
        f"{'declared' if declared else 'in the training split'}: {', '.join(types)}; name them all with "
        "data.labels=[...]"
    )


def _is_type(name: str) -> bool:
    return name != "O" and is_name(name)
