"""Rows of any container: what is read is the same in all, small and large, whole and in parts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from peftlab.data import indexed_examples
from peftlab.data.rows.row_files import RowFiles
from peftlab.data.rows.row_reader import Place
from peftlab.data.rows.sentences import SentenceRows
from peftlab.data.rows.texts import TextRows
from peftlab.data.rows.utterances import UtteranceRows
from peftlab.data.spec import takes_folders
from peftlab.data.splits import Splits, split_files
from peftlab.data.views import View
from peftlab.errors import DataError, SourceError
from peftlab.sources import FilesSource
from peftlab.tasks.inputs.texts import Text

ROWS = [
    {"title": "Über uns\n", "topic": 3, "who": "a", "unused": None},
    {"title": "a\u2028b", "topic": True, "who": "b", "unused": [1]},
    {"title": " x", "topic": " yes ", "who": "b", "unused": {"k": 2**80}},
]
FORMAT = RowFiles(rows=TextRows(text="title", label="topic", group="who"))


def write_lines(path: Path, rows=ROWS) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_by_hand(tmp_path):
    path = write_lines(tmp_path / "a.jsonl")
    assert FORMAT.read({"train": path})["train"] == [
        Text("train:0", "Über uns\n", "3", None, str(path), 1, "a"),
        Text("train:1", "a\u2028b", "true", None, str(path), 2, "b"),
        Text("train:2", " x", "yes", None, str(path), 3, "b"),
    ]


@pytest.mark.parametrize("held", [2**25, 0])
def test_files_of_a_folder_or_a_pattern_are_one_split(tmp_path, monkeypatch, held):
    monkeypatch.setattr(indexed_examples, "HELD", held)
    write_lines(tmp_path / "parts" / "b.ndjson", ROWS[1:])
    write_lines(tmp_path / "parts" / "a.jsonl", ROWS[:1])
    (tmp_path / "parts" / "README.md").write_text("no rows")
    (tmp_path / "parts" / ".c.jsonl").write_text("no rows")
    write_lines(tmp_path / "whole.jsonl")
    (whole,) = FORMAT.read({"test": tmp_path / "whole.jsonl"}).values()
    for path in (tmp_path / "parts", tmp_path / "parts" / "*.*js*"):
        (parts,) = FORMAT.read({"test": path}).values()
        assert isinstance(parts, View) == (not held)
        assert [(each.id, each.text, each.label) for each in parts] == [
            (each.id, each.text, each.label) for each in whole
        ]
        assert parts[2].place == f"{tmp_path}/parts/b.ndjson:2"
        assert pickle.loads(pickle.dumps(parts))[1] == parts[1]
        with pytest.raises(IndexError):
            parts[3]


@pytest.mark.parametrize("held", [2**25, 0])
def test_rows_without_words_are_left_out_and_counted(tmp_path, monkeypatch, held):
    monkeypatch.setattr(indexed_examples, "HELD", held)
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    rows = [{"tokens": words, "ner_tags": ["O"] * len(words)} for words in (["a"], [], ["b", "c"], ["d"], [])]
    write_lines(tmp_path / "a.jsonl", rows)
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for part in "bc":
        write_lines(tmp_path / "parts" / f"{part}.jsonl", rows)
    format = RowFiles(rows=SentenceRows(skip_empty=True))
    for path, times in ((tmp_path / "a.jsonl", 1), (tmp_path / "a.parquet", 1), (tmp_path / "parts", 2)):
        (split,) = format.read({"train": path}).values()
        assert isinstance(split, View) == (not held)
        assert [sentence.words for sentence in split] == [["a"], ["b", "c"], ["d"]] * times
        assert [sentence.id for sentence in split] == [f"train:{n}" for n in range(3 * times)]
        assert [sentence.lines[0] for sentence in split] == [1, 3, 4] * times
        assert split.counts == {"left_out": 2 * times}
        with pytest.raises(DataError, match=r":2: 'tokens' is empty.*data\.format\.rows\.skip_empty=true"):
            RowFiles(rows=SentenceRows()).read({"train": path})
    assert UtteranceRows(skip_empty=True).example_of({"words": [], "tags": []}, "train:0", Place("a", 1)) is None
    bad = write_lines(tmp_path / "bad.jsonl", [{"tokens": [], "ner_tags": ["O"]}])
    with pytest.raises(DataError, match=r":1: 'tokens' is empty"):
        format.read({"train": bad})


def test_rows_of_csv_may_be_left_out(tmp_path, monkeypatch):
    class Good(TextRows):
        def example_of(self, row, id, place):
            return None if row["label"] is None else super().example_of(row, id, place)

    (tmp_path / "a.csv").write_text('text,label\n"a\nb",x\nc,\n"d\ne",\nf,y\n')
    for held in (2**25, 0):
        monkeypatch.setattr(indexed_examples, "HELD", held)
        (split,) = RowFiles(rows=Good()).read({"train": tmp_path / "a.csv"}).values()
        assert [(text.id, text.text, text.line) for text in split] == [("train:0", "a\nb", 2), ("train:1", "f", 7)]
        assert split.counts == {"left_out": 2}


def test_tags_of_other_schemes_become_bio():
    def tags_of(reader, *tags):
        row = {"tokens": ["a"] * len(tags), "ner_tags": tags, "words": ["a"] * len(tags), "tags": tags, "intent": "x"}
        return reader.example_of({key: [*one] for key, one in row.items()} | {"intent": "x"}, "0", Place("f", 1)).tags

    for kind in (SentenceRows, UtteranceRows):
        assert tags_of(kind(scheme="bmes"), "S-A", "B-A", "E-A") == ["B-A", "B-A", "I-A"]
        assert tags_of(kind(scheme="iob1"), "I-A", "B-A", "O") == ["B-A", "B-A", "O"]
        assert tags_of(kind(invalid_tags="repair"), "I-A", "I-B", "E-B") == ["B-A", "B-B", "I-B"]
        assert set(kind(scheme="bmes").columns) <= {"words", "tags", "group", "intent"}
        with pytest.raises(DataError, match=r"f:1: .*data\.format\.rows\.invalid_tags=repair"):
            tags_of(kind(), "O", "I-A")


def test_parts_that_are_missing(tmp_path):
    """The names of files count their parts; a pattern may choose some of them."""
    write_lines(tmp_path / "train-00001-of-00003.jsonl")
    write_lines(tmp_path / "test-00000-of-00001.jsonl")
    for pattern, rows in [
        ("train-00001-of-00003.jsonl", 3),
        ("train-00001-*.jsonl", 3),
        ("test-*.jsonl", 3),
        ("train-*.jsonl", "2 of 3 parts are missing, 'train-00000-of-00003.jsonl' for one"),
        ("train-0000*-of-*", "2 of 3 parts are missing"),
        ("", "2 of 3 parts are missing"),
    ]:
        if isinstance(rows, int):
            assert len(FORMAT.read({"train": tmp_path / pattern})["train"]) == rows
        else:
            with pytest.raises(DataError, match=rows):
                FORMAT.read({"train": tmp_path / pattern})
    write_lines(tmp_path / "train-00002-of-00003.jsonl")
    with pytest.raises(DataError, match="1 of 3 parts are missing"):
        FORMAT.read({"train": tmp_path})
    for name in ("train-00000-of-00003.jsonl", "dev-1-of-2-0af3.jsonl", "dev-2-of-2-77bc.jsonl"):
        write_lines(tmp_path / name)
    assert len(FORMAT.read({"train": tmp_path})["train"]) == 18


def test_sentences(tmp_path):
    rows = RowFiles(rows=SentenceRows())
    good = {"tokens": ["Ada", "left"], "ner_tags": ["B-PER", "O"]}
    (split,) = rows.read({"train": write_lines(tmp_path / "a.jsonl", [good])}).values()
    assert (split[0].words, split[0].tags, split[0].place) == (["Ada", "left"], ["B-PER", "O"], f"{tmp_path}/a.jsonl:1")
    for change, message in [
        ({"ner_tags": ["O"]}, "'tokens' has 2 words, and 'ner_tags' 1 tags"),
        ({"ner_tags": ["O", "I-PER"]}, r"'ner_tags\[1\]': .*I-PER"),
        ({"ner_tags": ["O", "PERSON"]}, r"'ner_tags\[1\]': .*PERSON"),
        ({"tokens": [], "ner_tags": []}, "'tokens' is empty"),
        ({"tokens": "Ada left"}, ".*expected a list of texts"),
    ]:
        with pytest.raises(DataError, match=rf"a\.jsonl:2: {message}"):
            rows.read({"train": write_lines(tmp_path / "a.jsonl", [good, good | change])})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            "",
            r"a\.jsonl: empty split 'train': it holds no row\. Expected rows with the columns",
        ),
        ("a.jsonl", '{"title": "a"}\n', r"a\.jsonl:1: there is no column 'topic'"),
        ("a.jsonl", "\n[1]\n", r"a\.jsonl:2: is not a JSON object\. Write one a line, with 'title', 'topic', 'who'"),
        ("a.txt", "x", r"a\.txt: what kind of file is it\? Its name ends with none of \.jsonl"),
        ("b/a.txt", "x", r"b: there is no file of rows: none ends with \.jsonl"),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        FORMAT.read({"train": tmp_path / name.split("/")[0]})
    with pytest.raises(DataError, match="no such file"):
        FORMAT.read({"train": tmp_path / "c.jsonl"})


def test_the_splits_of_a_folder(tmp_path):
    """They are files where there are any beside each other, else folders; a saved data set may be one split."""
    format = RowFiles(rows=TextRows(text="title", label="topic"))

    def splits_of(path: Path) -> dict:
        fetched = FilesSource(path=path).fetch()
        return split_files(Splits(), fetched, takes_folders(format, fetched.path))

    for name in ("train", "test"):
        write_lines(tmp_path / "files" / f"{name}.jsonl")
        (tmp_path / "folders" / name).mkdir(parents=True)
        write_lines(tmp_path / "folders" / name / "0000.jsonl")
    assert splits_of(tmp_path / "files") == {"train": "train.jsonl", "validation": 0.1, "test": "test.jsonl"}
    assert splits_of(tmp_path / "folders") == {"train": "train", "validation": 0.1, "test": "test"}
    assert splits_of(tmp_path / "files" / "train.jsonl")["train"] == "train.jsonl"
    saved = tmp_path / "saved" / "train"
    saved.mkdir(parents=True)
    (saved.parent / "dataset_dict.json").write_text('{"splits": ["train"]}')
    for name in "ba":
        write_lines(saved / f"{name}.jsonl")
    (saved / "dataset_info.json").write_text("{}")
    (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": "b.jsonl"}]}))
    assert splits_of(saved.parent) == {"train": "train", "validation": 0.1, "test": 0.1}
    assert splits_of(saved) == {"train": ".", "validation": 0.1, "test": 0.1}
    (read,) = format.read({"train": saved}).values()
    assert [each.file for each in read] == [str(saved / "b.jsonl")] * 3
    for state, message in [
        ("{", "is no list of the files"),
        ('{"_data_files": [{"filename": "../b.jsonl"}]}', "is no list of the files"),
        ('{"_data_files": [], "_indices_data_files": [1]}', "are a selection"),
    ]:
        (saved / "state.json").write_text(state)
        with pytest.raises(DataError, match=rf"state\.json: .*{message}"):
            format.read({"train": saved})


def test_files_of_a_pattern_have_one_digest(tmp_path):
    for name in ("train-0.jsonl", "train-1.jsonl", "test.jsonl"):
        write_lines(tmp_path / name)
    fetched = FilesSource(path=tmp_path).fetch()
    path = fetched.file("train-*.jsonl")
    assert len(FORMAT.read({"train": path})["train"]) == 6
    first = fetched.digest("train-*.jsonl")
    write_lines(tmp_path / "train-1.jsonl", ROWS[:1])
    assert fetched.digest("train-*.jsonl") != first
    with pytest.raises(SourceError, match="No such file"):
        fetched.file("dev-*.jsonl")


def test_delimited_files(tmp_path, monkeypatch):
    format = RowFiles(rows=TextRows(text="title", label="topic", group="who"))
    path = tmp_path / "a.csv"
    content = 'sep=;\r\nwho; title;topic;more\r\n"a";"Üb;er\r\n""uns""";3;\r\n\r\nb;x;yes;1,5\r\nb;y;no;'
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_bytes(content.encode(encoding))
        small = format.read({"train": path})["train"]
        assert [(each.text, each.label, each.group, each.line) for each in small] == [
            ('Üb;er\r\n"uns"', "3", "a", 3),
            ("x", "yes", "b", 6),
            ("y", "no", "b", 7),
        ]
        with monkeypatch.context() as patch:
            patch.setattr(indexed_examples, "HELD", 0)
            large = format.read({"train": path})["train"]
        assert isinstance(large, View) == (encoding != "utf-16")
        assert list(large) == list(small)
    for name, wrong, message in [
        ("a.csv", "who;title;topic\na;b;c\n", "the delimiter is not ','.*Write sep=; in a first line"),
        ("a.csv", "who,title,topic\na,b\n", ":2: expected 3 columns as in line 1, found 2"),
        ("a.csv", "who,title,topic\na,b,c\nwho,title,topic\n", ":3: the row repeats the header"),
        ("a.csv", "who,title,topic\na,,c\n", ":2: 'title' is null; expected a text"),
        ("a.csv", "who,title,title\na,b,c\n", ":1: 2 columns are called 'title'"),
        ("a.csv", "who,title,topics\na,b,c\n", ":2: there is no column 'topic'. Did you mean 'topics'"),
        ("a.csv", 'who,title,topic\na,"b"c,d\n', ":2: the row that begins here cannot be read"),
        ("a.tsv", "who\ttitle\ttopic\n", ": empty split 'train'"),
        ("a.tsv", "\n", ": empty split 'train'"),
    ]:
        (tmp_path / name).write_text(wrong)
        for held in (0, 2**25):
            monkeypatch.setattr(indexed_examples, "HELD", held)
            with pytest.raises(DataError, match=rf"{name}.*{message}"):
                format.read({"train": tmp_path / name})


@pytest.mark.parametrize("held", [2**25, 0])
def test_a_plain_quotation_mark_swallows_no_rows(tmp_path, monkeypatch, held):
    monkeypatch.setattr(indexed_examples, "HELD", held)
    rows = [f"text {n}\t{['yes', 'no'][n % 2]}\t{n / 7}" for n in range(40)]
    for first, last in [(3, 30), (0, 39), (6, 7)]:
        lines = list(rows)
        lines[first], lines[last] = f'"{lines[first]}', lines[last].replace("\t", '"\t', 1)
        for delimiter, end in (("\t", "\n"), (",", "\r\n")):
            path = tmp_path / ("a.tsv" if delimiter == "\t" else "a.csv")
            content = end.join(["title\ttopic\twho", *lines, ""]).replace("\t", delimiter)
            path.write_text(content, newline="")
            with pytest.raises(
                DataError,
                match=rf"{path.name}:{first + 2}: a quotation mark opens a field that ends in line {last + 2}, and the "
                rf"{last - first + 1} lines are rows by themselves\. Write",
            ):
                FORMAT.read({"train": path})


def test_a_text_of_several_lines_is_a_text(tmp_path):
    format = RowFiles(rows=TextRows(text="title", label="topic"))
    for text in ("Pros:,fast\nCons:,loud", "one, two\nthree, four\nfive, six", "1999, spring\n2000, summer"):
        path = tmp_path / "a.csv"
        path.write_text(f'title,topic\nx,yes\n"{text}",no\n"y, z",no\n')
        assert [each.text for each in format.read({"train": path})["train"]] == ["x", text, "y, z"]
