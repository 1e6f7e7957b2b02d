"""Inputs drawn from a seed: files of every format and oddity, options, texts to predict, and what must come of them.

The generator knows what it writes: the rows of every file, their labels, and whether a refusal is right. Nothing of
peftlab is imported, so that what is expected does not follow from what is tested.
"""

from __future__ import annotations

import codecs
import json
import random
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz_texts import draw_labels, draw_text, draw_word, plain_text

CONF = Path(__file__).parents[2] / "conf"
SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {"train": ("train",), "validation": ("dev", "valid", "validation", "val"), "test": ("test",)}


@dataclass
class Example:
    """A row as it was written: of a tagger, words and BIO tags."""

    text: str | list[str]
    gold: str | list[str]
    pair: str | None = None
    group: str | None = None


@dataclass
class Input:
    """What one trial is given, and what is right."""

    number: int
    kind: str
    files: dict[str, bytes] = field(default_factory=dict)
    """By their names below the data folder."""
    names: dict[str, str] = field(default_factory=dict)
    """The file, or the folder, of each split that has one."""
    rows: dict[str, list[Example]] = field(default_factory=dict)
    """What is in it, in its order."""
    overrides: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    """Drawn options that the oracle has to know."""
    odd: list[str] = field(default_factory=list)
    """What is unusual about it."""
    must: dict[str, str] = field(default_factory=dict)
    """Why it has to be refused, and a regular expression that the message has to match."""
    may: dict[str, str] = field(default_factory=dict)
    """Why it may be refused, and how such a message reads."""
    texts: list[Any] = field(default_factory=list)
    """To predict."""
    wrong_texts: list[Any] = field(default_factory=list)
    """Not of the form that the run was trained on: each has to be refused."""
    stdin: bytes = b""
    """For `predict --file -`; one text a line."""

    @property
    def task(self) -> str:
        return "ner" if self.kind == "columns" else "classification"

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values()))


def draw_input(number: int) -> Input:
    """Return the input of this number, the same every time."""
    draw = random.Random(f"peftlab fuzz {number}")  # a text is hashed by SHA-512: neighbours have nothing in common
    kind = draw.choices(["csv", "tsv", "json_lines", "folders", "columns"], [5, 3, 5, 3, 7])[0]
    one = Input(number, kind)
    one.overrides = [f"task={one.task}", f"data={_option(kind)}"]
    _WRITERS[kind](one, draw)
    _options(one, draw)
    _texts_to_predict(one, draw)
    return one


def _option(kind: str) -> str:
    return {"columns": "files", "tsv": "csv"}.get(kind, kind)


def quoted(value: str) -> str:
    """Return `value` as Hydra's grammar takes it, whatever is in it."""
    return "'" + value.replace("\\'", "\\\\'").replace("'", "\\'") + "'"


# Examples ------------------------------------------------------------------------------------------------------------


def _texts(one: Input, draw: random.Random, taken: Callable[[str], str], with_pair: bool) -> list[str]:
    """Draw the rows of each split; `taken` turns a drawn text into one that the format can hold. Return the labels."""
    style, labels = draw_labels(draw, one.kind)
    labels = list(dict.fromkeys(taken(label).strip() for label in labels))
    labels = [label for label in labels if label]
    if len(labels) < 2:
        labels = ["neg", "pos"]
    one.odd.append(f"labels: {style}")
    if style == "line ends":
        one.may["line ends in labels"] = "label"
    counts = {"train": draw.randint(6, 16), "validation": draw.randint(2, 5), "test": draw.randint(2, 5)}
    if draw.random() < 0.35:
        for split in draw.sample(["validation", "test"], draw.choice([1, 2])):
            share = draw.choice([0.2, 0.3, 0.4])
            one.settings.setdefault("shares", {})[split] = share
            one.overrides.append(f"data.splits.{split}={share}")
        counts["train"] += 14
        one.may["held out: none may be left"] = "empty split"
    counts["train"] = max(counts["train"], len(labels))
    unequal = draw.random() < 0.3
    shares = one.settings.get("shares", {})
    for split in SPLITS:
        if split in shares:
            continue
        rows: list[Example] = []
        for n in range(counts[split]):
            text, pair = _nonempty(draw, taken), _nonempty(draw, taken) if with_pair else None
            label = (
                labels[n] if split == "train" and n < len(labels) else draw.choice(labels[:1] if unequal else labels)
            )
            rows.append(Example(text, label, pair))
        if draw.random() < 0.2:
            again = [draw.choice(rows) for _ in range(draw.randint(1, 3))]
            rows += [Example(row.text, draw.choice([row.gold, draw.choice(labels)]), row.pair) for row in again]
            one.odd.append("duplicates")
        draw.shuffle(rows)
        one.rows[split] = rows
    if with_pair:
        one.odd.append("pairs")
        one.settings["pairs"] = True
    if draw.random() < 0.3 and shares and "group:" in (CONF / "data" / f"{_option(one.kind)}.yaml").read_text():
        one.odd.append("groups")
        for row in _all(one):
            row.group = f"document {draw.randrange(9)}"
    one.settings["labels"] = labels
    return labels


def _nonempty(draw: random.Random, taken: Callable[[str], str]) -> str:
    for _ in range(20):
        if (text := taken(draw_text(draw))).strip():
            return text
    return plain_text(draw)


def _hazard(one: Input, draw: random.Random, hazards: Sequence[str], chance: float = 0.2) -> str | None:
    """Draw what is wrong with the input, if anything."""
    hazard = draw.choice(hazards) if draw.random() < chance else None
    if hazard:
        one.odd.append(f"wrong: {hazard}")
    return hazard


def _mislabelled(one: Input, draw: random.Random, hazard: str | None, labels: Sequence[str]) -> tuple[str | None, str]:
    """Give rows the labels that are wrong, if these are; return what is wrong, and in which split."""
    wrong_in = draw.choice(list(one.rows))
    if hazard == "unknown label":
        wrong_in = next((split for split in one.rows if split != "train"), "")
        if not wrong_in:
            return None, "train"
        draw.choice(one.rows[wrong_in]).gold = "never seen"
    if hazard == "one class":
        for row in _all(one):
            row.gold = labels[0]
    return hazard, wrong_in


def _names(one: Input, draw: random.Random, suffix: str, folders: bool = False) -> None:
    """Name the file of each split, and say so where the name does not."""
    only = list(one.rows) == ["train"]
    for split in one.rows:
        word = draw.choice(SPLIT_NAMES[split])
        style = draw.choice(["plain", "plain", "plain", "upper", "part", "named"])
        if folders or style == "plain":
            name = word + suffix
        elif style == "upper":
            name = word.upper() + draw.choice([suffix, suffix.upper()])
        elif style == "part":
            name = f"{draw.choice(['my ', 'données_', '2026-', 'a.b.'])}{word}{suffix}"
        else:
            name = f"{draw.choice(['one', 'zwei', 'três', 'file=4', 'a b'])}_{split[:2]}{suffix}"
            one.overrides.append(f"data.splits.{split}={quoted(name)}")
        one.names[split] = name
    if only and not folders and draw.random() < 0.5:
        one.settings["single_file"] = True
        one.overrides[:] = [each for each in one.overrides if not each.startswith("data.splits.train=")]


# Formats -------------------------------------------------------------------------------------------------------------


def _encoded(one: Input, draw: random.Random, encodings: Sequence[str]) -> tuple[str, Callable[[str], str]]:
    """Draw an encoding; return it with what turns a text into one that it can hold."""
    encoding = draw.choice(encodings)
    if encoding not in ("utf-8", "bom"):
        one.odd.append(f"encoding {encoding}")
    name = "utf-8" if encoding == "bom" else encoding

    def taken(text: str) -> str:
        return "".join(c for c in text if _holds(name, c))

    return encoding, taken


def _holds(encoding: str, character: str) -> bool:
    try:
        return character.encode(encoding).decode(encoding) == character
    except UnicodeError:
        return False


def _to_bytes(text: str, encoding: str) -> bytes:
    if encoding == "bom" or (encoding == "utf-8" and text.startswith("\ufeff")):  # one that is no part of the text
        return codecs.BOM_UTF8 + text.encode()
    return text.encode(encoding)


def _delimited(one: Input, draw: random.Random) -> None:
    tabs = one.kind == "tsv"
    encoding, holds = _encoded(
        one, draw, ["utf-8"] * 6 + ["bom", "bom", "latin-1", "cp1252", "utf-16", "shift_jis", "gb18030"]
    )
    delimiter = "\t" if tabs else draw.choice([",", ",", ",", ";", "|", "^"])
    mode = draw.choice(["quoted", "plain", "auto"]) if tabs else draw.choice(["quoted"] * 5 + ["plain"])
    raw = mode != "quoted"

    def taken(text: str) -> str:
        text = holds(text)
        if raw:
            for character in (delimiter, "\r", "\n"):
                text = text.replace(character, " ")
        if mode == "auto" and '"' not in text and draw.random() < 0.1:
            text = draw.choice(['"{}', '{}"', 'a 5" {}']).format(text)
        if mode == "auto" and re.fullmatch(
            '"([^"]|"")*"', text
        ):  # which is a field in quotes, and not a text with some
            text = text.replace('"', "")
        return text

    with_pair = draw.random() < 0.2
    labels = _texts(one, draw, taken, with_pair)
    if mode == "auto" and any('"' in str(row.text) + str(row.pair) + str(row.gold) for row in _all(one)):
        one.odd.append("plain quotes in tabs")
        one.may["plain quotes, and quotes are read"] = "quote"
    suffix = draw.choice([".tsv", ".tab", ".TSV"]) if tabs else draw.choice([".csv", ".csv", ".csv", ".txt"])
    _names(one, draw, suffix)

    header = draw.random() < 0.8
    columns = ["text", "label", *(["other"] if with_pair else [])]
    named = draw.choice(["as expected", "as expected", "odd", "extra"])
    if named == "odd":
        odd = [holds(name) or f"c{n}" for n, name in enumerate(["my text", "größe: x", "other/text"])]
        columns = [odd[0], odd[1], *(odd[2:] if with_pair else [])]
    if named == "extra":
        columns += ["id", "note"]
    if "groups" in one.odd:
        columns.append("document")
    order = columns[:]
    draw.shuffle(order)
    if "groups" in one.odd:
        one.overrides.append(f"data.format.group={'document' if header else order.index('document')}")
    for key, column in zip(("text", "label", "pair"), columns, strict=False):
        position: str | int = quoted(column) if header else order.index(column)
        needed = not header or named == "odd" or key == "pair"
        if (key != "pair" or with_pair) and needed:
            one.overrides.append(f"data.format.{key}={position}")
    if not header:
        one.overrides.append("data.format.header=false")
        one.odd.append("no header")
    if tabs and mode != "auto":
        one.overrides.append(f"data.format.quotes={'true' if mode == 'quoted' else 'false'}")
    if not tabs and raw:
        one.overrides.append("data.format.quotes=false")
        one.odd.append("quotes=false")
    untold = delimiter not in ",\t" and draw.random() < 0.3
    if untold:
        one.odd.append("wrong: delimiter not told")
        one.must["another delimiter"] = "data.format.delimiter" if delimiter in ";|" else ""
    elif delimiter != "," and not tabs:
        one.overrides.append(f"data.format.delimiter={quoted(delimiter)}")
    if encoding not in ("utf-8", "bom"):
        one.overrides.append(f"data.format.encoding={encoding}")

    hazards = ["more fields", "fewer fields", "empty text", "empty label", "blank text", "unknown label", "one class"]
    hazards += ["bytes", "only a header", "empty file", "nul file"]
    hazard = None if one.must else _hazard(one, draw, hazards)
    hazard, wrong_in = _mislabelled(one, draw, hazard, labels)
    ends = draw.choice(["\n", "\n", "\r\n", "\r", "mixed", "\r\r\n"])
    quoting = draw.choice(["all", "minimal", "minimal"])
    one.odd.append(f"line ends {ends!r}")
    for split, rows in one.rows.items():
        lines = [order] if header else []
        for row in rows:
            values = {columns[0]: row.text, columns[1]: row.gold} | ({columns[2]: row.pair} if with_pair else {})
            values["document"] = row.group
            lines.append([str(values.get(name, draw.choice(["", "7", "x y"]))) for name in order])
        place = None
        if split == wrong_in and hazard in ("more fields", "fewer fields", "empty text", "empty label", "blank text"):
            place = draw.randrange(1, len(lines)) if len(lines) > 1 else 0
            _spoil(lines, place, hazard, order.index(columns[hazard.endswith("label")]), draw)
        end = (lambda: draw.choice(["\n", "\r\n"])) if ends == "mixed" else (lambda: ends)
        text, line = "", 1
        for n, fields in enumerate(lines):
            if n and draw.random() < 0.05:
                text += end()
            if n == place:
                line = text.count("\n") + 1
            written = delimiter.join(fields if raw else [_field(value, delimiter, quoting, draw) for value in fields])
            text += written + (end() if n < len(lines) - 1 or draw.random() < 0.7 else "")
        if place is not None:
            exact = ends in ("\n", "\r\n", "mixed") and "\r" not in text.replace("\r\n", "")
            one.must[hazard or ""] = f"{_pattern(one.names[split])}:{line if exact else r'[0-9]+'}[^0-9]"
        one.files[one.names[split]] = _to_bytes(text, encoding)
    _spoil_file(one, draw, hazard, wrong_in, encoding)


def _field(value: str, delimiter: str, quoting: str, draw: random.Random) -> str:
    special = any(c in value for c in (delimiter, "\r", "\n")) or value.startswith('"')
    inner = '"' in value and draw.random() < 0.5  # a quote within a field that has none around it is a plain one
    if quoting == "all" or special or ('"' in value and not inner):
        return '"' + value.replace('"', '""') + '"'
    return value


def _spoil(lines: list[list[str]], place: int, hazard: str, column: int, draw: random.Random) -> None:
    if hazard == "more fields":
        lines[place] = [*lines[place], "more"]
    elif hazard == "fewer fields":
        lines[place] = lines[place][:-1]
    else:
        lines[place][column] = "" if hazard.startswith("empty") else draw.choice([" ", "  "])


def _spoil_file(one: Input, draw: random.Random, hazard: str | None, wrong_in: str, encoding: str) -> None:
    """Spoil the file of a split as a whole, and say how the refusal has to read."""
    name = one.names.get(wrong_in, "")
    if hazard == "bytes" and encoding in ("utf-8", "bom"):
        content = one.files[name].split(b"\n")
        place = draw.randrange(len(content))
        content[place] += b"\xe9\xff"
        one.files[name] = b"\n".join(content)
        line = place + 1 if place else content[0].count(b"\r") + 1  # where only carriage returns end lines
        one.must[hazard] = f"{_pattern(name)}:({place + 1}|{line})[^0-9]"
    elif hazard in ("empty file", "only a header"):
        lines = one.files[name].splitlines(keepends=True)
        one.files[name] = b"" if hazard == "empty file" or "data.format.header=false" in one.overrides else lines[0]
        one.must[hazard] = _pattern(name)
        if one.kind == "json_lines" or one.kind == "columns":
            one.files[name] = b""
    elif hazard == "nul file":
        one.files[name] = b"\x00" * 64
        one.must[hazard] = _pattern(name)
    elif hazard == "unknown label":
        one.must[hazard] = f"{_pattern(name)}.*never seen|never seen.*{_pattern(name)}"
    elif hazard == "one class":
        one.must[hazard] = "class|label"


def _pattern(name: str) -> str:
    return re.escape(name)


def _all(one: Input) -> list[Example]:
    return [row for rows in one.rows.values() for row in rows]


def _json_lines(one: Input, draw: random.Random) -> None:
    with_pair = draw.random() < 0.2
    surrogates = draw.random() < 0.08
    labels = _texts(one, draw, lambda text: text, with_pair)
    _names(one, draw, draw.choice([".jsonl", ".json", ".jl"]))
    keys = draw.choice(
        [("text", "label", "other"), ("text", "label", "other"), ("my text", "a=b", "c.d"), ("Σ", "{", "'")]
    )
    for key, name, default in zip(("text", "label", "pair"), keys, ("text", "label", ""), strict=True):
        if name != default and (key != "pair" or with_pair):
            one.overrides.append(f"data.format.{key}={quoted(name)}")
    if "groups" in one.odd:
        one.overrides.append("data.format.group=document")
    hazards = ["not JSON", "an array", "float label", "null label", "list label", "no text", "empty text", "bytes"]
    hazards += ["unknown label", "one class", "empty file", "number as text"]
    hazard = _hazard(one, draw, hazards)
    hazard, wrong_in = _mislabelled(one, draw, hazard, labels)
    ends = draw.choice(["\n", "\n", "\n", "\r\n", "mixed"])
    bom = "bom" if draw.random() < 0.1 else "utf-8"
    escape = draw.random() < 0.5
    for split, rows in one.rows.items():
        lines = []
        for row in rows:
            if surrogates and draw.random() < 0.3:
                at = draw.randint(0, len(row.text))
                lone = draw.choice(["\ud83d", "\udc00", "\udfff\ud800"])
                row.text = row.text[:at] + lone + row.text[at:]  # type: ignore[operator]  # a text, not words
            label: Any = row.gold
            if label in ("true", "false"):
                label = draw.choice([label, label == "true"])
            elif str(label).isdecimal() and str(label).isascii() and str(int(str(label))) == label:
                label = draw.choice([label, int(str(label))])
            one_object: dict[str, Any] = {keys[0]: row.text, keys[1]: label}
            if with_pair:
                one_object[keys[2]] = row.pair
            if row.group is not None:
                one_object["document"] = row.group
            if draw.random() < 0.3:
                one_object |= {"id": 7, "meta": {"text": None}}
            items = list(one_object.items())
            draw.shuffle(items)
            ascii_only = escape or surrogates
            lines.append(json.dumps(dict(items), ensure_ascii=ascii_only))
            row.text = _mended(row.text)  # type: ignore[arg-type]
        place = draw.randrange(len(lines))
        if split == wrong_in and hazard in [*hazards[:7], "number as text"]:
            good = json.loads(lines[place])
            lines[place] = {
                "not JSON": lines[place][:-1] + draw.choice(["", ",}", "}}"]),
                "an array": json.dumps(list(good.values())),
                "float label": json.dumps(good | {keys[1]: 1.5}),
                "null label": json.dumps(good | {keys[1]: None}),
                "list label": json.dumps(good | {keys[1]: ["a"]}),
                "no text": json.dumps({key: value for key, value in good.items() if key != keys[0]}),
                "empty text": json.dumps(good | {keys[0]: draw.choice(["", "  ", "\n"])}),
                "number as text": json.dumps(good | {keys[0]: 17}),
            }[hazard or ""]
        else:
            place = -1
        text = ""
        for n, line in enumerate(lines):
            if draw.random() < 0.05:
                text += draw.choice(["\n", "  \n"])
            if n == place:
                one.must[hazard or ""] = f"{_pattern(one.names[split])}:{text.count(chr(10)) + 1}[^0-9]"
            end = draw.choice(["\n", "\r\n"]) if ends == "mixed" else ends
            text += line + (end if n < len(lines) - 1 or draw.random() < 0.7 else "")
        one.files[one.names[split]] = _to_bytes(text, bom)
    if surrogates:
        one.odd.append("lone surrogates")
        one.may["lone surrogates"] = ":[0-9]+: "
    _spoil_file(one, draw, hazard, wrong_in, bom)


def _mended(text: str) -> str:
    """Return `text` with U+FFFD for each lone surrogate."""
    return "".join("\ufffd" if unicodedata.category(c) == "Cs" else c for c in text)


def _folders(one: Input, draw: random.Random) -> None:
    encoding, holds = _encoded(one, draw, ["utf-8"] * 6 + ["bom", "latin-1"])

    def taken(text: str) -> str:
        return holds(text).strip()

    labels = _texts(one, draw, taken, False)
    safe = {label: _folder_name(label) for label in labels}
    safe = {
        label: name if list(safe.values()).count(name) == 1 else f"{name[:40]}~{n}"
        for n, (label, name) in enumerate(safe.items())
    }
    for row in _all(one):
        row.gold = safe[str(row.gold)]
    one.settings["labels"] = list(safe.values())
    _names(one, draw, "", folders=True)
    hazard = _hazard(one, draw, ["empty text", "bytes", "one class", "unknown label", "no file"])
    wrong_in = draw.choice(list(one.rows))
    if hazard == "one class":
        for row in _all(one):
            row.gold = safe[labels[0]]
    if hazard == "unknown label":
        wrong_in = next((split for split in one.rows if split != "train"), "")
        if wrong_in:
            draw.choice(one.rows[wrong_in]).gold = "never seen"
            one.must[hazard] = "never seen"
    alone = list(one.rows) == ["train"] and draw.random() < 0.5
    if alone:
        one.names["train"] = "."
        one.odd.append("one folder of folders")
    for split, rows in one.rows.items():
        for n, row in enumerate(rows):
            content = _to_bytes(str(row.text), encoding)
            if draw.random() < 0.3:
                content += draw.choice([b"\n", b"\r\n", b" \n\n"]) if encoding != "utf-16" else b""
            name = f"{one.names[split]}/{row.gold}/{n:03}{draw.choice(['', ' é', '.a', '=b'])}.txt"
            if n == 0 and split == wrong_in:
                if hazard == "empty text":
                    content = draw.choice([b"", b" \n"])
                    one.must[hazard] = _pattern(name.rpartition("/")[2])
                if hazard == "bytes" and encoding in ("utf-8", "bom"):
                    content += b"\n\xe9\xff"
                    one.must[hazard] = _pattern(name.rpartition("/")[2])
            one.files[name] = content
        if draw.random() < 0.3:
            one.files[f"{one.names[split]}/{rows[0].gold}/.hidden.txt"] = b"hidden"
            one.files[f"{one.names[split]}/{rows[0].gold}/notes.md"] = b"no text"
            one.odd.append("hidden and other files")
    if hazard == "no file":
        one.files = {name.replace(".txt", ".dat"): content for name, content in one.files.items()}
        one.must[hazard] = "suffix"
    if hazard == "one class":
        one.must[hazard] = "class|label"
    if encoding == "latin-1":
        one.overrides.append("data.format.encodings=[latin-1]")
    if any(str(row.gold).lower() in ("train", "test", "dev", "val", "valid", "validation") for row in _all(one)):
        one.may["a class is called after a split"] = "folder"


def _folder_name(label: str) -> str:
    name = "".join(c for c in label if c not in "/\x00").strip()
    while len(name.encode()) > 120:
        name = name[:-1]
    return name.lstrip(".") or "dot"


# Columns -------------------------------------------------------------------------------------------------------------

_LETTERS = {  # of the first, middle and last word of an entity, and of its only one
    "bio": "BIIB",
    "iob1": "IIII",
    "bioes": "BIES",
    "bilou": "BILU",
    "bmes": "BMES",
    "bmewo": "BMEW",
    "ioe2": "IIEE",
}


def _columns(one: Input, draw: random.Random) -> None:
    scheme = draw.choices(list(_LETTERS), [6, 4, 4, 3, 2, 2, 1])[0]
    style, types = draw_labels(draw, one.kind)
    types = list(dict.fromkeys("".join(each.split()) for each in types if "".join(each.split())))[:12] or ["PER"]
    one.odd += [f"types: {style}", scheme]
    one.settings["labels"] = types
    if "O" in types:
        one.may["a type that is called as what is outside entities"] = "no entity type"
    spaced = draw.random() < 0.12  # words hold spaces, and tabs part the columns
    counts = {"train": draw.randint(6, 14), "validation": draw.randint(2, 5), "test": draw.randint(2, 5)}
    if draw.random() < 0.25:
        for split in draw.sample(["validation", "test"], draw.choice([1, 2])):
            one.settings.setdefault("shares", {})[split] = 0.3
            one.overrides.append(f"data.splits.{split}=0.3")
        counts["train"] += 14
        one.may["held out: none may be left"] = "empty split"
    sentences: dict[str, list[tuple[list[str], list[tuple[str, int, int]]]]] = {}
    for split in SPLITS:
        if split not in one.settings.get("shares", {}):
            sentences[split] = [_sentence(draw, types, spaced) for _ in range(counts[split])]
    sentences["train"] += [(["new", "york", "."], [(type_, 0, 2)]) for type_ in types]  # every type is in it
    if draw.random() < 0.15:
        sentences["train"].append(sentences["train"][0])
        one.odd.append("duplicates")
    one.rows = {
        split: [Example(words, _tags(len(words), spans, "BIIB")) for words, spans in members]
        for split, members in sentences.items()
    }
    _names(one, draw, draw.choice([".txt", ".conll", ".bio"]))
    if draw.random() < 0.4 and scheme in ("bio", "iob1", "bioes", "bilou"):
        one.overrides.append(f"data.format.scheme={'bioes' if scheme == 'bilou' else scheme}")
        one.settings["scheme told"] = True
    if scheme in ("bmes", "bmewo"):
        one.odd.append("letters M and W")
    if scheme == "ioe2":
        one.may["IOE2"] = "scheme"
    repair = draw.random() < 0.15 and scheme != "iob1"
    if repair:
        one.overrides.append("data.format.invalid_tags=repair")
        one.odd.append("repair")

    width = draw.choice([2, 2, 2, 3, 4])
    word_at, tag_at = draw.choice([(0, width - 1), (0, width - 1), (0, 1), (width - 1, 0)])
    if (word_at, tag_at) != (0, width - 1):
        one.overrides += [f"data.format.word_column={word_at}", f"data.format.tag_column={tag_at}"]
    separator = "\t" if spaced else draw.choice([" ", " ", "\t", "  "])
    if spaced:
        as_word = "tab: exactly tabs" in (CONF / "data" / "files.yaml").read_text()
        spellings = ["tab" if as_word else '"\\t"', "'\\t'", "'\t'"]
        one.overrides.append(f"data.format.separator={draw.choice(spellings)}")
        one.odd.append("words with spaces")
    hazards = [
        "ragged",
        "no tag",
        "lower case",
        "impossible",
        "unknown type",
        "only O",
        "bytes",
        "empty file",
        "nul file",
    ]
    hazard = _hazard(one, draw, hazards)
    wrong_in = draw.choice(list(one.rows))
    if hazard == "unknown type" and (wrong_in := next((split for split in one.rows if split != "train"), "")):
        words = sentences[wrong_in][0][0]
        sentences[wrong_in][0] = (words, [("NEVERSEEN", 0, 1)])
        one.must[hazard] = f"{_pattern(one.names[wrong_in])}:[0-9]+.*NEVERSEEN"
    if hazard == "only O":
        sentences["train"] = [(words, []) for words, _ in sentences["train"]]
        one.must[hazard] = "entity|tag"
    ends = draw.choice(["\n", "\n", "\n", "\r\n", "mixed", "\r"])
    one.odd.append(f"line ends {ends!r}")
    if ends == "\r":
        one.may["lines that only a carriage return ends"] = ""
    docstart, comments, blanks = (draw.random() < chance for chance in (0.3, 0.2, 0.3))
    bom = "bom" if draw.random() < 0.1 else "utf-8"
    for split, members in sentences.items():
        lines: list[str] = []
        place = None
        for n, (words, spans) in enumerate(members):
            if docstart and draw.random() < 0.3:
                lines += [draw.choice(["-DOCSTART- -X- O O", "-DOCSTART-\tO", "-DOCSTART-", "-DOCSTART- (7)"]), ""]
            if comments and draw.random() < 0.4:
                lines.append(draw.choice(["# sent_id = a 4 and more", "#", "# text = New York is"]))
            tags = _tags(len(words), spans, _LETTERS[scheme])
            for position, (word, tag) in enumerate(zip(words, tags, strict=True)):
                fields = [draw.choice(["NN", "_", "-", "O"]) for _ in range(width)]
                fields[word_at], fields[tag_at] = word, tag
                if split == wrong_in and n == len(members) // 2 and position == 0:
                    place = len(lines)
                    fields[word_at] = "spoilt" if hazard else word  # none that begins a comment
                    fields = _spoilt(fields, hazard, tag_at, scheme, draw)
                lines.append(separator.join(fields) + (" " if not spaced and draw.random() < 0.02 else ""))
            lines.append("")
            if blanks and draw.random() < 0.3:
                lines.append(draw.choice(["", " ", "\t", "  \t"]))
        while lines and not lines[-1].strip(" \t") and draw.random() < 0.5:
            lines.pop()
        end = (lambda: draw.choice(["\n", "\r\n"])) if ends == "mixed" else (lambda: ends)
        one.files[one.names[split]] = _to_bytes("".join(line + end() for line in lines), bom)
        if place is not None and hazard in ("ragged", "no tag", "lower case", "impossible"):
            # an impossible tag may be blamed on the neighbour that it cannot stand beside
            line = f"{place + 1}[^0-9]" if hazard != "impossible" else "[0-9]+"
            one.must[hazard] = f"{_pattern(one.names[split])}:{line}" if ends != "\r" else ""
    if hazard == "impossible" and (repair or not one.settings.get("scheme told")):
        one.must.pop("impossible", None)
        one.may["an impossible tag, which another scheme or the repair may allow"] = ":[0-9]+: "
        one.settings["golds unknown"] = True
    _spoil_file(one, draw, hazard if hazard in ("bytes", "empty file", "nul file") else None, wrong_in, bom)


def _sentence(draw: random.Random, types: Sequence[str], spaced: bool) -> tuple[list[str], list[tuple[str, int, int]]]:
    words = [draw_word(draw) for _ in range(draw.choice([1, 2, 3, 5, 8, 12] + [150] * (draw.random() < 0.05)))]
    if spaced:
        words = [f"{word} {draw_word(draw)}" if draw.random() < 0.3 else word for word in words]
    spans, at = [], 0
    while at < len(words):
        if draw.random() < 0.35:
            end = min(len(words), at + draw.choice([1, 1, 2, 3, 4]))
            spans.append((draw.choice(types), at, end))
            at = end
        else:
            at += 1
    return words, spans


def _tags(length: int, spans: Sequence[tuple[str, int, int]], letters: str) -> list[str]:
    """Return the tags of `spans`; `letters` are those of the first, middle and last word of an entity, and its only."""
    tags = ["O"] * length
    before = ("", -1)
    for type_, start, end in spans:
        for at in range(start, end):
            letter = letters[3 if end == start + 1 else 0 if at == start else 2 if at == end - 1 else 1]
            if letters == "IIII" and at == start and before == (type_, start):
                letter = "B"
            tags[at] = f"{letter}-{type_}"
        before = (type_, end)
    return tags


def _spoilt(fields: list[str], hazard: str | None, tag_at: int, scheme: str, draw: random.Random) -> list[str]:
    if hazard == "ragged":
        return [*fields, "x", "y"]
    if hazard == "no tag":
        fields[tag_at] = draw.choice(["PER", "X-PER", "B-", "-", "BPER"])
    if hazard == "lower case":
        fields[tag_at] = "b-PER"
    if hazard == "impossible":  # in the first place of a sentence
        fields[tag_at] = {"bio": "I-PER", "iob1": "B-PER", "ioe2": "B-PER"}.get(scheme, "I-PER")
    return fields


_WRITERS: dict[str, Callable[[Input, random.Random], None]] = {
    "csv": _delimited,
    "tsv": _delimited,
    "json_lines": _json_lines,
    "folders": _folders,
    "columns": _columns,
}


# Options -------------------------------------------------------------------------------------------------------------

METHODS = [
    "lora",
    "lora",
    "lora peft.r=2 peft.use_dora=true",
    "bitfit",
    "head",
    "ia3",
    "full",
    "pfeiffer",
    "prefix_tuning",
]
NOT_MERGED = ("pfeiffer", "prefix_tuning")


def _options(one: Input, draw: random.Random) -> None:
    method = draw.choice(METHODS)
    one.settings["method"] = method.split()[0]
    one.overrides += [f"peft={method.split()[0]}", *method.split()[1:]]
    virtual = 0
    if method == "prefix_tuning":
        virtual = 4
        one.overrides.append("peft.num_virtual_tokens=4")
    one.settings["max_tokens"] = draw.choice([6, 12, 24, 48, 64 - virtual])
    one.overrides.append(f"data.max_tokens={one.settings['max_tokens']}")
    one.overrides.append(f"data.batch_size={draw.choice([1, 2, 4, 7])}")
    one.overrides.append(f"data.eval_batch_size={draw.choice([1, 3, 8, 64])}")
    if draw.random() < 0.15:
        one.overrides.append(f"data.batch_tokens={draw.choice([16, 64, 200])}")
        one.odd.append("batch_tokens")
    if draw.random() < 0.25:
        one.overrides.append(f"trainer.accumulate={draw.choice([2, 3])}")
        one.odd.append("accumulate")
    if draw.random() < 0.25:
        one.overrides.append("task.label_smoothing=0.1")
    if draw.random() < 0.2 and "class_weights" in (CONF / "task" / f"{one.task}.yaml").read_text():
        one.overrides.append("task.class_weights=balanced")
    if draw.random() < 0.2:
        one.overrides.append("data.duplicates=drop")
        one.settings["drop"] = True
        one.may["nothing may be left"] = "empty split|label|entity"
        if pattern := one.must.pop("unknown label", None):
            one.may["unknown label, which may be of a text that is there twice"] = pattern
    if one.task == "ner" and draw.random() < 0.3:
        one.overrides.append("data.long=truncate")
        one.settings["truncate"] = True
    if draw.random() < 0.3:
        metrics = {
            "ner": ["entity_f1", "entity_precision", "entity_recall", "entity_f1_macro"],
            "classification": ["macro_f1", "accuracy", "micro_f1", "weighted_f1", "macro_precision", "macro_recall"],
        }[one.task]
        one.overrides.append(f"task.selection.metric={draw.choice(metrics)}")
    if draw.random() < 0.1:
        one.overrides.append("trainer.precision=bf16-mixed")
        one.settings["bf16"] = True
    if draw.random() < 0.25:
        name = draw.choice(
            [
                "my run",
                "客户反馈",
                "a:b",
                "password: x",
                "x" * 80,
                "é" * 130,
                "client's",
                "100%",
                "v=2",
                "-m",
                " ",
                "",
                ".",
                "a/b",
            ]
        )
        one.overrides.append(f"name={quoted(name)}")
        one.odd.append("name")
        if len(name.encode()) > 255 or name in (" ", "", ".", "a/b"):
            one.may["a name that is no folder's"] = "name"
    if draw.random() < 0.15:
        name = draw.choice(["客户反馈 2026", "a=b", "token=v2ready", "x" * 69])
        one.overrides.append(f"data.name={quoted(name)}")
    one.overrides.append(f"seed={draw.choice([0, 1, 17, 2**31 - 1])}")
    one.settings["export"] = draw.random() < 0.4
    one.settings["new data"] = draw.random() < 0.5
    one.settings["command"] = draw.random() < 0.3
    one.settings["again"] = draw.random() < 0.08
    simple = all(re.fullmatch("[A-Za-z ]+", label) for label in one.settings.get("labels", ["?"]))
    mergeable = one.settings["method"] in ("lora", "bitfit", "head", "full")
    one.settings["permuted"] = simple and mergeable and not one.settings.get("drop") and draw.random() < 0.5


def _texts_to_predict(one: Input, draw: random.Random) -> None:
    texts: list[Any] = [draw_text(draw) for _ in range(draw.randint(2, 5))]
    texts += draw.sample(["", " ", "\u200b", "a", "\u0301", "か\u3099", "👩\u200d👧", "\n\n", "[SEP] [CLS]"], 2)
    if draw.random() < 0.2:
        texts.append(" ".join(plain_text(draw) for _ in range(draw.choice([30, 300]))))
    if draw.random() < 0.1:
        texts.append("cut \ud83d off")
        one.odd.append("a lone surrogate to predict")
    if one.settings.get("pairs"):
        given = [{"text": text, "text_pair": draw_text(draw)} for text in texts]
        one.wrong_texts = [draw_text(draw), {"text": "a cat"}]
    else:
        others: list[dict[str, Any]] = [{}, {}, {}, {"id": 7, "m\u00e9ta": [None]}, {"predicted": "own"}]
        given = [{"text": text, **other} if other else text for text in texts for other in [draw.choice(others)]]
        if one.task == "classification":
            one.wrong_texts = [{"text": "a cat", "text_pair": "a dog"}]
    if one.task == "ner":
        given += [[draw_word(draw) for _ in range(4)], ["New", "\u200b", "York"], {"words": ["a"], "id": "x"}]
        one.wrong_texts = [{"txt": "a"}, {"words": "a b"}, {"text": 7}]
    one.texts = given
    lines = [
        text
        for text in texts
        if not text.startswith("\ufeff") and "\n" not in text and "\r" not in text and "\ud83d" not in text
    ]
    one.settings["lines"] = lines
    one.stdin = (codecs.BOM_UTF8 if draw.random() < 0.3 else b"") + b"".join(
        line.encode() + draw.choice([b"\n", b"\r\n"]) for line in lines
    )
    if draw.random() < 0.15:
        one.stdin += b"Oslo \xe9\n"
        one.settings["stdin is not UTF-8"] = True
