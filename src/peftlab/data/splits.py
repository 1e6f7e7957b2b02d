"""The file of each split of a data set, or the share of the training file that is held out for it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from peftlab.errors import ConfigError, DataError
from peftlab.sources import Fetched

log = logging.getLogger("peftlab")

SPLITS = ("train", "validation", "test")
SPLIT_WORDS = {"train": ("train",), "validation": ("valid", "validation", "val", "dev"), "test": ("test",)}
"""Words in file names by which ``auto`` finds a split; the names of split folders."""

HELD_OUT = 0.1
"""The share of the training file that ``auto`` holds out for a split without a file."""

Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class Splits:
    """The file of each split, relative to the source's folder; ``auto``: found by its name.

    Validation and test may also be a share of the training file, which is held out. ``auto`` becomes `HELD_OUT` if no
    file besides the training file could be the split.
    """

    train: str = "auto"
    validation: Share | str = "auto"
    test: Share | str = "auto"

    def __post_init__(self) -> None:
        """Check that examples are left to train on."""
        if sum(share for share in (self.validation, self.test) if isinstance(share, float)) >= 1:
            raise ValueError(f"validation={self.validation} and test={self.test} leave nothing to train on")


Files = dict[str, str | float]
"""The file of each split, or the share of the training file that is held out for it."""


def split_files(splits: Splits, fetched: Fetched, folders: bool) -> Files:
    """Return the file of each split, or the share that is held out for it.

    ``auto`` finds a split by a word in its file name. A source that is a single file is the training file, and so is a
    folder of folders none of which is named after a split.

    Args:
        splits: the configured splits.
        fetched: the source.
        folders: whether a split is a folder.

    Raises:
        ConfigError: no file matches, or more than one does.
    """
    files: Files = {}
    for split in SPLITS:
        name = getattr(splits, split)
        files[split] = _find(split, fetched, folders, files.get("train")) if name == "auto" else name
    return files


def file_of(files: Mapping[str, str | float], split: str) -> str:
    """Return the file that contains `split`: its own, or the training file."""
    own = files[split]
    return own if isinstance(own, str) else str(files["train"])


def named_for(split: str, folder: Path, folders: bool = False) -> list[str]:
    """Return the files in `folder` whose names contain a word for `split`, or the folders that are named by one."""
    if not folder.is_dir():
        raise DataError(f"{folder}: is not a folder; name the folder that holds the files of the splits")
    words = SPLIT_WORDS[split]
    paths = [path for path in folder.iterdir() if path.is_dir() == folders and not path.name.startswith(".")]
    names = sorted(path.name for path in paths)
    return [name for name in names if (name.lower() in words if folders else any(w in name.lower() for w in words))]


def _find(split: str, fetched: Fetched, folders: bool, train: str | float | None) -> str | float:
    if fetched.single is not None:
        candidates = [fetched.single] if split == "train" else []
        unclear = []
    else:
        candidates = named_for(split, fetched.folder, folders)
        unclear = candidates or _unnamed(fetched.folder, folders, train)
        if folders and split == "train" and not unclear:
            candidates = ["."]
    if len(candidates) == 1:
        return candidates[0]
    if split != "train" and not unclear:
        log.info("no %s split: a share of %g of '%s' is held out for it", split, HELD_OUT, train)
        return HELD_OUT
    what = "folder" if folders else "file"
    reason = f"several could be meant ({', '.join(candidates)})" if candidates else f"no {what}'s name says so"
    others = f"; there is {', '.join(unclear)}" if unclear and not candidates else ""
    share = "" if split == "train" else f", or a share of the training {what} to hold out, data.splits.{split}=0.1"
    raise ConfigError(
        f"data.splits.{split}: which {what} of {fetched.folder}? {reason}{others}. Name it: data.splits.{split}="
        f"{what.upper()}{share}; or put one of {', '.join(SPLIT_WORDS[split])} into its name"
    )


def _unnamed(folder: Path, folders: bool, train: str | float | None) -> list[str]:
    """Return the entries of `folder` that may be a split although their names do not say which.

    These are files with the suffix of the training file; or, without a training folder, the folders of other splits.
    """
    named = {name for split in SPLITS for name in named_for(split, folder, folders)}
    if folders:
        return sorted(named) if train is None else []
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    alike = [path.name for path in files if train is None or path.suffix == Path(str(train)).suffix]
    return sorted(set(alike) - named - {str(train)})
