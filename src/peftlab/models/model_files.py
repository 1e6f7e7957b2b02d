"""Which files of a pretrained model's folder determine the model, including those that other files name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from peftlab.errors import SourceError
from peftlab.storage.entries import is_inner

MODEL_FILES: tuple[str, ...] = (
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "*.spm",
    "tekken.json",
)
"""The files that determine a model: fetched from the hub, and part of a run's identity."""

PROCESSOR_FILES: tuple[str, ...] = ("preprocessor_config.json", "processor_config.json")
"""The files that define how images or audio become inputs: part of the identity only of runs on these."""

GENERATION_FILES: tuple[str, ...] = ("chat_template.jinja", "generation_config.json")
"""The files that say how conversations are written and where an answer ends: part of the identity only of runs of tasks
that generate."""

MORE_TEMPLATES = "additional_chat_templates/*.jinja"
"""Files that take the place of that template where they are called ``default``, and of the tokenizer's own in any case:
part of the identity as those are. They are not fetched."""

MODEL_NOTES: tuple[str, ...] = (*GENERATION_FILES, *PROCESSOR_FILES)
"""Further files, fetched for later users of the model; a run that reads none of them has none in its identity."""

PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")
"""Weights in the format before safetensors."""

_NAMING_FILES = ("config.json", "tokenizer_config.json", "model.safetensors.index.json")
_NAMING_KEYS = ("configuration_files", "fast_tokenizer_files", "transformers_weights", "weight_map")
"""Where transformers looks up files to read instead of, or besides, those with the usual names."""

_PATH_KEYS = ("gguf_file", "merges", "vocab")
"""Keys with files that a tokenizer would open at any path. `save_pretrained` writes none of them."""


def deciding_files(folder: Path, allow_pickle: bool) -> set[str]:
    """Return the files that determine the model in `folder`, relative to it.

    Raises:
        SourceError: there are no weights, or none in a format that may be read.
    """
    safe = has_safetensors(folder)
    patterns = MODEL_FILES if safe else MODEL_FILES + PICKLED_WEIGHTS
    files = {path.name for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    pickled = [name for name in files if any(fnmatchcase(name, pattern) for pattern in PICKLED_WEIGHTS)]
    if not (safe or (allow_pickle and pickled)):
        raise SourceError(
            f"{folder}: no model.safetensors in the model's folder; save the weights with save_pretrained, which "
            "writes it"
        )
    named = {name for name in named_files(folder, pickled=not safe) if (folder / name).exists()}
    if safe and (odd := sorted(name for name in named if not name.endswith((".json", ".safetensors")))):
        raise SourceError(
            f"{folder}: among its weights it names '{odd[0]}', which is no file of safetensors; save them with "
            "save_pretrained"
        )
    return files | named


def files_of_task(folder: Path, processor: str, generates: bool) -> set[str]:
    """Return the files in `folder` that determine the model only for some tasks.

    Args:
        folder: the folder of the model.
        processor: the kind of processor that encodes the task's examples; for a tokenizer, other kinds are metadata.
        generates: whether the task writes conversations or generates texts.
    """
    names = [*(PROCESSOR_FILES if processor != "tokenizer" else ()), *(GENERATION_FILES if generates else ())]
    if generates:
        names += [path.relative_to(folder).as_posix() for path in folder.glob(MORE_TEMPLATES)]
    return {name for name in names if (folder / name).is_file()}


def has_safetensors(folder: Path) -> bool:
    """Return whether the weights of the model in `folder` are safetensors."""
    named = (folder / name for name in named_files(folder) if name.endswith(".safetensors"))
    return any(folder.glob("model*.safetensors")) or any(path.exists() for path in named)


def named_files(folder: Path, pickled: bool = False) -> set[str]:
    """Return the files named by the model files in `folder`, relative to it, whether they exist or not.

    A file that is no JSON names nothing: transformers refuses it when the model is loaded.

    Args:
        folder: the folder of the model.
        pickled: whether its weights are pickled.

    Raises:
        SourceError: a name leads out of the folder, or makes a tokenizer read files by their paths.
    """
    names: set[str] = set()
    waiting = [*_NAMING_FILES, *(["pytorch_model.bin.index.json"] if pickled else [])]
    while waiting:
        path = folder / waiting.pop()
        settings = _settings(path)
        if keys := [
            key for key in _PATH_KEYS if path.name == "tokenizer_config.json" and settings.get(key) is not None
        ]:
            raise SourceError(f"{path}: {keys[0]} makes the tokenizer read a file by its path; remove the key")
        for name in _named_in(settings):
            if not is_inner(name, portable=True):
                raise SourceError(f"{path}: it names '{name}', which is outside the model's folder; put it inside")
            if name.endswith(".json") and name not in names:
                waiting.append(name)
            names.add(name)
    return names


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}


def _named_in(settings: dict[str, Any]) -> Iterator[str]:
    for key in _NAMING_KEYS:
        value = settings.get(key)
        values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        yield from {each for each in values if isinstance(each, str)}
