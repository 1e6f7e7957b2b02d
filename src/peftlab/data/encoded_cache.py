"""Encoded splits kept on disk, named by a fingerprint of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from transformers import PreTrainedTokenizerBase

from peftlab.atomic_files import replacing
from peftlab.errors import DiskError
from peftlab.sources import ANOTHER_CACHE, cache_root
from peftlab.tasks.task import Encoded

log = logging.getLogger("peftlab")

_TOLD: set[Path] = set()
"""Folders that could not be written: told once, not once a split."""

FORMAT = 3
"""Raise it when the meaning of the stored arrays changes."""


def fingerprint(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Any], task: str, options: dict[str, Any]) -> str:
    """Return a name for the encoding of `texts` (JSON values) by `tokenizer` under a task's `options`."""
    digest = hashlib.sha256()
    for part in (FORMAT, task, sorted(options.items()), tokenizer.pad_token_id, texts):
        digest.update(json.dumps(part, ensure_ascii=False).encode() + b"\n")
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules |= {"truncation": None, "padding": None}  # no part of it: every call of the tokenizer sets them anew
    digest.update(json.dumps(rules, ensure_ascii=False).encode())
    return digest.hexdigest()


def cached(name: str, encode: Callable[[], Encoded]) -> Encoded:
    """Return the encoded split called `name`, from disk where it is there, else from `encode`, which is then stored.

    Two runs may build the same split at once: each writes a file of its own and puts it in place in one step, and both
    hold the same bytes. A file that cannot be read is built anew; a cache that cannot be written is done without.
    """
    path = cache_root() / "encoded" / f"{name}.safetensors"
    if path.is_file():
        try:
            return _load(path)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            log.warning("%s cannot be read (%s); encoding again", path, error)
    encoded = encode()
    try:
        _store(encoded, path)
    except (DiskError, SafetensorError, OSError) as error:
        if path.parent not in _TOLD:
            _TOLD.add(path.parent)
            log.warning("going on without keeping the encoded data: %s", error)
    return encoded


def _load(path: Path) -> Encoded:
    with safe_open(path, framework="numpy") as file:
        arrays: dict[str, np.ndarray] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        facts = json.loads(file.metadata()["facts"])
    return Encoded(arrays, arrays.pop("lengths"), facts["padding"], facts["counts"])


def _store(encoded: Encoded, path: Path) -> None:
    arrays = {**encoded.arrays, "lengths": encoded.lengths}
    facts = json.dumps({"padding": encoded.padding, "counts": encoded.counts})
    with replacing(path, sum(array.nbytes for array in arrays.values()), ANOTHER_CACHE) as temporary:
        save_file(arrays, temporary, metadata={"facts": facts})
