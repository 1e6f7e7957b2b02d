"""Whatever has happened to the files of a study, a report is written: what cannot be read is named and left out."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.report.sweeps import planned, run_folders

from peftlab.report import latex, markdown
from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.contents import document_of
from peftlab.report.study import canonical, reading

pytestmark = pytest.mark.slow

ODD: list[Any] = [None, "", 0, -1, 1.5, 2**62, 1e308, 1e-320, True, [], {}, [None], {"a": None}]
ODD += ["x" * 300, "<script>", "\u2028", "\0", "../..", "${a}", "\\input{x}"]
TEXTS = ["", "null", "[]", "{}", "1", "NaN", '{"a": 1, "a": 2}', "[" * 100_000, "\ufeff{}", "- - a", "[]\n[]"]


def written(folder: Path) -> tuple[str, int]:
    """Return the whole report of a folder as Markdown, and how many places it left out."""
    with reading([folder]) as study:
        document = document_of(analysed(study, Options()))
        canonical(document.numbers)
        latex.page(document)
        return markdown.page(document), len(study.left_out)


DAMAGE = {
    "half of it": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "nothing": lambda file: file.write_bytes(b""),
    "other bytes": lambda file: file.write_bytes(b"\xff\xfe\x00" + file.read_bytes()),
    "deep nesting": lambda file: file.write_text("[" * 100_000),
    "a list": lambda file: file.write_text("[]"),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a pipe": lambda file: (file.unlink(), os.mkfifo(file)),
    "a link out": lambda file: (file.unlink(), file.symlink_to("/etc/hostname")),
    "a device": lambda file: (file.unlink(), file.symlink_to("/dev/zero")),
    "a link to itself": lambda file: (file.unlink(), file.symlink_to(file)),
    "as large as a disk": lambda file: os.truncate(file, 2**38),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_is_left_out_by_name(damage, tmp_path):
    folder = planned(examples=6).write(tmp_path / "sweep")
    run = run_folders(folder)[0]
    try:
        DAMAGE[damage](run / "record.json")
    except OSError as error:
        pytest.skip(f"this file system has no such file: {error}")
    page, left_out = written(folder)
    assert left_out == 1
    assert run.name in page


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_beside_a_record_is_named(damage, tmp_path):
    sweep = planned("classification", examples=6)
    names = ("config.yaml", "predictions/test.jsonl", "predictions/validation.jsonl")
    for number, name in enumerate(names):
        folder = sweep.write(tmp_path / str(number))
        run = run_folders(folder)[1]
        try:
            DAMAGE[damage](run / name)
        except OSError as error:
            pytest.skip(f"this file system has no such file: {error}")
        page, _ = written(folder)
        assert run.name in page, name


def test_a_study_that_is_damaged_all_over_still_gives_a_report(tmp_path):
    survives(tmp_path, seeds=range(6))


@pytest.mark.exhaustive
def test_no_damage_ends_a_report(tmp_path):
    survives(tmp_path, seeds=range(6, 300))


def survives(tmp_path: Path, seeds: range) -> None:
    """Damage a sweep in some places at random, a different one for each seed, and write its report."""
    shapes: list[dict[str, Any]] = [{"trials": 1}, {"task": "classification"}, {"methods": ("lora",), "seeds": (0, 1)}]
    for seed in seeds:
        draw = random.Random(seed)
        folder = planned(**draw.choice(shapes), examples=6, groups=2).write(tmp_path / str(seed))
        files = sorted(file for file in folder.rglob("*") if file.suffix in (".json", ".jsonl", ".yaml"))
        done = {file: _changed(draw, file) for file in draw.sample(files, draw.choice([1, 2, 4, 8]))}
        try:
            written(folder)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {done}") from error


def _changed(draw: random.Random, file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    kind = draw.choice(["cut", "replaced", "bytes", "values", "values", "values"])
    if kind == "cut":
        file.write_text(text[: draw.randrange(len(text))], encoding="utf-8")
    elif kind == "replaced":
        file.write_text(draw.choice(TEXTS), encoding="utf-8")
    elif kind == "bytes":
        data = bytearray(text.encode())
        for _ in range(3):
            data[draw.randrange(len(data))] = draw.randrange(256)
        file.write_bytes(data)
    elif file.suffix == ".yaml":
        file.write_text(yaml.safe_dump(_with_odd_values(draw, yaml.safe_load(text))), encoding="utf-8")
    else:
        lines = text.split("\n") if file.suffix == ".jsonl" else [text]
        place = draw.randrange(max(1, len(lines) - 1))
        lines[place] = json.dumps(_with_odd_values(draw, json.loads(lines[place])))
        file.write_text("\n".join(lines), encoding="utf-8")
    return kind


def _with_odd_values(draw: random.Random, value: Any) -> Any:
    for _ in range(draw.randint(1, 4)):
        if not (keys := list(_keys(value))):
            break
        *above, last = draw.choice(keys)
        node = value
        for key in above:
            node = node[key]
        if draw.random() < 0.3:
            del node[last]
        else:
            node[last] = draw.choice(ODD)
    return value


def _keys(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value[:6]) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*above, key)
        yield from _keys(item, (*above, key))
