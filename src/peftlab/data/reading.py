"""Reads a data set: fetches its files, validates and deduplicates their examples, and holds splits out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from peftlab.data.aside import FAR
from peftlab.data.cleaning.actions import Cleaned, clean
from peftlab.data.cleaning.copies import Entry
from peftlab.data.cleaning.folds import folds, parts_of
from peftlab.data.documents import check_documents, document_key, has_documents, whole_texts
from peftlab.data.duplicates import repeated
from peftlab.data.form import has_groups, has_histories, weight_of
from peftlab.data.hashes import among, hashes
from peftlab.data.held_out import hold_out
from peftlab.data.indexed_examples import IndexedExamples
from peftlab.data.labelled import read_labelled
from peftlab.data.masked.examples import ExampleMask, masked_examples
from peftlab.data.media_files import Listed
from peftlab.data.memory import Recalled
from peftlab.data.spec import DataSpec, takes_folders
from peftlab.data.splits import Files, split_files
from peftlab.data.views import View, chosen, mapped, renamed
from peftlab.errors import ConfigError, DataError
from peftlab.reading.unicode_text import Door
from peftlab.storage.digests import file_sha256
from peftlab.tasks.inputs.questions import Question
from peftlab.tasks.task import Task

log = logging.getLogger("peftlab")

Examples = dict[str, Sequence[Any]]
"""Examples by split; those of a large file are made when they are accessed, see `peftlab.data.views`."""
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
    """The digest of the file that each split comes from, of a list of label errors, and of the key of surrogates."""
    counts: Counts = field(default_factory=dict)
    """What the format and the text validation counted in each file."""
    dropped: Counts = field(default_factory=dict)
    """Examples left out of each split, by reason."""
    train_test_overlap: int = 0
    """Test examples whose text is also in the training split, ignoring case and white space."""
    factors: dict[str, float] = field(default_factory=dict)
    """By id of a training example, the factor on its weight in the loss; 1 for all others."""
    memories: Sequence[Recalled] = ()
    """What is remembered of earlier runs."""
    aside: Examples = field(default_factory=dict)
    """Examples that are none of the classes, by the name of their set, see `Aside`."""
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
    files = split_files(spec.splits, fetched, takes_folders(spec.format, fetched.path))
    own = {split: fetched.file(file) for split, file in files.items() if isinstance(file, str)}
    examples, counts, digests = read_files(spec, task, own)
    of_file = {split: digests.get(split) or fetched.digest(str(files[split])) for split in own}
    sha256 = {split: of_file.get(split, of_file["train"]) for split in files}
    splits, dropped, aside = _divide(spec, task, files, examples)
    if spec.aside is not None and (far := spec.aside.far_texts(task, spec.format)):
        aside[FAR] = far if spec.mask_pii is None else masked_examples(far, ExampleMask(spec.mask_pii.masker()))[0]
    ids = (
        {example.id: split for split, members in splits.items() for example in members}
        if spec.clean is not None
        else {}
    )
    if spec.fold is not None:
        _hold_fold_out(spec.fold, splits, dropped, task, spec.format)
        sha256["test"] = sha256["train"]
    cleaned = Cleaned()
    if spec.clean is not None:
        cleaned = _clean(spec, splits, dropped, task, ids)
    sha256 |= {name: digest for name, (_, digest) in beside_the_splits(spec).items()}
    if spec.labelled is not None:
        further = read_labelled(spec.labelled, task, [example.id for example in splits["train"]])
        if spec.mask_pii is not None:
            further = list(masked_examples(further, ExampleMask(spec.mask_pii.masker()))[0])
        splits["train"] = [*splits["train"], *further]
    test, train = (hashes(plain(task.text_key(example)) for example in splits[split]) for split in ("test", "train"))
    overlap = int(among(test, train).sum())
    weight = weight_of(spec.format)
    if has_groups(spec.format):
        _warn_of_shared_groups(splits)
    if has_documents(spec.format) or (has_groups(spec.format) and issubclass(task.example, Question)):
        check_documents(splits, document_key(task))
    return splits, DataFacts(
        origin=fetched.origin,
        licence=fetched.licence,
        source=fetched.resolved,
        files=files,
        sha256=sha256,
        counts=counts,
        dropped=dropped,
        train_test_overlap=overlap,
        factors=cleaned.factors if weight is None else _weights(splits["train"], weight, cleaned.factors),
        aside=aside,
        cleaned=cleaned.counts,
    )


def beside_the_splits(spec: DataSpec) -> dict[str, tuple[Path, str]]:
    """Return the other files that decide what the examples are, with their digests, by their names in the identity.

    Raises:
        UserError: one cannot be read.
    """
    files = {}
    if spec.clean is not None and (listing := spec.clean.label_errors_from) is not None:
        files["label_errors"] = Path(listing), file_sha256(listing)
    if spec.mask_pii is not None and (key := spec.mask_pii.key) is not None:
        digest = spec.mask_pii.key_digest()
        assert digest is not None
        files["mask_pii"] = key, digest
    return files


class Contents(NamedTuple):
    """What files hold."""

    examples: Examples
    counts: Counts
    """What was counted in each file while reading it."""
    sha256: dict[str, str]
    """The digests of files, by split, where reading has computed them."""


def read_files(spec: DataSpec, task: Task, files: Mapping[str, Path]) -> Contents:
    """Return the examples of each file as valid Unicode, and masked if the data is to be.

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
    contents = Contents({}, {}, {})
    mask = None if spec.mask_pii is None else ExampleMask(spec.mask_pii.masker())
    for split, members in examples.items():
        contents.counts[split] = dict(getattr(members, "counts", {}))
        if isinstance(members, IndexedExamples | Listed) and members.sha256 is not None:
            contents.sha256[split] = members.sha256
        if not isinstance(members, View):  # those that are read when needed have their position as id
            _check_ids(split, members)
        contents.examples[split] = members
        if hasattr(task.example, "mapped"):
            contents.examples[split], odd_characters = _as_unicode(split, members)
            contents.counts[split].update(odd_characters)
        if mask is not None:
            contents.examples[split], masked = masked_examples(contents.examples[split], mask)
            contents.counts[split].update(masked)
    if mask is not None:
        listed = ", ".join(f"{count:,} of kind {kind}" for kind, count in sorted(mask.counts.items()))
        log.info("data.mask_pii: found in the data: %s", listed or "nothing of what is looked for")
    return contents


def _check_ids(split: str, examples: Sequence[Any]) -> None:
    first: dict[str, Any] = {}
    for example in examples:
        if (earlier := first.setdefault(example.id, example)) is not example:
            places = " and ".join(getattr(each, "place", "") or repr(each)[:80] for each in (earlier, example))
            raise DataError(f"the {split} split has two examples with the id '{example.id}': {places}")


def _as_unicode(split: str, examples: Sequence[Any]) -> tuple[Sequence[Any], dict[str, int]]:
    """Return `examples` as valid Unicode, and the counts of odd characters; warn of the first."""
    door, odd = Door(), None
    valid = []
    for example in examples:
        each = example.mapped(door)
        if not isinstance(examples, View):
            valid.append(each)
        odd = odd or (example.place if door.findings else None)
    if odd:
        log.warning("the %s split has odd characters, the first at %s: %s", split, odd, door.findings)
    counts = {name: count for name, count in door.counts.items() if count}
    return mapped(examples, _valid) if isinstance(examples, View) else valid, counts


def _valid(example: Any) -> Any:
    """Return an example as valid Unicode, without counting."""
    return example.mapped(Door())


def _divide(spec: DataSpec, task: Task, files: Files, examples: Examples) -> tuple[Examples, Counts, Examples]:
    """Drop duplicates, let the task learn its labels, and hold out the splits that have no file.

    Returns:
        the examples of each split, how many were left out of it, by reason, and the sets of those of no class.
    """
    shares = {split: share for split, share in files.items() if isinstance(share, float)}
    splits: Examples = {split: [] for split in files}
    dropped: Counts = {split: {} for split in files}
    learnt: Examples = {}
    for file, members in examples.items():
        texts = mapped(members, task.text_key)
        kept = np.arange(len(members))
        if spec.duplicates == "drop":
            duplicates, conflicts = repeated(texts, mapped(members, task.gold))
            kept = np.delete(kept, [*duplicates, *conflicts])
            counts = {"conflicts": len(conflicts), "duplicates": len(duplicates)}
            dropped[file] = {reason: count for reason, count in counts.items() if count}
        inside = np.ones(len(members), bool) if spec.subset is None else spec.subset.holds(members, task, spec.format)
        learnt[file] = chosen(members, kept[inside[kept]])
        if file != "train" or not shares:
            splits[file] = learnt[file]
            continue
        # near duplicates are looked for among the examples that are kept: only these can leak
        if has_documents(spec.format):
            whole, owner = whole_texts(chosen(members, kept), task.text_key)
            of_document = hold_out(whole, shares)
            split_of = [of_document[document] for document in owner]
        else:
            groups = mapped(chosen(members, kept), _group) if has_groups(spec.format) else None
            split_of = hold_out(chosen(texts, kept), shares, groups)
        places = {
            split: kept[np.asarray([own == split for own in split_of]) & inside[kept]] for split in ("train", *shares)
        }
        splits["train"] = chosen(members, places.pop("train"))
        splits |= {split: renamed(members, own, split) for split, own in places.items()}
    aside: Examples = {}
    declared = spec.labels
    if spec.aside is not None and spec.aside.acts:
        before = {split: len(members) for split, members in splits.items()}
        splits, aside = spec.aside.divide(splits, task)
        learnt, declared = spec.aside.divided(learnt, task)[0], spec.aside.declared(declared)
        for split, count in before.items():
            if count > len(splits[split]):
                dropped[split]["of no class"] = count - len(splits[split])
    task.learn_labels(learnt, declared)  # before holding out: a rare label may end up in one split only
    if spec.subset is not None:
        spec.subset.check_found(splits["train"], task, spec.format)
    for split, members in splits.items():
        if not members and spec.subset is not None:
            raise DataError(f"the {split} split has no example that data.subset chooses; choose more, or hold out more")
        if not members:
            raise _empty(split, files, examples["train"], has_groups(spec.format))
    return splits, dropped, aside


def _group(example: Any) -> str | None:
    group: str | None = example.group
    return group


def _hold_fold_out(fold: str, splits: Examples, dropped: Counts, task: Task, format: Any) -> None:
    """Move a fold of the training split to the test split, in place of its examples."""
    if has_histories(format):
        raise DataError(
            f"data.fold={fold}: an interaction is in the histories of later ones, which would be trained on. Set "
            "data.fold=null; data.format.protocol divides interactions"
        )
    number, of = parts_of(fold)
    members = splits["train"]
    if has_documents(format):
        whole, owner = whole_texts(members, task.text_key)
        fold_of = np.asarray(folds(whole, of))[owner]
    else:
        groups = [example.group for example in members] if has_groups(format) else None
        fold_of = np.asarray(folds([task.text_key(example) for example in members], of, groups))
    for split, is_in in (("test", True), ("train", False)):
        splits[split] = chosen(members, np.flatnonzero((fold_of == number) == is_in))
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
    train = splits["train"]
    splits["train"] = chosen(train, [n for n, example in enumerate(train) if example.id not in cleaned.dropped])
    if not splits["train"]:
        raise DataError("data.clean: it drops every training example. Report or downweight them instead")
    return cleaned


def _weights(train: Sequence[Any], column: str | int, factors: Mapping[str, float]) -> dict[str, float]:
    """Return the factor on the weight of each training example: its own weight times that of cleaning.

    Raises:
        DataError: none has a weight in that column.
    """
    own = {example.id: example.weight for example in train}
    if not any(weight is not None for weight in own.values()):
        raise DataError(f"data.format: the column '{column}' of weights is empty, or missing, in the training split")
    return {id: factors.get(id, 1.0) * (1.0 if weight is None else weight) for id, weight in own.items()}


def _empty(split: str, files: Files, train: Sequence[Any], grouped: bool) -> DataError:
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


def plain(text: str) -> str:
    """Return `text` in one case, with single spaces: two texts that are then equal count as the same."""
    return " ".join(text.casefold().split())
