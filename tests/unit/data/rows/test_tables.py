"""Parquet and Arrow files give the examples that JSON lines of the same rows give, and never an error of pyarrow."""

from __future__ import annotations

import json
import random
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from peftlab.data import indexed_examples
from peftlab.data.containers import tables
from peftlab.data.containers.features import namings
from peftlab.data.rows.row_files import RowFiles
from peftlab.data.rows.sentences import SentenceRows
from peftlab.data.rows.texts import TextRows
from peftlab.data.views import View
from peftlab.errors import ConfigError, DataError

KINDS = ["parquet", "file", "stream"]
FORMAT = RowFiles(rows=TextRows(text="q.text", label="topic", group="who"))


def features(**of) -> dict[bytes, bytes]:
    return {b"huggingface": json.dumps({"info": {"features": of}}).encode()}


def write(path: Path, table: pa.Table, kind: str = "parquet", rows: int = 2) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path = path.with_suffix(".parquet" if kind == "parquet" else ".arrow")
    if kind == "parquet":
        parquet.write_table(table, path, row_group_size=rows)
        return path
    make = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with make(path, table.schema) as writer:
        writer.write_table(table.unify_dictionaries(), max_chunksize=rows)
    return path


def topics(number: int = 2500) -> tuple[pa.Table, list[dict]]:
    draw = random.Random(1)
    rows = [
        {
            "q": {"text": draw.choice(["a", "Ü\u2028", "\U0001f600 c"]) + str(n), "of": None},
            "topic": draw.randrange(2),
            "who": draw.choice(["x", "y"]),
            "when": datetime(2026, 1, 2),
            "unused": Decimal("1.5"),
        }
        for n in range(number)
    ]
    table = pa.Table.from_pylist(rows)
    table = table.set_column(2, "who", table["who"].dictionary_encode())
    return table.replace_schema_metadata(features(topic={"names": ["no", "yes"], "_type": "ClassLabel"})), rows


@pytest.mark.slow
@pytest.mark.parametrize("held", [2**25, 0, 40_000], ids=["in memory", "large", "large when decoded"])
def test_a_table_gives_what_json_lines_give(tmp_path, monkeypatch, held):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(indexed_examples, "HELD", held)
    table, rows = topics()
    lines = tmp_path / "a.jsonl"
    written = [{**row, "topic": ["no", "yes"][row["topic"]], "when": None, "unused": None} for row in rows]
    lines.write_text("\n\n".join(map(json.dumps, written)))
    expected = list(FORMAT.read({"train": lines})["train"])
    for kind in KINDS:
        path = write(tmp_path / kind, table, kind, rows=1200)
        for _ in range(2):  # of a large one, the second time from the cache
            (read,) = FORMAT.read({"train": path}).values()
            assert isinstance(read, View) == (held < 2**25)
            assert [(e.id, e.text, e.label, e.group) for e in read] == [
                (e.id, e.text, e.label, e.group) for e in expected
            ]
            assert read[2100].place == f"{path}:2101"
    assert len(list((tmp_path / "cache").rglob("*.jsonl"))) == (3 if held < 2**25 else 0)


def test_dates_and_decimals_are_texts_and_integers_of_any_size_are_whole(tmp_path):
    table = pa.table(
        {
            "text": pa.array([datetime(2026, 1, 2, 3), datetime(1, 1, 1)], pa.timestamp("us")),
            "label": pa.array([2**64 - 1, 0], pa.uint64()),
            "group": pa.array([Decimal("1.50"), Decimal("2")]),
        }
    )
    format = RowFiles(rows=TextRows(group="group"))
    for kind in KINDS:
        (read,) = format.read({"train": write(tmp_path / "a", table, kind)}).values()
        assert [(each.text, each.label, each.group) for each in read] == [
            ("2026-01-02 03:00:00.000000", str(2**64 - 1), "1.50"),
            ("0001-01-01 00:00:00.000000", "0", "2.00"),
        ]


def test_names_of_labels_within_lists(tmp_path):
    names = {"names": ["O", "B-PER"], "_type": "ClassLabel"}
    for feature in ([names], {"feature": names, "_type": "Sequence"}, {"feature": names, "_type": "List"}):
        table = pa.table({"tokens": [["Ada", "left"]], "ner_tags": [[1, 0]]})
        path = write(tmp_path / "a", table.replace_schema_metadata(features(ner_tags=feature)))
        (read,) = RowFiles(rows=SentenceRows()).read({"train": path}).values()
        assert read[0].tags == ["B-PER", "O"]


def test_names_of_labels_in_structures_within_lists(tmp_path):
    one = {"kind": {"names": ["no", "yes"], "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}
    one["kinds"] = {"feature": one["kind"], "_type": "List"}
    for feature in ({"feature": one, "_type": "List"}, [one]):
        naming = namings(tmp_path / "a.parquet", features(marks=feature))["marks"]
        expected = [{"kind": "yes", "text": "a", "kinds": ["no", "yes"]}, {"kind": None, "text": "b", "kinds": []}]
        structures = [{"kind": 1, "text": "a", "kinds": [0, 1]}, {"kind": -1, "text": "b", "kinds": []}]
        assert naming(structures) == expected
        lists = {"kind": [1, -1], "text": ["a", "b"], "kinds": [[0, 1], []]}
        if isinstance(feature, dict):  # the library stores Sequence of structures so
            assert naming(lists) == {"kind": ["yes", None], "text": ["a", "b"], "kinds": [["no", "yes"], []]}


@pytest.mark.parametrize(
    ("label", "message"), [(2, "the label 2 has no name: there are 2"), (-1, "'topic' is null; expected a text")]
)
def test_a_number_without_a_name(tmp_path, label, message):
    table, _ = topics(3)
    table = table.set_column(1, "topic", pa.array([0, 1, label]))
    with pytest.raises(DataError, match=rf"a\.parquet:3: .*{message}"):
        FORMAT.read({"train": write(tmp_path / "a", table)})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"q": ["a"], "topic": [1]}, r":1: 'q' is \"a\"; expected named columns within it"),
        ({"p": [{"text": "a"}], "topic": [1], "z": [1]}, r":1: there is no column 'q'.*Columns: p, topic, z"),
        ({"q": [{"text": b"a"}], "topic": [1], "who": [1]}, r":1: 'q.text' is {\"bytes\": 1}; expected a text"),
        ({"q": [{"text": "a"}], "topic": [1.5], "who": [1]}, r":1: 'topic' is 1\.5; expected a text or a whole number"),
        ({"q": [{"text": "a"}] * 3, "topic": [1, 1, None], "who": [1] * 3}, r":3: 'topic' is null"),
        ({"q": [], "topic": [], "who": []}, ": empty split 'train'"),
        ({}, ": empty split 'train'"),
    ],
)
def test_wrong_rows(tmp_path, columns, message):
    for kind in KINDS:
        path = write(tmp_path / "a", pa.table(columns), kind)
        with pytest.raises(DataError, match=rf"{path.name}{message}"):
            FORMAT.read({"train": path})


def test_two_columns_of_a_name(tmp_path):
    table, _ = topics(3)
    path = write(tmp_path / "a", table.append_column("who", table["topic"]), "stream")
    with pytest.raises(DataError, match=r"a\.arrow: 2 columns are called 'who'"):
        FORMAT.read({"train": path})


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_give_a_message(tmp_path, kind):
    table, _ = topics(400)
    whole = write(tmp_path / "whole", table, kind, rows=100).read_bytes()
    path = tmp_path / f"a{'.parquet' if kind == 'parquet' else '.arrow'}"
    draw = random.Random(2)
    refused = 0
    for n in range(60):
        content = bytearray(whole)
        if n < 20:
            content = content[: draw.randrange(len(content))]
        else:
            for _ in range(draw.choice([1, 4, 30])):
                content[draw.randrange(len(content))] = draw.choice([0, 255, draw.randrange(256)])
        path.write_bytes(content)
        try:
            FORMAT.read({"train": path})
        except DataError as error:
            refused += 1
            assert str(error).startswith(str(path))  # noqa: PT017 - some damage is in columns that are not read
    assert refused > 25


def test_without_pyarrow(tmp_path, monkeypatch):
    path = write(tmp_path / "a", topics(1)[0])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r'pip install "peftlab\[parquet\]"'):
        FORMAT.read({"train": path})


def test_a_batch_that_memory_may_not_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_LARGEST_BATCH", 10)
    with pytest.raises(DataError, match=r"a\.parquet:1: 2 rows from here take .* GiB"):
        FORMAT.read({"train": write(tmp_path / "a", topics(3)[0])})


def test_another_kind_of_file(tmp_path):
    for name in ("a.parquet", "a.arrow"):
        (tmp_path / name).write_text('{"text": "a"}\n')
        with pytest.raises(DataError, match=rf"{name}: cannot be read as an? (Parquet|Arrow) file"):
            FORMAT.read({"train": tmp_path / name})
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(DataError, match=rf"{name}: cannot be read as"):
            FORMAT.read({"train": tmp_path / name})
        (tmp_path / name).unlink()
        with pytest.raises(DataError, match="no such file"):
            FORMAT.read({"train": tmp_path / name})


@pytest.mark.parametrize("shape", ["flat", "struct", "list"])
def test_texts_that_rows_share_count_in_each_of_them(tmp_path, monkeypatch, shape):
    """Else a file of some kilobytes could fill the memory: its dictionary has one text, and a million rows have it."""
    monkeypatch.setattr(tables, "_LARGEST_BATCH", 500_000)
    text = "a" * 10_000
    wrap = {"flat": lambda one: one, "struct": lambda one: {"text": one}, "list": lambda one: [one]}[shape]
    table = pa.table({"q": [wrap(text)] * 100, "topic": ["x"] * 100})
    dictionary = table.set_column(0, "q", table["q"].dictionary_encode()) if shape == "flat" else table
    format = RowFiles(rows=TextRows(text="q.text" if shape == "struct" else "q", label="topic"))
    for kind in KINDS:
        path = write(tmp_path / kind, dictionary, kind, rows=100)
        with pytest.raises(DataError, match=rf"{path.name}:1: 100 rows from here take"):
            format.read({"train": path})
        path = write(tmp_path / kind, dictionary.slice(0, 10), kind)
        if shape != "list":
            assert [each.text for each in format.read({"train": path})["train"]] == [text] * 10


@pytest.mark.slow
def test_the_decoder_of_parquet_does_not_write_shared_texts_out(tmp_path, monkeypatch):
    path = write(tmp_path / "a", pa.table({"q": [[["a" * 2**20]]] * 100, "text": ["b"] * 100}), rows=100)
    before = pa.total_allocated_bytes()
    monkeypatch.setattr(tables, "_LARGEST_BATCH", 2**20)
    taken: list[int] = []

    def noted(array: pa.Array) -> int:
        taken.append(pa.total_allocated_bytes() - before)
        return 2**30

    monkeypatch.setattr(tables, "_written_out", noted)
    with pytest.raises(DataError, match="100 rows from here take"):
        RowFiles(rows=TextRows(text="q", label="text")).read({"train": path})
    assert max(taken) < 10 * 2**20


def test_the_parts_of_a_split_share_the_memory_of_one_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(indexed_examples, "HELD", 60_000)
    table = pa.table({"text": ["a" * 1000] * 40, "label": ["x"] * 40})
    format = RowFiles(rows=TextRows())
    write(tmp_path / "one" / "0", table, rows=40)
    for n in range(3):
        write(tmp_path / "three" / str(n), table, rows=40)
    assert not isinstance(format.read({"train": tmp_path / "one"})["train"], View)
    (read,) = format.read({"train": tmp_path / "three"}).values()
    assert isinstance(read, View)
    assert [each.id for each in read] == [f"train:{n}" for n in range(120)]


def test_a_table_that_changes_while_it_is_read_is_not_cached_as_what_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(indexed_examples, "HELD", 0)
    texts = RowFiles(rows=TextRows(text="text", label="topic"))
    old, new = (pa.table({"text": ["a", "b"], "topic": [name, name]}) for name in ("old", "new"))
    path = write(tmp_path / "train", old)
    rows = tables.TableContainer._rows

    def changed(self, *arguments):
        write(tmp_path / "train", new)
        return rows(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(tables.TableContainer, "_rows", changed)
        with pytest.raises(DataError, match=r"train.parquet: the file has changed while it was read. Start the run"):
            texts.read({"train": path})
    write(tmp_path / "train", old)
    assert [example.label for example in texts.read({"train": path})["train"]] == ["old", "old"]


def test_the_cached_rows_have_the_names_that_stand_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(indexed_examples, "HELD", 0)
    path = write(tmp_path / "a", pa.table({"text": ["a", "b"], "label": [1, 0]}), "stream")
    format = RowFiles(rows=TextRows())
    for names in (["no", "yes"], ["left", "right"], None, ["no", "yes"]):
        description = path.with_name("dataset_info.json")
        description.unlink(missing_ok=True)
        if names is not None:
            description.write_text(json.dumps({"features": {"label": {"names": names, "_type": "ClassLabel"}}}))
        labels = [each.label for each in format.read({"train": path})["train"]]
        assert labels == ([names[1], names[0]] if names is not None else ["1", "0"])


@pytest.mark.parametrize(
    ("of", "value", "expected"),
    [
        ({"_type": "List", "feature": {"k": "label"}}, [{"k": 1, "n": 1}, {"k": -1, "n": 0}], None),
        ({"_type": "Sequence", "feature": {"k": "label"}}, {"k": [1, 0], "n": [1]}, {"k": ["B", "O"], "n": [1]}),
        ({"_type": "List", "feature": {"k": {"_type": "List", "feature": "label"}}}, [{"k": [1]}], [{"k": ["B"]}]),
        ([{"k": "label"}], [{"k": 1}], [{"k": "B"}]),
        ({"k": {"k": "label"}}, {"k": {"k": 0}}, {"k": {"k": "O"}}),
        ({"_type": "List", "feature": {"n": {"_type": "Value"}}}, [{"n": 1}], [{"n": 1}]),
    ],
)
def test_names_within_structures(tmp_path, of, value, expected):
    label = '{"_type": "ClassLabel", "names": ["O", "B"]}'
    feature = json.loads(json.dumps(of).replace('"label"', label))
    naming = namings(tmp_path / "a.parquet", features(x=feature)).get("x", lambda values: values)
    assert naming(value) == (expected or [{"k": "B", "n": 1}, {"k": None, "n": 0}])
