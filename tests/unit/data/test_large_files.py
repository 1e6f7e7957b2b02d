"""Whatever is read from a large file, example by example, is what a small one gives that is held in memory."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from peftlab.data import indexed_examples
from peftlab.data.delimited import Delimited
from peftlab.data.json_lines import JsonLines
from peftlab.data.module import DataModule
from peftlab.data.rows.row_files import RowFiles
from peftlab.data.rows.texts import TextRows
from peftlab.data.spec import BudgetSpec, DataSpec
from peftlab.data.splits import Splits
from peftlab.data.views import View
from peftlab.errors import DataError
from peftlab.sources import FilesSource
from peftlab.storage.digests import file_sha256
from peftlab.tasks.classification import Classification
from peftlab.tasks.task import Selection

WORDS = ["Ada", "Lovelace", "moved", "from", "Paris", "to", "Rome", "yesterday", "said", "the", "Royal", "report"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make files with repeated, conflicting, overlapping, odd and long texts."""
    draw = random.Random(3)
    for name in ("data", "csv"):
        (tmp_path / name).mkdir()
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(6, 30))) for _ in range(1500)]
    for name, rows in {"train": 300, "dev": 40, "test": 60}.items():
        objects = [
            {"text": draw.choice(texts), "label": draw.choice(["yes", "no", 3]), "doc": n // 4} for n in range(rows)
        ]
        objects[7]["text"] += " \ud83d\x01"
        lines = [json.dumps(one) for one in objects]
        lines[5] = ""
        (tmp_path / "data" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        with (tmp_path / "csv" / f"{name}.csv").open("w", newline="") as file:
            table = csv.writer(file, lineterminator=draw.choice(["\n", "\r\n"]))
            table.writerow(["text", "label", "doc"])
            for n, one in enumerate(json.loads(line) for line in lines if line):
                ada = draw.choice(["Ada", "A,\r\n\nda", 'A"da'])
                text = one["text"].replace("\ud83d", "\ufeff").replace("Ada", ada)
                table.writerows([[text, one["label"], one["doc"]], *([[]] if n % 7 == 0 else [])])
    return tmp_path / "data"


@pytest.fixture
def loaded(folder, processor, monkeypatch) -> Callable[..., DataModule]:
    def load(held: int, budget=None, weights=None, path=folder, **options) -> DataModule:
        monkeypatch.setattr(indexed_examples, "HELD", held)
        monkeypatch.setenv("PEFTLAB_CACHE", str(folder.parent / f"cache-{held}"))
        selection = Selection(metric="macro_f1", mode="max")
        task = Classification(name="classification", selection=selection, class_weights=weights)
        spec = DataSpec(
            name="large",
            source=FilesSource(path=path),
            **{
                "splits": Splits(),
                "format": JsonLines(),
                "max_tokens": 16,
                "long": "truncate",
                "batch_size": 8,
                **options,
            },
        )
        data = DataModule(spec, task, processor, BudgetSpec(name="b", max_steps=1, **(budget or {})), seed=1)
        data.load()
        return data

    return load


def assert_same(one: DataModule, other: DataModule):
    assert one.describe() == other.describe()
    assert one.facts == other.facts
    assert one.task.settled() == other.task.settled()
    assert one.plan_of(3) == other.plan_of(3)
    for name, split in one.splits.items():
        assert list(other.splits[name].examples) == split.examples
        assert other.splits[name].encoded.counts == split.encoded.counts
        for key, values in split.encoded.arrays.items():
            np.testing.assert_array_equal(other.splits[name].encoded.arrays[key], values)
        batch, same = (next(iter(data._evaluation_loader(name))) for data in (one, other))
        assert (batch.inputs["input_ids"] == same.inputs["input_ids"]).all()
        assert batch.examples == same.examples
    first, same = (next(iter(data.train_dataloader()))[0] for data in (one, other))
    assert (first.inputs["input_ids"] == same.inputs["input_ids"]).all()
    assert (first.targets["labels"] == same.targets["labels"]).all()


@pytest.mark.one_in(4, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"duplicates": "drop", "weights": "balanced"},
        {"format": JsonLines(group="doc"), "batch_tokens": 64},
        {"splits": Splits(train="train.jsonl", validation=0.2, test=0.1), "duplicates": "drop"},
        {"splits": Splits(train="train.jsonl", validation=0.3), "format": JsonLines(group="doc")},
        {"budget": {"train_examples": 50, "eval_examples": 20}},
        {"budget": {"overfit_batches": 2}},
        {"fold": "2/3"},
    ],
    ids=str,
)
def test_the_same_data(loaded, options):
    small, large = loaded(2**25, **options), loaded(0, **options)
    assert isinstance(small.splits["train"].examples, list)
    if "overfit_batches" not in options.get("budget", {}):
        assert isinstance(large.splits["train"].examples, View)
    assert_same(small, large)
    assert min(split.rows for split in small.splits.values()) > 10
    again = loaded(0, **options)  # from the cache
    assert_same(small, again)


@pytest.mark.slow
def test_the_same_data_in_tables(loaded, folder):
    """What is read from a large Parquet file is what JSON lines of the same rows give."""
    path = folder.parent / "tables"
    path.mkdir()
    for file in folder.iterdir():
        rows = [json.loads(line) for line in file.read_text().splitlines() if line]
        # Arrow holds valid Unicode only, and one type a column
        rows = [row | {"text": row["text"].replace("\ud83d", "?"), "label": str(row["label"])} for row in rows]
        parquet.write_table(pyarrow.Table.from_pylist(rows), path / f"{file.stem}.parquet", row_group_size=50)
    format = RowFiles(rows=TextRows(group="doc"))
    small, large = (loaded(held, path=path, format=format, duplicates="drop") for held in (2**25, 0))
    assert isinstance(large.splits["train"].examples, View)
    assert_same(small, large)
    assert small.facts.dropped["train"]["duplicates"]
    assert small.facts.sha256["train"] == file_sha256(path / "train.parquet")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"quotes": True, "header": False}, {"group": "doc"}],
    ids=str,
)
def test_the_same_data_in_delimited_files(loaded, folder, options):
    path = folder.parent / "csv"
    if options.get("header") is False:
        options |= {"text": 0, "label": 1}
        for file in path.iterdir():
            content = file.read_bytes().partition(b"\n")[2]
            file.write_bytes(b"\xef\xbb\xbfsep=,\n" + content)
    small, large = (loaded(held, path=path, format=Delimited(**options)) for held in (2**25, 0))
    assert isinstance(large.splits["train"].examples, View)
    assert_same(small, large)
    assert large.facts.counts["train"]["rows_over_lines"] > 10
    (path / "dev.csv").write_bytes((path / "dev.csv").read_bytes() + b'a,"",1\r\n')
    said = []
    for held in (2**25, 0):
        with pytest.raises(DataError) as error:
            loaded(held, path=path, format=Delimited(**options))
        said.append(str(error.value))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "content",
    [
        "text;label\na;1\nb;2\n",
        "text,label\na,1\nb\n",
        "text,label\na,1\ntext,label\n",
        'text,label\n"a,1\nb,1\nc,1\nd,1\n",1\ne,1\n',
        'text,label\n"a,1\n',
        "text,label\n\n",
        "\n\n",
        "words,label\na,1\nb,2\n",
        "words,what\na,1\n",
    ],
)
def test_the_same_mistakes_in_delimited_files(tmp_path, monkeypatch, content):
    (tmp_path / "a.csv").write_text(content)
    outcomes = []
    for held in (2**25, 0):
        monkeypatch.setattr(indexed_examples, "HELD", held)
        try:
            outcomes.append(list(Delimited().read({"train": tmp_path / "a.csv"})["train"]))
        except DataError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


def test_the_same_mistakes(loaded, folder):
    with (folder / "dev.jsonl").open("a") as file:
        file.write('{"text": "a", "label": "new", "doc": 1}\n')
    for held in (2**25, 0):
        with pytest.raises(DataError, match=r"dev\.jsonl:41: unknown label 'new'"):
            loaded(held)


@pytest.mark.slow
def test_a_task_without_pointers_encodes_at_once(loaded, monkeypatch):
    monkeypatch.setattr(Classification, "pointers", None)
    assert_same(loaded(2**25), loaded(0))


@pytest.mark.slow
def test_new_data_for_a_finished_run(loaded, folder):
    for held in (2**25, 0):
        data = loaded(held)
        data.spec = replace(data.spec, labels=data.task.labels)
        data.load_new({"test": folder / "dev.jsonl"})
        assert data.splits["test"].rows == 39
