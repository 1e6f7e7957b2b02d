"""What is in a data set: splits, labels, lengths, copies, and what a user should know before training on it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from peftlab.data.cleaning.copies import TRAIN, Copies, Entry, copies, label_of, shown
from peftlab.data.hashes import among, hashes
from peftlab.data.reading import DataFacts, Examples, plain
from peftlab.data.shingles import words_of
from peftlab.data.splits import file_of
from peftlab.tasks.task import Encoded, Task

RARE = 10
"""A class with fewer training examples is called rare."""
FEW = 200
"""Fewer examples in a validation or test split are called few."""
MOST_COMPARED = 200_000
"""Examples among which duplicates and near duplicates are looked for, as the texts are then in memory."""
BINS = 10
"""Bins of a histogram, besides the last one, which is open."""


class Tokenised(NamedTuple):
    """A split, tokenised."""

    encoded: Encoded
    """As a run sees it."""
    lengths: np.ndarray
    """Tokens of each example with nothing cut off, shape (examples,)."""


@dataclass(frozen=True)
class Bin:
    """The examples of a range of lengths."""

    least: int
    most: int | None
    """None: no limit."""
    examples: int


@dataclass(frozen=True)
class Lengths:
    """The lengths of the examples of a split."""

    unit: Literal["tokens", "words"]
    median: float
    p90: float
    most: int
    histogram: tuple[Bin, ...]


@dataclass(frozen=True)
class SplitCard:
    """One split."""

    file: str
    rows: int
    dropped: dict[str, int]
    """Examples that the configuration leaves out, by reason."""
    classes: dict[str, int]
    """How often each class occurs, the most frequent first; empty where the task has none."""
    without_class: int
    """Examples of none of these classes."""
    lengths: Lengths | None
    """None: the split is empty."""
    empty: int
    """Examples without a character, or without a token."""
    unread: int | None
    """Examples that a model does not see whole; None: they were not tokenised."""
    duplicates: int | None
    """Repetitions of an earlier example of the split, text and gold; None: not looked for, as are the next two."""
    conflicts: int | None
    """Examples whose text has other gold elsewhere in the split."""
    near_duplicates: int | None


@dataclass(frozen=True)
class Overlap:
    """The examples of one split whose text is in another, ignoring case and white space."""

    of: str
    within: str
    examples: int


@dataclass(frozen=True)
class Shown:
    """An example for a reader."""

    id: str
    text: str
    gold: str


@dataclass(frozen=True)
class DataCard:
    """All that is said of a data set."""

    name: str
    task: str
    origin: str
    licence: str | None
    max_tokens: int
    sha256: dict[str, str]
    """The digest of the file that each split comes from."""
    splits: dict[str, SplitCard]
    overlap: tuple[Overlap, ...]
    leaks: int | None
    """Training examples that are, or nearly are, one of validation or test; None: not looked for."""
    examples: tuple[Shown, ...]
    """Some of the training split, chosen at random, the same every time."""
    warnings: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the card as JSON values."""
        return asdict(self)


def data_card(
    name: str,
    splits: Examples,
    facts: DataFacts,
    task: Task,
    max_tokens: int,
    tokenised: Mapping[str, Tokenised] | None,
) -> DataCard:
    """Return the card of a data set as `read_data_set` returns it.

    Args:
        name: the name of the data set.
        splits: the examples of each split.
        facts: where they come from.
        task: the task, which has learnt its labels.
        max_tokens: the length at which a model stops reading.
        tokenised: each split; None: lengths are counted in words.
    """
    few = sum(map(len, splits.values())) <= MOST_COMPARED
    entries = _entries(splits, task) if few else []
    alike = copies(entries) if few else None
    cards = {
        split: _split_card(split, members, facts, task, None if tokenised is None else tokenised[split], entries, alike)
        for split, members in splits.items()
    }
    overlap = tuple(_overlaps(splits, task))
    leaks = None if alike is None else len(alike.leaks)
    return DataCard(
        name,
        task.name,
        facts.origin,
        facts.licence,
        max_tokens,
        dict(facts.sha256),
        cards,
        overlap,
        leaks,
        tuple(_some(splits[TRAIN], task)),
        tuple(_warnings(cards, overlap, leaks, max_tokens)),
    )


def _entries(splits: Examples, task: Task) -> list[Entry]:
    return [
        Entry(split, example.id, task.text_key(example), task.gold(example))
        for split, members in splits.items()
        for example in members
    ]


def _split_card(
    split: str,
    members: Sequence[Any],
    facts: DataFacts,
    task: Task,
    tokenised: Tokenised | None,
    entries: Sequence[Entry],
    alike: Copies | None,
) -> SplitCard:
    classes: Counter[str] = Counter()
    words = np.zeros(len(members), dtype=np.int64)
    blank = np.zeros(len(members), dtype=bool)
    without = 0
    for n, example in enumerate(members):
        of_example = task.classes(example)
        classes.update(of_example)
        without += not of_example
        text = shown(task.text_key(example))
        blank[n] = not text.strip()
        if tokenised is None:
            words[n] = len(words_of(text))
    unread = None
    if tokenised is not None:
        lost = [task.lost(tokenised.encoded, n) for n in range(len(members))]
        blank |= np.asarray([bool(facts.get("empty")) for facts in lost], dtype=bool)
        unread = sum(bool(facts) and not empty for facts, empty in zip(lost, blank.tolist(), strict=True))
    counts: dict[str, int | None] = dict.fromkeys(("duplicates", "conflicts", "near_duplicates"))
    if alike is not None:
        counts = {kind: sum(entries[n].split == split for n in getattr(alike, kind)) for kind in counts}
    return SplitCard(
        file=file_of(facts.files, split),
        rows=len(members),
        dropped=dict(facts.dropped[split]),
        classes=dict(sorted(classes.items(), key=lambda pair: (-pair[1], pair[0]))),
        without_class=without if classes else 0,
        lengths=lengths_of(words, "words") if tokenised is None else lengths_of(tokenised.lengths, "tokens"),
        empty=int(blank.sum()),
        unread=unread,
        **counts,
    )


def lengths_of(numbers: np.ndarray, unit: Literal["tokens", "words"]) -> Lengths | None:
    """Return the quantiles of lengths and their histogram, whose bins have round widths and cover 99 % of them."""
    if not len(numbers):
        return None
    median, p90, p99 = np.quantile(numbers, [0.5, 0.9, 0.99])
    width = _round_up(max(1.0, (p99 + 1) / BINS))
    edges = [width * n for n in range(BINS + 1)]
    last = next(n for n, edge in enumerate(edges) if n and (edge > p99 or n == BINS))
    bins = [
        Bin(low, high - 1, int(((numbers >= low) & (numbers < high)).sum()))
        for low, high in itertools.pairwise(edges[: last + 1])
    ]
    if beyond := int((numbers >= edges[last]).sum()):
        bins.append(Bin(edges[last], None, beyond))
    return Lengths(unit, float(median), float(p90), int(numbers.max()), tuple(bins))


def _round_up(width: float) -> int:
    """Return the least of 1, 2, 5, 10, 20, 50, ... that is at least `width`."""
    power = 10 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width)


def _overlaps(splits: Examples, task: Task) -> Iterator[Overlap]:
    of_each = {split: hashes(plain(task.text_key(example)) for example in each) for split, each in splits.items()}
    for within, of in itertools.combinations(splits, 2):
        yield Overlap(of, within, int(among(of_each[of], of_each[within].copy()).sum()))


def _some(members: Sequence[Any], task: Task, number: int = 10) -> Iterator[Shown]:
    """Yield some examples, in the order of the split."""
    for place in sorted(np.random.default_rng(0).permutation(len(members))[:number].tolist()):
        example = members[place]
        yield Shown(example.id, shown(task.title(example)), label_of(task.gold(example)))


def _warnings(
    splits: Mapping[str, SplitCard], overlap: Sequence[Overlap], leaks: int | None, max_tokens: int
) -> Iterator[str]:
    yield from _of_classes(splits)
    for split, card in splits.items():
        if card.empty:
            yield f"{split}: {_number(card.empty, 'text')} without a word"
        if card.unread:
            share = f"{card.unread / card.rows:.1%}"
            yield f"{split}: {_number(card.unread, 'example')} ({share}) not read whole at data.max_tokens={max_tokens}"
        if card.conflicts:
            yield f"{split}: {_number(card.conflicts, 'example')} whose text has other gold elsewhere in the split"
        if card.duplicates:
            yield f"{split}: {_number(card.duplicates, 'repetition')} of earlier examples; data.duplicates=drop"
        if split != TRAIN and card.rows < FEW:
            half = 1.96 * math.sqrt(0.8 * 0.2 / card.rows)
            yield f"{split}: of {_number(card.rows, 'example')}, an accuracy of 0.8 is known to ± {half:.2f} only"
    for one in overlap:
        if one.examples:
            yield f"{one.of}: {_number(one.examples, 'text')} of the {one.within} split too"
    if leaks:
        listed = _number(leaks, "example")
        yield f"{TRAIN}: {listed} the same as one of validation or test, or nearly; 'data.clean={{leaks: drop}}'"
    if leaks is None:
        yield f"among more than {MOST_COMPARED:,} examples, duplicates and near duplicates are not looked for"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _of_classes(splits: Mapping[str, SplitCard]) -> Iterator[str]:
    train = splits[TRAIN].classes
    if rare := {name: count for name, count in train.items() if count < RARE}:
        listed = ", ".join(f"{name} ({count})" for name, count in list(rare.items())[:BINS])
        yield f"{TRAIN}: {len(rare)} of {len(train)} classes occur fewer than {RARE} times: {listed}{_more(rare)}"
    for split, card in splits.items():
        if unseen := [name for name in card.classes if name not in train]:
            yield f"{split}: no training example has {', '.join(unseen[:BINS])}{_more(unseen)}"
        if split != TRAIN and (untested := [name for name in train if name not in card.classes]):
            yield f"{split}: no example has {', '.join(untested[:BINS])}{_more(untested)}"


def _more(names: Sequence[str] | Mapping[str, int]) -> str:
    return ", ..." if len(names) > BINS else ""
