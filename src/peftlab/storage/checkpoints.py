"""Checkpoints that a run resumes from: ``step-<optimiser steps>.safetensors``, each with its sha256 next to it.

A file holds a tree of plain values and tensors, see `peftlab.storage.trees`. The file is written atomically, and its
digest after it: a checkpoint without a matching digest is incomplete, and `newest_whole` skips it.

The checkpoint of a sharded model (FSDP, DeepSpeed) is a folder, ``step-<optimiser steps>.sharded``, in the format of
Lightning's strategy: every rank writes its shard, and the folder holds the digests of its files. It is written under a
temporary name and renamed when complete. These formats contain pickles: resume only from folders of your own.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from peftlab.errors import ConfigError
from peftlab.storage.atomic import DIGITS, digest_file, replacing, synchronise
from peftlab.storage.digests import file_sha256
from peftlab.storage.disk import writing
from peftlab.storage.entries import is_plain_folder, taken_by

log = logging.getLogger("peftlab")

LAST = 2
"""How many of the newest are kept during a run: the one before the last is the fallback if the last is damaged."""

_IN_ONE_PIECE, _SHARDED = ".safetensors", ".sharded"
_DIGESTS = "sha256"


def path_of(folder: Path, step: int, sharded: bool = False) -> Path:
    """Return the path of the checkpoint after `step` optimiser steps: a folder if `sharded`, else a file."""
    return folder / f"step-{step}{_SHARDED if sharded else _IN_ONE_PIECE}"


def step_of(path: Path) -> int | None:
    """Return the number of optimiser steps of the checkpoint `path`; None if it is no checkpoint."""
    match = re.fullmatch(r"step-(\d+)(\.safetensors|\.sharded)", path.name)
    return int(match[1]) if match else None


def files(folder: Path) -> list[Path]:
    """Return the checkpoints in `folder`, complete or not, newest first."""
    entries = folder.glob("step-*") if is_plain_folder(folder) else ()
    by_step = [(step, path) for path in entries if (step := step_of(path)) is not None]
    return [path for _, path in sorted(by_step, reverse=True)]


def newest_whole(folder: Path, sharded: bool = False, unfit: Callable[[Path], str | None] | None = None) -> Path | None:
    """Return the newest complete checkpoint in `folder`, or None; logs why each newer one is skipped.

    Args:
        folder: the checkpoint folder.
        sharded: whether the model is sharded; only checkpoints of the same kind can be read.
        unfit: returns any other reason why the run cannot resume from a file, or None.

    Raises:
        ConfigError: the checkpoint is of the other kind.
    """
    for path in files(folder):
        damage = damage_of(path) or (None if path.is_dir() or unfit is None else unfit(path))
        if damage is not None:
            log.warning("%s is damaged and passed over: %s", path, damage)
        elif path.is_dir() == sharded:
            return path
        else:
            of_which = "is not" if sharded else "is"
            raise ConfigError(
                f"{path} {of_which} of trainer.strategy=fsdp or deepspeed, which cannot read the checkpoints of other "
                "strategies, nor those theirs: resume with the strategy that made it, or start anew with existing=rerun"
            )
    return None


def damage_of(path: Path) -> str | None:
    """Return what is wrong with the checkpoint `path`; None if it is complete."""
    if odd := taken_by(path, stat.S_IFREG, stat.S_IFDIR):
        return f"it is {odd}"
    if path.is_dir():
        return _damage_of_folder(path)
    try:
        digest = digest_file(path).read_text(encoding="utf-8").partition(" ")[0]
    except (OSError, UnicodeDecodeError) as error:
        return f"its digest cannot be read, so it may be incomplete ({error})"
    bytes_, expected = path.stat().st_size, _expected_bytes(path)
    if expected is not None and bytes_ < expected:
        return f"truncated, {bytes_} of {expected} bytes are there"
    return None if file_sha256(path) == digest else "its sha256 is not the one that was noted when it was written"


def prune(folder: Path, last: int, every: int | None) -> None:
    """Remove all checkpoints in `folder` except the `last` newest and those at multiples of `every` optimiser steps."""
    for path in files(folder)[last:]:
        if every is None or (step_of(path) or 0) % every:
            remove(path)


def remove(path: Path) -> None:
    """Remove the checkpoint `path` and its digest."""
    if path.is_dir():
        # renamed first, so that a half-removed folder never looks like a checkpoint
        shutil.rmtree(path.rename(path.with_name(f".{path.name}.removed.{os.getpid():0{DIGITS}}")))
        return
    digest_file(path).unlink(missing_ok=True)  # first: a checkpoint without a digest is still listed and removed later
    path.unlink()


def belongs(file: Path) -> bool:
    """Return whether `file` is a checkpoint, a part of one, or the digest of one."""
    names = (file, *file.parents, file.with_name(file.name.removesuffix(".sha256")))
    return any(step_of(name) is not None for name in names)


def beside(path: Path) -> Path:
    """Return the temporary folder of the sharded checkpoint `path`; rank 0 sends it to the other ranks."""
    return path.with_name(f".{path.name}.{os.getpid():0{DIGITS}}")


def put_in_place(path: Path) -> None:
    """Add digests to the shards in `beside(path)`, sync them, and rename the folder to `path`.

    Raises:
        DiskError: the checkpoint cannot be written.
    """
    temporary = beside(path)
    with writing(path):
        written = sorted(file for file in temporary.rglob("*") if file.is_file())
        for file in written:
            synchronise(file)
        lines = [f"{file_sha256(file)}  {file.relative_to(temporary).as_posix()}\n" for file in written]
        with replacing(temporary / _DIGESTS) as digests:
            digests.write_text("".join(lines), encoding="utf-8")
        for folder in [*(folder for folder in temporary.rglob("*") if folder.is_dir()), temporary]:
            synchronise(folder)
        if path.exists():
            remove(path)
        temporary.rename(path)
        synchronise(path.parent)


def _damage_of_folder(path: Path) -> str | None:
    try:
        lines = (path / _DIGESTS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return f"its digests cannot be read ({error})"
    for digest, _, name in (line.partition("  ") for line in lines):
        if not (path / name).is_file():
            return f"{name} is missing"
        if file_sha256(path / name) != digest:
            return f"the sha256 of {name} is not the one that was noted when it was written"
    return None


def _expected_bytes(path: Path) -> int | None:
    """Return the file size according to the header (length, JSON), which states where each tensor ends."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(min(length, path.stat().st_size)))
            return 8 + length + max((entry["data_offsets"][1] for name, entry in header.items() if name[0] != "_"))
        except (ValueError, LookupError, TypeError, AttributeError):  # the header itself is damaged
            return None
