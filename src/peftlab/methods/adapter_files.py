"""Finds and reads the files of an adapter, named as in the peft library, from folders that may come from anybody."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from safetensors.torch import load_file
from torch import Tensor

from peftlab.errors import ConfigError
from peftlab.storage.digests import folder_sha256
from peftlab.storage.entries import oddity
from peftlab.storage.names import check_folder

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


def read_description(folder: Path) -> dict[str, Any]:
    """Return an adapter's description.

    Raises:
        ConfigError: `folder` has none, or it is damaged.
    """
    try:
        if odd := oddity(folder / ADAPTER_CONFIG):
            raise ValueError(f"{ADAPTER_CONFIG} is {odd}")
        description = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        if not isinstance(description, dict):
            raise ValueError(f"{ADAPTER_CONFIG} holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        below = sorted(path.parent.name for path in folder.glob(f"*/{ADAPTER_CONFIG}"))
        mend = f"; there is one in {', '.join(map(repr, below))} below it" if below else ""
        raise ConfigError(
            f"adapter = '{folder}': no adapter can be read there ({error}){mend}. It is a folder with {ADAPTER_CONFIG} "
            f"and {ADAPTER_WEIGHTS}, as the peft library's save_pretrained writes it, or a run has it below adapter/"
        ) from error
    return description


def read_tensors(folder: Path, name: str = ADAPTER_WEIGHTS) -> dict[str, Tensor]:
    """Return the tensors of an adapter, in its file `name`.

    Raises:
        ConfigError: there is no such file, or it is damaged.
    """
    path = folder / name
    if not path.is_file():
        raise ConfigError(f"adapter = '{folder}': there is no {name}; other formats are not read")
    try:
        stored = load_file(path)
        if odd := [key for key in stored if not key.isprintable()]:
            raise ValueError(f"the name {odd[0]!r}")
    except Exception as error:  # a damaged file may raise any exception
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"adapter = '{folder}': {name} is damaged: {reason}") from error
    return stored


def plain_name(name: str) -> str:
    """Return the canonical name of a tensor that the peft library saves under several names.

    With ``bias=all`` it saves the head's biases three times, including those of its untrained copy of the head.
    """
    return (
        name.replace(".original_module.", ".")
        .replace(".modules_to_save.default.", ".")
        .replace(".modules_to_save.", ".")
    )


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class AdapterSpec:
    """An adapter that a training starts from."""

    path: Path
    """Its folder."""
    sha256: str
    """The digest of the whole folder."""


def resolve_adapter(adapter: Any) -> dict[str, str]:
    """Return path and digest of an adapter in a folder, or of one that an earlier run started from.

    Raises:
        ConfigError: there is no such folder, or it has changed since that run.
    """
    settings = {"path": adapter} if isinstance(adapter, str) else adapter
    if not isinstance(settings, dict) or not isinstance(settings.get("path"), str):
        raise ConfigError(f"adapter = {adapter!r}: expected a folder, adapter=FOLDER")
    folder = Path(os.path.expanduser(settings["path"])).absolute()
    check_folder("adapter", folder)
    if not folder.is_dir():
        raise ConfigError(f"adapter = '{folder}': there is no such folder")
    resolved = {"path": str(folder), "sha256": folder_sha256(folder)}
    if settings.get("sha256", resolved["sha256"]) != resolved["sha256"]:
        raise ConfigError(f"adapter = '{folder}': it has changed since this run began with it; put the old one there")
    return resolved
