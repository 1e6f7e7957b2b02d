"""Hostile data: files that are no files, no text, too deep, too long, or not of the format that their name says."""

from __future__ import annotations

import codecs
import json
import os
import random
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

from jail import Jail
from tiny import overrides

FORMATS = {"files": "txt", "csv": "csv", "json_lines": "jsonl", "folders": ""}
WORDS = [
    "paris",
    "rome",
    "ada",
    "moved",
    "x",
    "é",
    "\u202e",
    "\u200b",
    "\x00",
    "\ufffd",
    "a\tb",
    '"',
    "'",
    "\\",
    "🙂",
    "\r",
]


def case(draw: random.Random, jail: Jail) -> str:
    """Try one; return what it is."""
    if draw.random() < 0.25:
        return _of_a_use(draw, jail)
    option = draw.choice([*FORMATS, "files", "csv", "json_lines"])
    folder = jail.here / "data"
    labels = draw.choice([["pos", "neg"], ["a", "b", "c"], ["Ä", "0"], ["x y", "-rf"], ["a", "\u202e"]])
    what = []
    for name in ("train", "dev", "test"):
        path = folder / (f"{name}.{FORMATS[option]}" if FORMATS[option] else name)
        if option == "folders":
            _folders(draw, path, labels)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(_content(draw, option, labels))
    names = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in draw.sample(names, min(len(names), draw.choice([1, 1, 2]))):
        spoil = draw.choice(SPOILS)
        spoil(draw, path, jail)
        what.append(f"{spoil.__name__}({path.relative_to(folder)})")
    if draw.random() < 0.1:
        Path(os.fsdecode(bytes(folder) + b"/\xff\xfe.txt")).write_text("x B-LOC\n")
    given = [
        f"task={'ner' if option == 'files' else 'classification'}",
        f"data={option}",
        *_options(draw, option, jail),
    ]
    fixed = overrides(jail.base / "model", folder, "budget.max_steps=2")
    fixed = [one for one in fixed if not one.startswith(("data=", "budget.max_steps=24"))]
    jail.train(*fixed, *given)
    return f"{option}: {' '.join(given)}: {', '.join(what)}"


def _of_a_use(draw: random.Random, jail: Jail) -> str:
    """Try a file that a finished run is to predict, or to be scored on."""
    use, option = draw.choice([("--file", "txt"), ("--jsonl", "json_lines"), ("--data", "files")])
    path = jail.here / "input.txt"
    path.write_bytes(
        "\n".join(_line(draw) for _ in range(5)).encode() if use == "--file" else _content(draw, option, ["a", "b"])
    )
    spoil = draw.choice(SPOILS)
    spoil(draw, path, jail)
    run = str(jail.base / "run0")
    jail.peftlab("evaluate" if use == "--data" else "predict", run, use, str(path), *draw.choice([[], ["--json"]]))
    return f"{use}: {spoil.__name__}"


def _options(draw: random.Random, option: str, jail: Jail) -> list[str]:
    if draw.random() < 0.6:
        return []
    odd = [
        "**",
        "../*",
        "[",
        "",
        "/",
        "\\\\",
        "*" * 60,
        "a" * 3000,
        "?",
        "\x00",
        "-1",
        "99999999999",
        "null",
        "{}",
        "[]",
    ]
    keys = {
        "files": ["word_column", "tag_column", "separator", "scheme", "invalid_tags"],
        "csv": ["text", "label", "delimiter", "pair", "group", "encodings"],
        "json_lines": ["text", "label", "pair", "group"],
        "folders": ["suffix", "suffix", "encodings"],
    }
    where = [f"data.format.{draw.choice(keys[option])}", f"data.splits.{draw.choice(['train', 'validation', 'test'])}"]
    where += ["data.path", "data.labels", "data.max_tokens", "data.batch_size", "data.eval_batch_size", "data.workers"]
    where += ["data.bucket_batches", "data.batch_tokens", "budget.train_examples", "data.duplicates"]
    value = draw.choice([*odd, "../elsewhere", str(jail.elsewhere / "notes.txt"), "/dev/stdin", "/proc/self/environ"])
    key = draw.choice(where)
    if key == "data.workers":  # a process each
        value = draw.choice(["-1", "1.5", "x"])
    return [f"{key}='{value}'"] if draw.random() < 0.5 else [f"{key}={json.dumps(value)}"]


# Content -------------------------------------------------------------------------------------------------------------


def _line(draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS[:6] if draw.random() < 0.99 else WORDS) for _ in range(draw.randint(1, 8)))


def _content(draw: random.Random, option: str, labels: list[str]) -> bytes:
    lines = []
    for n in range(12):
        text, label = _line(draw), labels[n % len(labels)]
        if option == "files":
            lines += [f"{word} {draw.choice(['O', 'B-LOC', 'B-PER'])}" for word in text.split()] + [""]
        elif option == "csv":
            lines.append(f'"{text.replace(chr(34), chr(34) * 2)}",{label}')
        elif option == "json_lines":
            lines.append(json.dumps({"text": text, "label": label}))
    return "\n".join([*(["text,label"] if option == "csv" else []), *lines, ""]).encode()


def _folders(draw: random.Random, path: Path, labels: list[str]) -> None:
    for label in labels:
        (path / label).mkdir(parents=True)
        for n in range(4):
            (path / label / f"{n}.txt").write_bytes(_line(draw).encode())


# What is done to a file ----------------------------------------------------------------------------------------------


def encoding(draw: random.Random, path: Path, jail: Jail) -> None:
    """Write it in another encoding, or several."""
    name = draw.choice(
        ["utf-16", "utf-32-be", "utf-7", "cp037", "shift_jis", "iso2022_jp", "utf-8-sig", "cp1252", "koi8-r"]
    )
    before = path.read_bytes()
    cut = draw.choice([0, len(before) // 2])
    path.write_bytes(before[:cut] + before[cut:].decode(errors="replace").encode(name, errors="replace"))


def bytes_of_noise(draw: random.Random, path: Path, jail: Jail) -> None:
    """Put random bytes into it, or in its place."""
    before, at = path.read_bytes(), draw.randrange(path.stat().st_size + 1)
    noise = draw.randbytes(draw.choice([1, 3, 100, 100_000]))
    path.write_bytes(draw.choice([noise, before[:at] + noise + before[at:], before[:at]]))


def control(draw: random.Random, path: Path, jail: Jail) -> None:
    """Put control characters into it."""
    before, at = path.read_bytes(), draw.randrange(path.stat().st_size + 1)
    signs = [b"\0" * 4096, b"\0", b"\x1a", b"\x0c", b"\r", b"\x85", "\u2028".encode(), b"\x1b[2J", codecs.BOM_UTF16_LE]
    path.write_bytes(before[:at] + draw.choice(signs) + before[at:])


def surrogates(draw: random.Random, path: Path, jail: Jail) -> None:
    """Put halves of characters into it."""
    before, at = path.read_bytes(), draw.randrange(path.stat().st_size + 1)
    path.write_bytes(
        before[:at] + draw.choice([b"\xed\xa0\xbd", b"\xff", b"\\ud83d", b"\xf4\x90\x80\x80"]) + before[at:]
    )


def huge_line(draw: random.Random, path: Path, jail: Jail) -> None:
    """Add a line of a megabyte or two."""
    piece = draw.choice([b"x", b"x ", b'"', b",", b"\t", b"[", b"a B-LOC ", b'{"a":'])
    before = path.read_bytes()
    path.write_bytes(draw.choice([before, b""]) + piece * (draw.choice([10**5, 2 * 10**6]) // len(piece)) + b"\n")


def many_lines(draw: random.Random, path: Path, jail: Jail) -> None:
    """Make it long, of nothing."""
    path.write_bytes(draw.choice([b"\n", b"\r", b" \n", b"-DOCSTART- O\n", b",\n", b"{}\n"]) * 200_000)


def deep(draw: random.Random, path: Path, jail: Jail) -> None:
    """Nest JSON."""
    depth = draw.choice([500, 5000, 10**5])
    one = draw.choice(["[" * depth + "]" * depth, '{"text":' * depth, '{"text": ' + "[" * depth + "]" * depth + "}"])
    lines = path.read_bytes().splitlines()
    at = draw.randrange(len(lines) + 1)
    path.write_bytes(b"\n".join([*lines[:at], one.encode(), *lines[at:]]))


def other_json(draw: random.Random, path: Path, jail: Jail) -> None:
    """Put JSON of another shape into a line."""
    one = draw.choice(
        [
            *("[]", '"x"', "null", "1e999", '{"text": null, "label": "a"}', '{"text": {"a": 1}, "label": "a"}', "NaN"),
            *(
                '{"text": "x", "label": [1]}',
                '{"text": "x", "label": 1e999}',
                '{"text": "x", "text": "y", "label": "a"}',
            ),
            *(
                '{"text": "x", "label": NaN}',
                '{"text": "x", "label": ' + "9" * 5000 + "}",
                '{"": "", "label": "a"}',
                "{",
            ),
            *('{"words": ["a", 1, null]}', '{"words": []}', '{"text": "x", "label": true}', '{"text": ["x"]}', "//"),
        ]
    )
    path.write_bytes(path.read_bytes() + one.encode() + b"\n")


def other_tags(draw: random.Random, path: Path, jail: Jail) -> None:
    """Put tags and columns into it that are none."""
    tags = [
        "B-",
        "-",
        "B",
        "B-LOC-",
        "I-\u202e",
        "B-\x00",
        "X-LOC",
        "__",
        "O O O",
        "B-" + "x" * 3000,
        "B-LOC\u200b",
        "S-LOC",
    ]
    path.write_bytes(path.read_bytes() + f"x {draw.choice(tags)}\n\n".encode())


def pipe(draw: random.Random, path: Path, jail: Jail) -> None:
    """Make it a named pipe."""
    path.unlink()
    os.mkfifo(path)


def plug(draw: random.Random, path: Path, jail: Jail) -> None:
    """Make it a socket."""
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(here)


def link(draw: random.Random, path: Path, jail: Jail) -> None:
    """Make it a link: to nothing, itself, a device, a folder, a file elsewhere."""
    path.unlink()
    targets = ["nothing", path.name, "/dev/zero", "/dev/null", "/dev/full", "/dev/tty", ".", "/", "/proc/self/mem"]
    path.symlink_to(draw.choice([*targets, "/proc/kmsg", "/dev/stdin", str(jail.elsewhere / "notes.txt")]))


def folder(draw: random.Random, path: Path, jail: Jail) -> None:
    """Make it a folder."""
    path.unlink()
    path.mkdir()
    if draw.random() < 0.5:
        (path / "x.txt").write_text("x\n")


def packed(draw: random.Random, path: Path, jail: Jail) -> None:
    """Make it an archive, a pickle, or something else with a magic number."""
    if draw.random() < 0.4:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("../../elsewhere/x.txt", "x" * 10**6)
        return
    magic = [
        b"\x1f\x8b\x08",
        b"BZh9",
        b"\xfd7zXZ\x00",
        b"PAR1",
        b"\x80\x04cos\nsystem\n(S'touch x'\ntR.",
        b"%PDF-1.7",
        b"\x7fELF",
    ]
    path.write_bytes(draw.choice(magic) + draw.randbytes(300))


def closed(draw: random.Random, path: Path, jail: Jail) -> None:
    """Take its content or its rights away."""
    draw.choice([lambda: path.write_bytes(b""), lambda: path.chmod(0), path.unlink])()


def long_name(draw: random.Random, path: Path, jail: Jail) -> None:
    """Give it another name: odd, or with the sign of a split twice."""
    name = draw.choice(
        ["train dev test.txt", "\u202etrain.txt", "train\n.txt", "-train.txt", "a" * 240 + ".txt", "{train}.txt"]
    )
    path.rename(path.with_name(name))


def formula(draw: random.Random, path: Path, jail: Jail) -> None:
    """Put rows into it that spreadsheets and templates would run."""
    rows = [
        f"=cmd|'/C touch {jail.canary}/x'!A0,a",
        "{{7*7}},a",
        "${oc.env:HOME},a",
        "!!python/name:os.system,a",
        "%(x)s,a",
    ]
    path.write_bytes(path.read_bytes() + draw.choice(rows).encode() + b"\n")


SPOILS: list[Callable[[random.Random, Path, Jail], None]] = [
    *(encoding, bytes_of_noise, control, surrogates, huge_line, many_lines, deep, other_json, other_tags, pipe, plug),
    *(link, link, folder, packed, closed, long_name, formula),
]
