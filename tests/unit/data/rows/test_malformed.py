"""Malformed files of every container with rows of every kind give one message with the place; oddities are read."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

import peftlab.data.rows
from peftlab.data.parallel import Parallel
from peftlab.data.rows.choices import ChoiceRows
from peftlab.data.rows.conversations import ConversationRows
from peftlab.data.rows.numbers import NumberRows
from peftlab.data.rows.preferences import PreferenceRows
from peftlab.data.rows.questions import QuestionRows
from peftlab.data.rows.relations import RelationRows
from peftlab.data.rows.row_files import RowFiles
from peftlab.data.rows.row_reader import RowReader
from peftlab.data.rows.sentences import SentenceRows
from peftlab.data.rows.several_labels import SeveralLabelRows
from peftlab.data.rows.source_target import SourceTargetRows
from peftlab.data.rows.texts import TextRows
from peftlab.data.rows.utterances import UtteranceRows
from peftlab.data.squad import SquadJson
from peftlab.errors import DataError

ANSWERS = {"text": ["Ada"], "answer_start": [0]}
ONE_FORM = ConversationRows(messages=None, instruction=None, input=None, output="answer", plain=None)
READERS: dict[str, tuple[RowReader, dict[str, Any]]] = {
    "texts": (TextRows(pair="other", group="who"), {"text": "Über", "label": 3, "other": "b", "who": "x"}),
    "sentences": (SentenceRows(), {"tokens": ["Ada", "left"], "ner_tags": ["B-PER", "O"]}),
    "numbers": (NumberRows(), {"text": "a", "label": 1.5}),
    "several_labels": (SeveralLabelRows(), {"text": "a", "labels": ["joy", "love"]}),
    "questions": (QuestionRows(), {"question": "Who?", "context": "Ada left.", "answers": ANSWERS}),
    "relations": (RelationRows(), {"text": "<e1>Ada</e1> left <e2>Rome</e2>", "label": "From(e1,e2)"}),
    "utterances": (UtteranceRows(), {"words": ["to", "Rome"], "tags": ["O", "B-city"], "intent": "travel"}),
    "choices": (ChoiceRows(), {"question": "Who?", "choices": ["Ada", "Bob"], "answer": 1}),
    "conversations": (ONE_FORM, {"prompt": "Who?", "answer": "Ada."}),
    "preferences": (PreferenceRows(), {"prompt": "Who?", "chosen": "Ada.", "rejected": "Bob."}),
    "source_target": (SourceTargetRows(), {"source": "Ada left.", "target": "Ada ging."}),
}
LINES = {
    "cut": lambda line: line[:-3],
    "no JSON": lambda line: "nothing",
    "an array": lambda line: f"[{line}]",
    "a number": lambda line: "7",
    "two objects": lambda line: line + line,
    "a comma": lambda line: f"{line},",
    "nested deeply": lambda line: "[" * 100_000,
    "a key twice": lambda line: f"{line[:-1]}, {line[1:]}",
}
"""What spoils a line."""
VALUES = {"missing": ..., "an object": {"k": 1}, "a list of lists": [[1]], "null": None}
"""What no column may hold, nor lack."""
MAY_LACK = {"labels"}
"""The columns that may be null: a text without any of several labels."""
TABLES = ["parquet", "file", "stream"]


def write(folder: Path, rows: list[dict[str, Any]] | pa.Table, kind: str) -> Path:
    """Write rows, or a table of them, as JSON lines, Parquet, or an Arrow file or stream."""
    if kind == "lines":
        path = folder / "a.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return path
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
    path = folder / ("a.parquet" if kind == "parquet" else "a.arrow")
    if kind == "parquet":
        parquet.write_table(table, path, row_group_size=2)
    else:
        with (pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file)(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    return path


def spoilt_rows(good: dict[str, Any], columns: set[str]) -> Iterator[dict[str, Any]]:
    """Yield a row without, or with a wrong value in, each of `columns`."""
    for column in sorted(columns):
        for value in VALUES.values():
            if value is None and column in MAY_LACK:
                continue
            yield {key: value if key == column else one for key, one in good.items() if key != column or value != ...}


def malformed(folder: Path) -> Iterator[tuple[RowReader, Path, int]]:
    """Yield files, what reads each, and the number of the line or row that is spoilt."""
    for reader, good in READERS.values():
        columns = set(reader.columns.values())
        for spoil in LINES.values():
            path = folder / "a.jsonl"
            path.write_text("\n".join([json.dumps(good), "", spoil(json.dumps(good)), json.dumps(good)]))
            yield reader, path, 3
        path.write_bytes(json.dumps(good).encode() + b'\n{"text": "\xff"}\n')
        yield reader, path, 2
        for bad in spoilt_rows(good, columns):
            yield reader, write(folder, [good, good, bad, good], "lines"), 3
        for kind in TABLES:
            for column in sorted(columns):
                table = pa.Table.from_pylist([good] * 5)
                place = table.schema.get_field_index(column)
                yield reader, write(folder, table.drop_columns([column]), kind), 1
                for value in ([[1]], {"k": 1}, b"a"):
                    yield reader, write(folder, table.set_column(place, column, pa.array([value] * 5)), kind), 1
                if column not in MAY_LACK:
                    values = pa.array([*[good[column]] * 3, None, good[column]])
                    yield reader, write(folder, table.set_column(place, column, values), kind), 4


def test_every_reader_is_tried():
    modules = {module.name for module in pkgutil.iter_modules(peftlab.data.rows.__path__)}
    assert set(READERS) == {
        name
        for name in modules - {"row_reader"}
        if any(
            isinstance(one, type) and issubclass(one, RowReader) and one is not RowReader
            for one in vars(importlib.import_module(f"peftlab.data.rows.{name}")).values()
        )
    }


@pytest.mark.slow
def test_malformed_files_give_a_message_with_file_and_line(tmp_path):
    tried = 0
    for reader, path, line in malformed(tmp_path):
        tried += 1
        with pytest.raises(DataError) as error:
            RowFiles(rows=reader).read({"train": path})
        message = str(error.value)
        assert message.startswith(f"{path}:{line}: ")
        assert len(message) < 600
        assert "\n" not in message
    assert tried > 200


def test_malformed_squad_gives_a_message_with_the_file(tmp_path):
    good = {"question": "Who?", "id": "q", "answers": [{"text": "Ada", "answer_start": 0}]}
    whole = json.dumps({"data": [{"paragraphs": [{"context": "Ada left.", "qas": [good]}]}]})
    path = tmp_path / "a.json"
    spoilt = [whole[:end] for end in range(0, len(whole), 7)]
    spoilt += [whole.replace(f'"{key}"', '"odd"') for key in ("data", "paragraphs", "context", "qas", "question")]
    spoilt += [whole.replace('"Ada left."', value) for value in ("null", "7", "[]", "{}", '"Bob left."')]
    spoilt += [whole.replace('"answer_start": 0', f'"answer_start": {value}') for value in ("-1", "7", "true", '"0"')]
    assert len(spoilt) > 20
    for content in spoilt:
        path.write_text(content)
        with pytest.raises(DataError) as error:
            SquadJson().read({"train": path})
        assert str(error.value).startswith(str(path))


def test_malformed_parallel_files_give_a_message_with_file_and_line(tmp_path):
    good = {"seq.in": "to Rome\nto Rome\n", "seq.out": "O B-city\nO B-city\n", "label": "travel\ntravel\n"}
    for name, bad, line in [
        *(("seq.in", text, 2) for text in ("to Rome\n", "to Rome\n\n", "to Rome\n \t\n")),
        *(("seq.out", f"O B-city\n{tags}\n", 2) for tags in ("O", "O B-city O", "O I-city", "O city", "")),
        *(("label", labels, 2) for labels in ("travel\n", "travel\n\n")),
        ("label", "travel\ntravel\ntravel\n", 3),
    ]:
        for file, content in {**good, name: bad}.items():
            (tmp_path / file).write_text(content)
        with pytest.raises(DataError, match=rf"^{tmp_path}/[a-z.]+:{line}: "):
            Parallel().read({"train": tmp_path})


def odd(folder: Path) -> Iterator[tuple[RowReader, Path]]:
    """Yield files of two rows that are odd and valid, and what reads each."""
    for reader, good in READERS.values():
        line = json.dumps(good, ensure_ascii=False)
        path = folder / "a.jsonl"
        unused = {"of no use": [None, {"k": 10**400}], "": None, "x.y": float("nan"), "when": "2026-01-01"}
        for content in (
            b"\xef\xbb\xbf" + f"{line}\n{line}".encode(),
            f"{line}\r\n{line}\r\n\r\n \n\n".encode(),
            f"\n\t\n{line}\n\n{line}\n".encode(),
            f"{line}\n{line}\n".encode("utf-16"),
            f"{line}\r{line}\r".encode(),
            f"{json.dumps(good | unused)}\n{json.dumps(unused | good)}".encode(),
        ):
            path.write_bytes(content)
            yield reader, path
        table = pa.Table.from_pylist([good, good])
        for extra in ([datetime(1, 1, 1), None], [b"\xff", None], [2**62, None], [[None], []], [float("nan"), 1.0]):
            table = table.append_column(f"extra {table.num_columns}", pa.array(extra))
        texts = [name for name in table.schema.names if table.schema.field(name).type == pa.string()]
        for name in texts:
            place, column = table.schema.get_field_index(name), table[name]
            for changed in (column.dictionary_encode(), column.cast(pa.large_string()), column.cast(pa.string_view())):
                kind = TABLES[place % 2]
                yield reader, write(folder, table.set_column(place, name, changed), kind)
        for kind in TABLES:
            yield reader, write(folder, pa.concat_tables([table[:0], table[:1], table[:0], table[1:]]), kind)
        path = folder / "a.parquet"
        with parquet.ParquetWriter(path, table.schema, compression="zstd") as writer:  # with empty row groups
            for begin, end in ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2)):
                writer.write_table(table[begin:end])
        yield reader, path


@pytest.mark.slow
def test_valid_oddities_are_read(tmp_path):
    tried = 0
    for reader, path in odd(tmp_path):
        tried += 1
        (read,) = RowFiles(rows=reader).read({"train": path}).values()
        plain, same = RowFiles(rows=reader).read(
            {"train": write(tmp_path, [next(good for one, good in READERS.values() if one is reader)] * 2, "lines")}
        )["train"]
        assert [type(each) for each in read] == [type(plain)] * 2
        for each, expected in zip(read, (plain, same), strict=True):
            for name in ("id", "text", "label", "labels", "words", "tags", "question", "answers", "choices"):
                assert getattr(each, name, None) == getattr(expected, name, None)
    assert tried > 50
