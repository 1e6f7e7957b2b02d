"""Hostile archives: a good one in which names, sizes, bytes, manifest, signature or the run are not what they were.

`verify` has to tell of whatever was done behind the manifest's back, `reproduce --check-only` of what contradicts the
record of the run, whether the manifest was made to fit or not; and nothing may be written outside.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_runs import CONTRADICTIONS, ODD
from jail import Jail

Members = list[tuple[zipfile.ZipInfo, bytes]]

MANIFEST, SIGNATURE = "manifest.json", "manifest.json.sig"


def case(draw: random.Random, jail: Jail) -> str:
    """Try one; return what it is."""
    from peftlab.report.archive import write

    run = Path(shutil.copytree(jail.base / "run0", jail.here / "made" / "run"))
    change = draw.choice(WAYS)
    told = "" if change is not contradiction else contradiction(draw, run, jail)
    write([run], jail.here / "a.zip", weights=draw.random() < 0.5)
    shutil.rmtree(jail.here / "made")
    if change is not contradiction:
        told = change(draw, jail.here / "a.zip", jail)
    what = f"{change.__name__} {told}"
    verified = jail.peftlab("verify", "a.zip", *draw.choice([[], ["--json"]]))
    if verified.done and change in BEHIND_THE_MANIFEST:
        jail.fault("tampered record accepted", f"verify: {what}: {verified.said[:200]}")
    uses = [
        lambda: jail.peftlab("reproduce", "--check-only", draw.choice(["a.zip", "a.zip:run"])),
        lambda: jail.peftlab("card", "a.zip"),
        lambda: jail.peftlab("report", "a.zip", "--out", "out/report"),
    ]
    if change is contradiction:
        checked = uses[0]()
        if checked.done:
            jail.fault("tampered record accepted", f"{what}: {checked.said[:200]}")
    else:
        draw.choice(uses)()
    return what


def contradiction(draw: random.Random, run: Path, jail: Jail) -> str:
    """Have the run contradict its record before it is archived."""
    way = draw.choice(CONTRADICTIONS)
    return f"{way.__name__} {way(draw, run, jail) or ''}"


def _read(archive: Path) -> Members:
    with zipfile.ZipFile(archive) as opened:
        return [(info, opened.read(info)) for info in opened.infolist()]


def _write(archive: Path, members: Members, fit: bool = False) -> None:
    """Write `members`, and have the manifest fit them if it shall."""
    if fit:
        files = [
            {"path": info.filename, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for info, content in members
            if info.filename not in (MANIFEST, SIGNATURE)
        ]
        old = next(json.loads(content) for info, content in members if info.filename == MANIFEST)
        document = json.dumps(old | {"files": files}, ensure_ascii=True).encode()
        members = [(info, document if info.filename == MANIFEST else content) for info, content in members]
    with warnings.catch_warnings(), zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        warnings.simplefilter("ignore")  # the same name twice
        for info, content in members:
            opened.writestr(info, content)


def names(draw: random.Random, archive: Path, jail: Jail) -> str:
    """Add a member whose name leads elsewhere, or is no name; the manifest lists it."""
    name = draw.choice(
        [
            *("../up.json", "../../home/.bashrc", "/etc/evil", str(jail.elsewhere / "notes.txt"), "~/.bashrc"),
            *("run/../../x", "C:\\x", "run\\..\\..\\x", "run/record.json/x", "run/./config.yaml", "run//x", "RUN/x"),
            *("run/CONFIG.yaml", "x" * 300, "/".join(["y" * 100] * 50), "run/a\x1b[2Jb", "run/\u202e", "a:b", "."),
            *("", "manifest.json/x", "run/e\u0301", "run/\u00e9", "con", "run/tracking/x", "run/.lock"),
        ]
    )
    info = zipfile.ZipInfo("x")
    info.filename = name
    _write(archive, [*_read(archive), (info, b"evil")], fit=True)
    return repr(name)[:60]


def kinds(draw: random.Random, archive: Path, jail: Jail) -> str:
    """Make a member a link, a device or a pipe; the manifest lists it."""
    members = _read(archive)
    kind = draw.choice([stat.S_IFLNK, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR, stat.S_IFSOCK])
    info = draw.choice([info for info, _ in members if info.filename != MANIFEST])
    target = draw.choice([str(jail.elsewhere), str(jail.elsewhere / "notes.txt"), "/dev/zero", "../..", "record.json"])
    info.external_attr = (kind | 0o777) << 16
    _write(archive, [(one, target.encode() if one is info else content) for one, content in members], fit=True)
    return f"{info.filename} {oct(kind)} {target[-20:]}"


def content(draw: random.Random, archive: Path, jail: Jail) -> str:
    """Change, take or add a file behind the manifest's back."""
    members = _read(archive)
    inner = [n for n, (info, _) in enumerate(members) if info.filename not in (MANIFEST, SIGNATURE)]
    place = draw.choice(inner)
    info, old = members[place]
    way = draw.choice(["bytes", "gone", "twice", "extra", "swapped"])
    if way == "bytes":
        members[place] = (info, draw.choice([b"", old + b" ", old[:-1], b"{}", old.replace(b"0", b"1") + b"0"]))
    elif way == "gone":
        del members[place]
    elif way == "twice":
        members.insert(draw.choice([0, len(members)]), (zipfile.ZipInfo(info.filename), old))
    elif way == "extra":
        members.append((zipfile.ZipInfo(draw.choice(["run/x.json", "other/record.json", "../x", "evil.py"])), old))
    else:
        other = draw.choice([n for n in inner if members[n][1] != old])
        members[place], members[other] = (info, members[other][1]), (members[other][0], old)
    _write(archive, members)
    return f"{way} {info.filename}"


def noise(draw: random.Random, archive: Path, jail: Jail) -> str:
    """Damage the bytes of the zip file itself."""
    whole = archive.read_bytes()
    at = draw.randrange(len(whole))
    way = draw.choice(["cut", "flip", "insert", "directory", "prefix", "tail"])
    if way == "directory":  # where the central directory stands
        at = whole.rfind(b"PK\1\2") - draw.randrange(2000)
        way = "flip"
    changed = {
        "cut": whole[:at],
        "flip": whole[:at] + draw.randbytes(draw.choice([1, 2, 8])) + whole[at + 8 :],
        "insert": whole[:at] + draw.randbytes(5) + whole[at:],
        "prefix": draw.randbytes(100) + whole,
        "tail": whole + draw.randbytes(100),
    }[way]
    archive.write_bytes(changed)
    return f"{way} {at}"


def sizes(draw: random.Random, archive: Path, jail: Jail) -> str:
    """Pack a bomb, or lie about sizes and offsets in the central directory."""
    way = draw.choice(["zeros", "claim", "offset", "overlap"])
    if way == "zeros":
        _write(archive, [*_read(archive), (zipfile.ZipInfo("run/zeros.json"), b"")], fit=False)
        with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr("run/bomb.json", b"\0" * 2**28)
        return way
    whole = bytearray(archive.read_bytes())
    entries = []
    at = whole.find(b"PK\1\2", struct.unpack("<I", whole[-6:-2])[0])
    while at >= 0:
        entries.append(at)
        at = whole.find(b"PK\1\2", at + 4)
    entry = draw.choice(entries)
    if way == "claim":
        struct.pack_into("<I", whole, entry + 24, draw.choice([0, 1, 2**31, 2**32 - 2]))
    elif way == "offset":
        struct.pack_into("<I", whole, entry + 42, draw.choice([0, len(whole), 2**32 - 2]))
    else:
        for one in entries:
            struct.pack_into("<I", whole, one + 42, 0)
    archive.write_bytes(whole)
    return way


def packing(draw: random.Random, archive: Path, jail: Jail) -> str:
    """Pack by other means, or say that a member is encrypted."""
    members = _read(archive)
    way = draw.choice([zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99, "encrypted"])
    if way in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        for info, _ in draw.sample(members, 2):
            info.compress_type = int(way)
        _write(archive, members)
        return str(way)
    whole = bytearray(archive.read_bytes())
    entry = whole.rfind(b"PK\1\2")
    struct.pack_into("<H", whole, *((entry + 10, 99) if way == 99 else (entry + 8, 1)))
    archive.write_bytes(whole)
    return str(way)


def manifest(draw: random.Random, archive: Path, jail: Jail) -> str:
    """Write something odd in the manifest."""
    members = _read(archive)
    place = next(n for n, (info, _) in enumerate(members) if info.filename == MANIFEST)
    document: Any = json.loads(members[place][1])
    way = draw.choice(["key", "entry", "value", "text", "twice", "deep"])
    odd = draw.choice(ODD)
    if way == "key":
        document[draw.choice(list(document))] = odd
    elif way == "entry":
        document["files"].insert(draw.randrange(3), odd)
    elif way == "value":
        draw.choice(document["files"])[draw.choice(["path", "bytes", "sha256"])] = odd
    elif way == "twice":
        document["files"].append(document["files"][0] | draw.choice([{}, {"bytes": 3}]))
    text = json.dumps(document).encode()
    if way == "text":
        text = draw.choice([b"", b"\xff", text[:-5], b"[]", b"3", text * 2, b'{"format": 1}', b"\0" * 1000])
    if way == "deep":
        text = b"[" * 10**5
    members[place] = (members[place][0], text)
    _write(archive, members)
    return f"{way} {str(odd)[:20]!r}"


def signature(draw: random.Random, archive: Path, jail: Jail) -> str:
    """Put rubbish in the place of a signature."""
    rubbish = draw.choice(
        [
            b"",
            b"-----BEGIN SSH SIGNATURE-----\n",
            b"-----BEGIN SSH SIGNATURE-----\nQUFBQQ==\n-----END SSH SIGNATURE-----\n",
            draw.randbytes(200),
            b"A" * 10**6,
        ]
    )
    _write(archive, [*_read(archive), (zipfile.ZipInfo(SIGNATURE), rubbish)])
    return str(len(rubbish))


BEHIND_THE_MANIFEST = (content, signature, kinds)
"""Of these `verify` has to tell. What damages the container may leave every member as it was."""

WAYS: list[Callable[[random.Random, Path, Jail], str]] = [
    *(names, names, kinds, content, content, noise, noise, sizes, packing, manifest, manifest, signature),
    *(contradiction, contradiction),
]
