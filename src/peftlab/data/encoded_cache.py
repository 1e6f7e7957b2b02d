"""A cache of encoded splits on disk, named by a fingerprint of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from peftlab.errors import DiskError
from peftlab.sources import ANOTHER_CACHE, cache_root
from peftlab.storage.atomic import replacing
from peftlab.storage.tensors import sha256_of
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded, Task

log = logging.getLogger("peftlab")

_WARNED: set[Path] = set()
"""Folders that could not be written: one warning each, not one per split."""

FORMAT = 5
"""Version of the stored arrays; increase it when their meaning changes."""


def fingerprint(task: Task, examples: Sequence[Any], processor: Processor, limits: Limits) -> str:
    """Return a digest of everything that the encoding of `examples` depends on."""
    kind = type(task)
    options = {key: getattr(task, key) for key in sorted(task.encoded_by)}
    obeyed = {key: value for key, value in limits._asdict().items() if key in task.limited_by}
    digest = hashlib.sha256()
    for part in (FORMAT, f"{kind.__module__}.{kind.__qualname__}", options, obeyed, processor.fingerprint()):
        digest.update(json.dumps(part, ensure_ascii=False).encode() + b"\n")
    separator = "["  # of a list of all texts, written one by one
    for example in examples:
        digest.update((separator + json.dumps(task.encoded_text(example), ensure_ascii=False)).encode())
        separator = ", "
    digest.update(b"]\n" if examples else b"[]\n")
    return digest.hexdigest()


def file_of(name: str) -> Path:
    """Return the file of the encoded split called `name`."""
    return cache_root() / "encoded" / f"{name}.safetensors"


def cached(name: str, encode: Callable[[], Encoded]) -> Encoded:
    """Return the encoded split called `name` from the cache, else the result of `encode`, which is then stored."""
    if (encoded := kept(name)) is None:
        encoded = encode()
        keep(name, encoded)
    return encoded


def kept(name: str) -> Encoded | None:
    """Return what the cache has under `name`; None: nothing, or something damaged, of which it warns."""
    path = file_of(name)
    if path.is_file():
        try:
            return _load(path, name)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            warn_unreadable(path, error)
    return None


def keep(name: str, encoded: Encoded) -> None:
    """Store `encoded` under `name`; a cache that cannot be written is skipped with a warning.

    Two runs may store the same at once: each writes its own file and moves it into place in one step, and both files
    have the same bytes.
    """
    path = file_of(name)
    try:
        _store(encoded, path, name)
    except (DiskError, SafetensorError, OSError) as error:
        warn_unwritable(path, error)


def warn_unreadable(path: Path, error: Exception) -> None:
    """Warn that a file of the cache is damaged."""
    log.warning("%s cannot be read (%s); computing it again", path, error)


def warn_unwritable(path: Path, error: Exception) -> None:
    """Warn that a file of the cache could not be written, once a folder."""
    if path.parent not in _WARNED:
        _WARNED.add(path.parent)
        log.warning("going on without keeping the encoded data: %s", error)


def _load(path: Path, name: str) -> Encoded:
    with safe_open(path, framework="numpy") as file:
        arrays: dict[str, np.ndarray] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        facts = json.loads(file.metadata()["facts"])
    if facts.pop("sha256") != _digest(name, arrays, facts):
        raise ValueError("it does not hold what was written under this name")
    return Encoded(arrays, arrays.pop("lengths"), facts["padding"], facts["counts"])


def _store(encoded: Encoded, path: Path, name: str) -> None:
    arrays = {**encoded.arrays, "lengths": encoded.lengths}
    facts: dict[str, Any] = {"padding": encoded.padding, "counts": encoded.counts}
    facts["sha256"] = _digest(name, arrays, facts)
    # one entry: safetensors writes several in random order, but two runs must write the same bytes
    metadata = {"facts": json.dumps(facts)}
    with replacing(path, sum(array.nbytes for array in arrays.values()), ANOTHER_CACHE) as temporary:
        save_file(arrays, temporary, metadata=metadata)


def _digest(name: str, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> str:
    """Return the sha256 of an encoded split and its name."""
    tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}
    return hashlib.sha256(json.dumps([name, facts, sha256_of(tensors)]).encode()).hexdigest()
