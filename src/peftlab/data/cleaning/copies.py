"""Texts that occur more than once: duplicates, conflicts, near duplicates and leaks between splits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from peftlab.data.cleaning.finding import Finding, Reason
from peftlab.data.duplicates import alike, repeated

TRAIN = "train"


class Entry(NamedTuple):
    """An example of any task, reduced to its text and its label."""

    split: str
    id: str
    text: str
    """The key by which two examples count as the same text; its parts are separated by U+001F."""
    gold: Any


@dataclass(frozen=True)
class Copies:
    """For each reason, the positions of the examples that are listed, each with that of the example it resembles."""

    duplicates: Mapping[int, int] = field(default_factory=dict)
    """Repetitions of an earlier example of their split, text and gold."""
    conflicts: Mapping[int, int] = field(default_factory=dict)
    """Examples whose text has other gold elsewhere in their split."""
    near_duplicates: Mapping[int, int] = field(default_factory=dict)
    """Examples that are nearly an earlier one of their split, and neither duplicates nor conflicts."""
    leaks: Mapping[int, int] = field(default_factory=dict)
    """Training examples that are, or nearly are, an example of another split."""


def copies(entries: Sequence[Entry]) -> Copies:
    """Return the examples whose texts occur more than once; see `alike` for what is nearly the same.

    Gold is compared within a split only: what is done about a training example never depends on the labels of the
    validation or test split.
    """
    duplicates: dict[int, int] = {}
    conflicts: dict[int, int] = {}
    for split in dict.fromkeys(entry.split for entry in entries):
        members = [n for n, entry in enumerate(entries) if entry.split == split]
        texts = [entries[n].text for n in members]
        repetitions, disputed = repeated(texts, [entries[n].gold for n in members])
        first: dict[str, int] = {}
        for n, text in zip(members, texts, strict=True):
            first.setdefault(text, n)
        duplicates |= {members[n]: first[texts[n]] for n in repetitions}
        conflicts |= _opposed([members[n] for n in disputed], entries)
    groups = alike([entry.text for entry in entries])
    of_split: dict[tuple[int, str], int] = {}
    evaluated: dict[int, int] = {}
    for n, (group, entry) in enumerate(zip(groups, entries, strict=True)):
        of_split.setdefault((group, entry.split), n)
        if entry.split != TRAIN:
            evaluated.setdefault(group, n)
    exact = {*duplicates, *conflicts}
    near = {n: of_split[group, entries[n].split] for n, group in enumerate(groups) if n not in exact}
    return Copies(
        duplicates,
        conflicts,
        {n: other for n, other in near.items() if other != n},
        {n: evaluated[group] for n, group in enumerate(groups) if entries[n].split == TRAIN and group in evaluated},
    )


def _opposed(disputed: Sequence[int], entries: Sequence[Entry]) -> dict[int, int]:
    """Return for each of the examples, which are in conflict, the first with the same text and other gold."""
    first: dict[str, int] = {}
    other: dict[str, int] = {}  # the first with other gold than that: of the two, one has other gold than any example
    for n in disputed:
        if entries[n].gold != entries[first.setdefault(entries[n].text, n)].gold:
            other.setdefault(entries[n].text, n)
    opposed = {}
    for n in disputed:
        before = first[entries[n].text]
        opposed[n] = before if entries[n].gold != entries[before].gold else other[entries[n].text]
    return opposed


def findings(entries: Sequence[Entry]) -> list[Finding]:
    """Return a finding for every copy among `entries`: conflicts, duplicates, near duplicates, and then leaks."""
    listed = copies(entries)
    reasons: dict[Reason, tuple[Mapping[int, int], str]] = {
        "conflict": (listed.conflicts, "the label is another in {}"),
        "duplicate": (listed.duplicates, "the same as {}"),
        "near duplicate": (listed.near_duplicates, "nearly {}"),
        "leak": (listed.leaks, "the same as {}, or nearly"),
    }
    return [
        Finding(
            entries[n].split,
            entries[n].id,
            reason,
            shown(entries[n].text),
            *_labels(entries[n], entries[other], reason == "conflict"),
            note=note.format(entries[other].id),
        )
        for reason, (positions, note) in reasons.items()
        for n, other in sorted(positions.items())
    ]


def _labels(entry: Entry, other: Entry, in_conflict: bool) -> tuple[str, str]:
    """Return the gold of `entry` and, for a conflict, that of the other example; of words, only what differs."""
    if not in_conflict:
        return label_of(entry.gold), ""
    words, own, its = entry.text.split("\x1f"), entry.gold, other.gold
    if isinstance(own, list) and isinstance(its, list) and len(own) == len(its) == len(words):
        differing = [n for n, (tag, another) in enumerate(zip(own, its, strict=True)) if tag != another]
        own, its = ([f"{words[n]}:{tags[n]}" for n in differing] for tags in (own, its))
    return label_of(own), label_of(its)


def shown(text: str) -> str:
    """Return the key of a text as it is read: its parts with spaces between them."""
    return text.replace("\x1f", " ")


def label_of(gold: Any) -> str:
    """Return gold as text: a label as it is, a list of tags with spaces between them, anything else as JSON."""
    if isinstance(gold, str):
        return gold
    if isinstance(gold, list) and all(isinstance(tag, str) for tag in gold):
        return " ".join(gold)
    return "" if gold is None else json.dumps(gold, ensure_ascii=False)
