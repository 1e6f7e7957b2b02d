"""Make synthetic recordings with espeak-ng: spoken commands, or sentences with what is said in them.

    python make_recordings.py commands commands
    python make_recordings.py sentences sentences

A voice is a variant of espeak-ng with an accent, a pitch and a speed of its own, and counts as a speaker: 24 are in the
training table, 6 in that of the validation, 10 in that of the test, and no sentence is in two of them. Synthetic voices
are far more alike than people; a score on them says that the pipeline works, not how well people are understood.

What is there already is not made again, so that an interrupted call is repeated.
"""

from __future__ import annotations

import argparse
import csv
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ACCENTS = ["en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029"]
VARIANTS = [
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m6",
    "m7",
    "m8",
    "f1",
    "f2",
    "f3",
    "f4",
    "f5",
    "klatt",
    "klatt2",
    "klatt3",
    "Alex",
    "Alicia",
    "Andrea",
    "Andy",
    "Annie",
    "belinda",
    "benjamin",
    "boris",
    "caleb",
    "david",
    "ed",
    "edward",
    "Gene",
    "iven",
    "Jacky",
    "john",
    "Lee",
    "linda",
    "max",
    "Michael",
    "Mike",
    "paul",
    "quincy",
    "steph",
]
SPLITS = {"train": 24, "validation": 6, "test": 10}
"""Voices in each."""

COMMANDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]

PEOPLE = ["Marta", "Henrik", "Ayumi", "Tobias", "Leila", "Grigory", "Beatrice", "Kwame", "Ingrid", "Pavel"]
PLACES = ["Leeds", "Antwerp", "Nairobi", "Bergen", "Tallinn", "Lima", "Osaka", "Krakow", "Dundee", "Izmir"]
THINGS = [
    "the kitchen light",
    "the garage door",
    "the heating",
    "the invoice",
    "the parcel",
    "the meeting",
    "the radio",
]
NUMBERS = ["two", "seven", "eleven", "fourteen", "twenty three", "thirty one", "forty six", "eighty nine"]
TEMPLATES = [
    "turn off {thing} at {number} minutes past {number}",
    "call {person} in {place} about {thing}",
    "{person} will bring {thing} to {place} on platform {number}",
    "send {number} boxes from {place} to {place}",
    "remind {person} and {person} that {thing} is due in {number} days",
    "the train from {place} to {place} leaves at {number} fifteen",
]


class Voice(NamedTuple):
    """A voice of espeak-ng."""

    name: str
    options: list[str]


def voices() -> dict[str, list[Voice]]:
    """Return the voices of each split."""
    made = [
        Voice(
            variant,
            ["-v", f"{ACCENTS[n % len(ACCENTS)]}+{variant}", "-p", str(30 + 7 * n % 45), "-s", str(130 + 11 * n % 60)],
        )
        for n, variant in enumerate(VARIANTS)
    ]
    random.Random(0).shuffle(made)  # noqa: S311 - no secret
    ends = [sum([*SPLITS.values()][:n]) for n in range(len(SPLITS) + 1)]
    return {split: made[ends[n] : ends[n + 1]] for n, split in enumerate(SPLITS)}


def sentences(number: int) -> list[str]:
    """Return so many different sentences."""
    draw = random.Random(1)  # noqa: S311 - no secret
    made: dict[str, None] = {}
    while len(made) < number:
        text = draw.choice(TEMPLATES)
        for slot, choices in (("person", PEOPLE), ("place", PLACES), ("thing", THINGS), ("number", NUMBERS)):
            for chosen in draw.sample(choices, 2):
                text = text.replace(f"{{{slot}}}", chosen, 1)
        made[text] = None
    return list(made)


def spoken(kind: str, each: int) -> Iterator[tuple[str, Voice, str]]:
    """Yield the split, the voice and the words of every recording."""
    said = iter(sentences(each * len(VARIANTS)))
    for split, members in voices().items():
        for voice in members:
            for words in COMMANDS if kind == "commands" else [next(said) for _ in range(each)]:
                yield split, voice, words


def main() -> None:
    """Make what is missing, and the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["commands", "sentences"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=15, help="sentences of each voice (default: %(default)s)")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    column = "label" if asked.kind == "commands" else "text"
    rows: dict[str, list[dict[str, str]]] = {split: [] for split in SPLITS}
    for n, (split, voice, words) in enumerate(spoken(asked.kind, asked.each)):
        name = f"{voice.name}_{words if asked.kind == 'commands' else n}.wav"
        if not (asked.folder / name).exists():
            partial = asked.folder / ".partial.wav"
            subprocess.run(["espeak-ng", *voice.options, "-w", str(partial), words], check=True)
            partial.replace(asked.folder / name)
        rows[split].append({"path": name, column: words, "speaker": voice.name})
    for split, members in rows.items():
        with (asked.folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as table:
            writer = csv.DictWriter(table, list(members[0]))
            writer.writeheader()
            writer.writerows(members)
    print({split: len(members) for split, members in rows.items()})


if __name__ == "__main__":
    main()
