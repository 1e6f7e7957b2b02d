"""Documents are held out whole, whatever their sentences share, and near duplicates of them are named."""

from __future__ import annotations

import logging
import random
from types import SimpleNamespace

import pytest

from peftlab.data.columns import Columns
from peftlab.data.documents import check_documents, document_key, near_documents, whole_texts
from peftlab.data.form import has_groups
from peftlab.data.reading import read_data_set
from peftlab.data.spec import DataSpec
from peftlab.data.splits import Splits
from peftlab.errors import DataError
from peftlab.sources import FilesSource
from peftlab.tasks.inputs.questions import Question
from peftlab.tasks.ner import Ner
from peftlab.tasks.task import Selection

NER = Ner(name="ner", selection=Selection(metric="entity_f1", mode="max"))
BOILERPLATE = "All O\nrights O\nare O\nreserved O\nby O\nthe O\npublisher O\n"


def corpus(path, documents, seed=0):
    """Write documents of three sentences, the last of which they all share."""
    draw = random.Random(seed)
    with path.open("w") as file:
        for _ in range(documents):
            file.write("-DOCSTART- O\n\n")
            for _ in range(2):
                words = [f"w{draw.randrange(500)}" for _ in range(9)]
                file.write("".join(f"{word} {'B-X' if n == 0 else 'O'}\n" for n, word in enumerate(words)) + "\n")
            file.write(BOILERPLATE + "\n")


def spec(folder, **options):
    return DataSpec(
        name="tiny",
        source=FilesSource(path=str(folder)),
        splits=Splits(validation=0.2, test=0.2),
        format=Columns(documents=True),
        **options,
    )


def test_no_document_is_in_two_splits(tmp_path, caplog):
    corpus(tmp_path / "train.txt", 60)
    with caplog.at_level(logging.INFO, "peftlab"):
        splits, _ = read_data_set(spec(tmp_path), NER)
    groups = {split: {sentence.group for sentence in members} for split, members in splits.items()}
    assert all(groups.values())
    assert sum(map(len, groups.values())) == 60 == len(set.union(*groups.values()))
    assert "none is nearly in two splits" in caplog.text
    again, _ = read_data_set(spec(tmp_path, fold="2/3"), NER)
    folds = [{sentence.group for sentence in again[split]} for split in ("train", "test")]
    assert 10 < len(folds[1]) < 20
    assert not folds[0] & folds[1]


def test_near_duplicates_in_two_splits_are_named(tmp_path, caplog):
    for name, seed in (("train", 0), ("test", 1)):
        corpus(tmp_path / f"{name}.txt", 5, seed)
    copy = (tmp_path / "train.txt").read_text().split("-DOCSTART- O\n\n")[2]
    with (tmp_path / "test.txt").open("a") as file:
        file.write(f"-DOCSTART- O\n\n{copy}new O\n\n")
    read = Columns(documents=True).read({name: tmp_path / f"{name}.txt" for name in ("train", "test")})
    key = NER.text_key
    assert near_documents(read, key) == [("train: train:1", "test: test:5")]
    assert [len(set(whole_texts(members, key)[1])) for members in read.values()] == [5, 6]
    with caplog.at_level(logging.INFO, "peftlab"):
        check_documents(read, key)
    assert "train: train:1 and test: test:5" in caplog.text


def test_documents_that_no_line_begins(tmp_path):
    (tmp_path / "train.txt").write_text(BOILERPLATE)
    with pytest.raises(DataError, match="no line begins with -DOCSTART-"):
        Columns(documents=True).read({"train": tmp_path / "train.txt"})
    assert has_groups(Columns(documents=True))
    assert not has_groups(Columns())


def test_texts_of_questions_are_documents():
    """Two questions about a text, and one about nearly the same text in another split."""
    text = " ".join(f"w{n}" for n in range(60))
    train = [Question(f"train:{n}", f"{n} ?", text, None, group="a") for n in range(2)]
    test = [Question("test:0", "3 ?", f"{text} more", None, group="b")]
    key = document_key(SimpleNamespace(example=Question))
    assert whole_texts(train, key) == ([text], [0, 0])
    assert near_documents({"train": train, "test": test}, key) == [("train: a", "test: b")]
