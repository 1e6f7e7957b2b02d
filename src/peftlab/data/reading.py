"""Reads a data set: fetches its files, validates and deduplicates their examples, and holds splits out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peftlab.data.cleaning.actions import Cleaned, clean
from peftlab.data.cleaning.copies import Entry
from peftlab.data.cleaning.folds import folds, parts_of
from peftlab.data.duplicates import repeated
from peftlab.data.held_out import hold_out
from peftlab.data.spec import DataSpec, Format, takes_folders
from peftlab.data.splits import Files, file_of, split_files
from peftlab.errors import ConfigError, DataError
from peftlab.reading.unicode_text import Door
from peftlab.storage.digests import file_sha256
from peftlab.tasks.task import Task

log = logging.getLogger("peftlab")

Examples = dict[str, list[Any]]
"""Examples by split."""
Counts = dict[str, dict[str, int]]
"""Counts by split and by what they count."""


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What the run record says about a data set, other than its examples."""

    origin: str = ""
    """The source in one word, see `Fetched`."""
    licence: str | None = None
    source: dict[str, str] = field(default_factory=dict)
    """Settings of the source that the fetch has made definite."""
    files: Files = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    """The digest of the file that each split comes from, and of a list of label errors."""
    counts: Counts = field(default_factory=dict)
    """What the format and the text validation counted in each file."""
    dropped: Counts = field(default_factory=dict)
    """Examples left out of each split, by reason."""
    train_test_overlap: int = 0
    """Test examples whose text is also in the training split, ignoring case and white space."""
    factors: dict[str, float] = field(default_factory=dict)
    """By id of a training example, the factor on its weight in the loss; 1 for all others."""
    cleaned: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What cleaning the training split did, see `Cleaned.counts`."""


def read_data_set(spec: DataSpec, task: Task) -> tuple[Examples, DataFacts]:
    """Fetch and read a data set, divide it into splits, and let the task learn its labels.

    Raises:
        SourceError: the source cannot be fetched.
        DataError: a file is malformed, or a split is empty.
        ConfigError: the files of the splits are unclear, or the data does not suit the task.
    """
    fetched = spec.source.fetch()
    files = split_files(spec.splits, fetched, takes_folders(spec.format))
    sha256 = {split: fetched.digest(file_of(files, split)) for split in files}
    own = {split: fetched.file(file) for split, file in files.items() if isinstance(file, str)}
    examples, counts = read_files(spec, task, own)
    splits, dropped = _divide(spec, task, files, examples)
    ids = {example.id: split for split, members in splits.items() for example in members}
    if spec.fold is not None:
        _hold_fold_out(spec.fold, splits, dropped, task, grouped=_has_groups(spec.format))
        sha256["test"] = sha256["train"]
    cleaned = Cleaned()
    if spec.clean is not None:
        cleaned = _clean(spec, splits, dropped, task, ids)
        if (listing := spec.clean.label_errors_from) is not None:
            sha256["label_errors"] = file_sha256(listing)
    train_texts = {_plain(task.text_key(example)) for example in splits["train"]}
    overlap = sum(_plain(task.text_key(example)) in train_texts for example in splits["test"])
    if _has_groups(spec.format):
        _warn_of_shared_groups(splits)
    return splits, DataFacts(
        origin=fetched.origin,
        licence=fetched.licence,
        source=fetched.resolved,
        files=files,
        sha256=sha256,
        counts=counts,
        dropped=dropped,
        train_test_overlap=overlap,
        factors=cleaned.factors,
        cleaned=cleaned.counts,
    )


def read_files(spec: DataSpec, task: Task, files: Mapping[str, Path]) -> tuple[Examples, Counts]:
    """Return the examples of each file as valid Unicode, and what was counted while reading it.

    Raises:
        ConfigError: the task takes another kind of example.
        DataError: a file is malformed, or two of its examples share an id.
    """
    examples = spec.format.read(dict(files))
    for example in (members[0] for members in examples.values() if members):
        if not isinstance(example, task.example):
            raise ConfigError(
                f"task={task.name} takes a {task.example.__name__} as an example, and data="
                f"{spec.name} has a {type(example).__name__}: choose another data=..., or another task=..."
            )
    valid: Examples = {}
    counts: Counts = {}
    for split, members in examples.items():
        _check_ids(split, members)
        counts[split] = dict(getattr(members, "counts", {}))
        valid[split] = members
        if hasattr(task.example, "mapped"):
            valid[split], odd_characters = _as_unicode(split, members)
            counts[split] |= odd_characters
    return valid, counts


def _check_ids(split: str, examples: list[Any]) -> None:
    first: dict[str, Any] = {}
    for example in examples:
        if (earlier := first.setdefault(example.id, example)) is not example:
            places = " and ".join(getattr(each, "place", "") or repr(each)[:80] for each in (earlier, example))
            raise DataError(f"the {split} split has two examples with the id '{example.id}': {places}")


def _as_unicode(split: str, examples: list[Any]) -> tuple[list[Any], dict[str, int]]:
    """Return `examples` as valid Unicode, and the counts of odd characters; warn of the first."""
    door, odd = Door(), None
    valid = []
    for example in examples:
        valid.append(example.mapped(door))
        odd = odd or (example.place if door.findings else None)
    if odd:
        log.warning("the %s split has odd characters, the first at %s: %s", split, odd, door.findings)
    return valid, {name: count for name, count in door.counts.items() if count}


def _divide(spec: DataSpec, task: Task, files: Files, examples: Examples) -> tuple[Examples, Counts]:
    """Drop duplicates, let the task learn its labels, and hold out the splits that have no file.

    Returns:
        the examples of each split, and how many were left out of it, by reason.
    """
    shares = {split: share for split, share in files.items() if isinstance(share, float)}
    splits: Examples = {split: [] for split in files}
    dropped: Counts = {split: {} for split in files}
    learnt: Examples = {}
    for file, members in examples.items():
        texts = [task.text_key(example) for example in members]
        left_out: dict[int, str] = {}
        if spec.duplicates == "drop":
            duplicates, conflicts = repeated(texts, [task.gold(example) for example in members])
            left_out = dict.fromkeys(duplicates, "duplicates") | dict.fromkeys(conflicts, "conflicts")
        dropped[file] = dict(sorted(Counter(left_out.values()).items()))
        kept = [n for n in range(len(members)) if n not in left_out]
        learnt[file] = [members[n] for n in kept]
        # near duplicates are looked for among the examples that are kept: only these can leak
        places = [file] * len(kept)
        if file == "train" and shares:
            groups = [members[n].group for n in kept] if _has_groups(spec.format) else None
            places = hold_out([texts[n] for n in kept], shares, groups)
        for n, split in zip(kept, places, strict=True):
            splits[split].append(members[n] if split == file else replace(members[n], id=f"{split}:{n}"))
    task.learn_labels(learnt, spec.labels)  # before holding out: a rare label may end up in one split only
    for split, members in splits.items():
        if not members:
            raise _empty(split, files, examples["train"], _has_groups(spec.format))
    return splits, dropped


def _hold_fold_out(fold: str, splits: Examples, dropped: Counts, task: Task, grouped: bool) -> None:
    """Move a fold of the training split to the test split, in place of its examples."""
    number, of = parts_of(fold)
    members = splits["train"]
    groups = [example.group for example in members] if grouped else None
    fold_of = folds([task.text_key(example) for example in members], of, groups)
    for split, is_in in (("test", True), ("train", False)):
        splits[split] = [example for example, at in zip(members, fold_of, strict=True) if (at == number) == is_in]
        if not splits[split]:
            raise DataError(
                f"data.fold={fold}: it leaves no example for the {split} split: of {len(members)} training examples "
                "near duplicates and groups stay together. Choose fewer folds"
            )
    dropped["test"] = {}


def _clean(spec: DataSpec, splits: Examples, dropped: Counts, task: Task, ids: Mapping[str, str]) -> Cleaned:
    """Leave out the training examples that are to be dropped, count them by reason, and log what was done."""
    assert spec.clean is not None
    entries = [
        Entry(split, example.id, task.text_key(example), task.gold(example))
        for split, members in splits.items()
        for example in members
    ]
    cleaned = clean(spec.clean, entries, ids)
    for kind, count in cleaned.counts.items():
        name = kind.replace("_", " ")
        log.info("data.clean: %s in the training split: %d (%s)", name, count["examples"], count["action"])
    dropped["train"] = dict(sorted((Counter(dropped["train"]) + Counter(cleaned.dropped.values())).items()))
    splits["train"] = [example for example in splits["train"] if example.id not in cleaned.dropped]
    if not splits["train"]:
        raise DataError("data.clean: it drops every training example. Report or downweight them instead")
    return cleaned


def _empty(split: str, files: Files, train: list[Any], grouped: bool) -> DataError:
    number = len({example.group for example in train}) if grouped else 0
    whole = f", which are {number} group{'s' * (number > 1)} and held out by it," if number else ","
    return DataError(
        f"empty split '{split}': of {len(train)} examples in {files['train']}{whole} none "
        f"is left for it; name a file or another share, data.splits.{split}=..."
    )


def _warn_of_shared_groups(splits: Examples) -> None:
    """Warn of groups that are in the training split and in another: splits with files of their own may share them."""
    groups = {split: {example.group for example in members} for split, members in splits.items()}
    for split, own in groups.items():
        if split != "train" and (shared := own & groups["train"]):
            n, of = len(shared), len(own)
            log.warning("%d of %d groups of the %s split are in the training split too", n, of, split)


def _has_groups(format: Format) -> bool:
    """Return whether the format reads the group of each example, which is held out as a whole."""
    return getattr(format, "group", None) is not None


def _plain(text: str) -> str:
    """Return `text` in one case, with single spaces."""
    return " ".join(text.casefold().split())
