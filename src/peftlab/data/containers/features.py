"""Names of labels in the description of the columns that the library ``datasets`` writes into its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from peftlab.errors import DataError

Naming = Callable[[Any], Any]
"""Gives numbers in a value their names; the number -1, which stands for no label, becomes None. Raises ValueError for a
number without a name."""

_KEY = b"huggingface"
DESCRIPTION = "dataset_info.json"
"""The file beside others that describes their columns."""


def namings(path: Path, metadata: Mapping[bytes, bytes] | None) -> dict[str, Naming]:
    """Return, for each column that holds numbers of labels, what gives them their names.

    Args:
        path: the file. A ``dataset_info.json`` beside it, as in a folder of ``save_to_disk``, describes its columns
            where `metadata` does not.
        metadata: that of the file.

    Raises:
        DataError: a description is malformed.
    """
    where, features = str(path), None
    try:
        if metadata and _KEY in metadata:
            features = json.loads(metadata[_KEY])["info"]["features"]
        elif (description := path.with_name(DESCRIPTION)).is_file():
            where = str(description)
            features = json.loads(description.read_text(encoding="utf-8")).get("features")
        of_columns = {name: _naming(feature) for name, feature in (features or {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{where}: the description of the columns, as the library datasets writes it, is malformed "
            f"({type(error).__name__}: {error}). Save the data again."
        ) from None
    return {name: naming for name, naming in of_columns.items() if naming is not None}


def _naming(feature: Any) -> Naming | None:
    """Return what names the numbers in the values of a feature; None if they have no names."""
    if isinstance(feature, list):  # of one
        return _within(_naming(feature[0]))
    kind = feature.get("_type")
    if kind == "ClassLabel":
        names = feature["names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("the names of a ClassLabel are no list of texts")
        return lambda number: _named(names, number)
    if kind in ("Sequence", "List", "LargeList"):
        inner = feature["feature"]
        if isinstance(inner, dict) and "_type" not in inner:
            return _of_structures({name: _naming(each) for name, each in inner.items()})
        return _within(_naming(inner))
    if kind is None:
        return _of_fields({name: _naming(each) for name, each in feature.items()})
    return None


def _named(names: Sequence[str], number: Any) -> str | None:
    if number is None or number == -1:
        return None
    if not isinstance(number, int) or not 0 <= number < len(names):
        raise ValueError(f"the label {number} has no name: there are {len(names)}, of the numbers from 0")
    return names[number]


def _within(naming: Naming | None) -> Naming | None:
    """Return what names each value of a list."""
    if naming is None:
        return None
    return lambda values: [naming(each) for each in values] if isinstance(values, list) else values


def _of_structures(of: Mapping[str, Naming | None]) -> Naming | None:
    """Return what names the fields of a list of structures, which a Sequence stores as a structure of lists."""
    in_list = _within(_of_fields(of))
    in_lists = _of_fields({name: _within(naming) for name, naming in of.items()})
    if in_list is None or in_lists is None:
        return None
    return lambda values: in_lists(values) if isinstance(values, dict) else in_list(values)


def _of_fields(of: Mapping[str, Naming | None]) -> Naming | None:
    of_named = {name: naming for name, naming in of.items() if naming is not None}
    if not of_named:
        return None

    def name_fields(values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: of_named[name](one) if name in of_named else one for name, one in values.items()}

    return name_fields
