"""The training examples that a file names by their ids, such as those whose labels a loop has asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peftlab.data.named_files import NamedFile
from peftlab.data.views import chosen
from peftlab.errors import ConfigError
from peftlab.reading.json_form import parsed
from peftlab.storage.atomic import replacing

KEY = "budget.listed"
SPLITS = ("train", "validation")
"""The splits that a list may divide its examples among."""


def write_list(file: Path, train: Sequence[str], validation: Sequence[str] = ()) -> None:
    """Write a list for ``budget.listed``.

    Args:
        file: is replaced.
        train: the ids of the examples to train on.
        validation: those of examples of the training split that are the validation split; none: it stays as it is.
    """
    ids = {"train": list(train), **({"validation": list(validation)} if validation else {})}
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(ids, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def read_list(file: NamedFile) -> dict[str, list[str]]:
    """Return the ids by split, as `write_list` writes them.

    Raises:
        ConfigError: the file is no such list, has changed, or names an example twice.
    """
    where = f"{KEY} = '{file.path}'"
    try:
        ids = parsed(file.read(KEY))
    except ValueError as error:
        raise ConfigError(f"{where}: is not JSON ({error})") from error
    if (
        not isinstance(ids, dict)
        or not ids.get("train")
        or not ids.keys() <= set(SPLITS)
        or not all(map(_are_ids, ids.values()))
    ):
        raise ConfigError(
            f'{where}: expected ids of training examples, {{"train": ["train:0", ...]}}, and perhaps "validation", '
            "which then takes the place of the validation split"
        )
    times = Counter(id for members in ids.values() for id in members)
    if twice := next((id for id in times if times[id] > 1), None):
        raise ConfigError(f"{where}: names the example '{twice}' twice; name each once")
    return ids


def of_list(splits: Mapping[str, Sequence[Any]], file: NamedFile | None) -> Mapping[str, Sequence[Any]]:
    """Return `splits` with the listed examples of the training split, in their order, and maybe a validation split.

    Without a file, they stay as they are.

    Raises:
        ConfigError: the list cannot be used, or names an example that the training split does not have.
    """
    if file is None:
        return splits
    ids = read_list(file)
    place = {example.id: n for n, example in enumerate(splits["train"])}
    for members in ids.values():
        if foreign := [id for id in members if id not in place]:
            raise ConfigError(
                f"{KEY} = '{file.path}': the training split has no example '{foreign[0]}'"
                f"{f', nor {len(foreign) - 1} others' if len(foreign) > 1 else ''}: the list is of other data"
            )
    own = {split: chosen(splits["train"], sorted(place[id] for id in members)) for split, members in ids.items()}
    return {**splits, **own}


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(id, str) for id in value)
