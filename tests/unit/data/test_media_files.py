"""Files as examples, of folders and of tables: names, labels, groups, digests; what cannot be read."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json

import numpy as np
import pytest

from peftlab.data.attributes import by_column
from peftlab.data.held_out import hold_out
from peftlab.data.idx_files import IdxPictures
from peftlab.data.media_files import MediaTable
from peftlab.data.picture_files import PictureFolders, PictureRows
from peftlab.errors import ConfigError, DataError
from peftlab.images.pictures import decoded
from peftlab.storage.digests import folder_sha256
from peftlab.tasks.inputs.media_files import UnreadableFilesError


@pytest.fixture
def folder(tmp_path):
    for name, content in {"a/p1_x.png": b"1", "a/p1_y.PNG": b"2", "b/p2.jpg": b"3", "b/notes.txt": b"4"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "b" / ".hidden.png").write_bytes(b"5")
    return tmp_path


def test_a_folder_for_each_class(folder):
    found = PictureFolders(group="_").read({"train": folder})["train"]
    assert [(one.id, one.name, one.label, one.group) for one in found] == [
        ("train:0", "a/p1_x.png", "a", "p1"),
        ("train:1", "a/p1_y.PNG", "a", "p1"),
        ("train:2", "b/p2.jpg", "b", "p2"),
    ]
    assert found.counts == {"left_out": 1}
    assert [one.sha256 for one in found] == [hashlib.sha256(content).hexdigest() for content in (b"1", b"2", b"3")]
    assert found.sha256 == folder_sha256(folder)
    assert [one.read() for one in found] == [b"1", b"2", b"3"]
    (folder / "a/p1_x.png").write_bytes(b"!")
    with pytest.raises(DataError, match="has changed"):
        found[0].read()
    with pytest.raises(DataError, match=r"holds a file that ends with one of \.bmp"):
        PictureFolders(suffixes=[".bmp"]).read({"train": folder})


def test_every_file_is_read_once(folder, monkeypatch):
    from peftlab.data import media_files

    read = []
    monkeypatch.setattr(media_files, "read_file", lambda path: read.append(path.name) or path.read_bytes())
    monkeypatch.setattr("peftlab.storage.digests.file_sha256", lambda path: read.append(path.name) or "0" * 64)
    PictureFolders().read({"train": folder})
    assert sorted(read) == ["notes.txt", "p1_x.png", "p1_y.PNG", "p2.jpg"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_table_names_files_beside_it(folder, kind):
    rows = [{"file": "a/p1_x.png", "class": "yes", "patient": 7}, {"file": "b/p2.jpg", "class": "no", "patient": 8}]
    table = folder / f"train.{kind}"
    with table.open("w", newline="") as out:
        if kind == "csv":
            writer = csv.DictWriter(out, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        else:
            out.writelines(json.dumps(row) + "\n" for row in rows)
    format = MediaTable(rows=PictureRows(path="file", label="class", group="patient"))
    found = format.read({"train": table})["train"]
    assert [(one.name, one.label, one.group, one.read()) for one in found] == [
        ("a/p1_x.png", "yes", "7", b"1"),
        ("b/p2.jpg", "no", "8", b"3"),
    ]
    assert found[1].place == f"{table}:{3 if kind == 'csv' else 2}: {folder / 'b/p2.jpg'}"
    before = found.sha256
    assert format.digest(table) == before
    (folder / "b/p2.jpg").write_bytes(b"other")
    assert format.digest(table) != before
    assert format.rows.asked({"file": "x.png"}) == {"file": "x.png", "path": "x.png"}


def test_groups_are_held_out_whole_and_equal_files_together(tmp_path):
    texts = [hashlib.sha256(f"{n // 2}".encode()).hexdigest() for n in range(400)]  # each file twice
    split_of = hold_out(texts, {"test": 0.3}, [f"patient {n // 8}" for n in range(400)])
    for start in range(0, 400, 8):
        assert len(set(split_of[start : start + 8])) == 1
    assert 0.15 < split_of.count("test") / 400 < 0.45


def test_all_that_cannot_be_read_is_named_and_ten_are_listed(folder):
    (folder / "empty.png").touch()
    names = [*(f"no{n}.png" for n in range(12)), "empty.png", "a"]
    (folder / "train.csv").write_text("path,label\n" + "".join(f"{name},x\n" for name in names))
    with pytest.raises(UnreadableFilesError) as error:
        MediaTable(rows=PictureRows()).read({"train": folder / "train.csv"})
    assert [reason.rpartition(": ")[2] for reason in error.value.reasons] == [
        *["there is no such file"] * 12,
        "the file is empty",
        "is a folder, and no file",
    ]
    told = str(error.value).splitlines()
    assert told[0] == "cannot use 14 files, to be mended or taken out of the data:"
    assert len(told) == 12
    assert told[1].endswith(f"train.csv:2: {folder / 'no0.png'}: there is no such file")
    assert told[-1] == "  and 4 more"


def idx(values):
    array = np.asarray(values, np.uint8)
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return head + array.tobytes()


def test_the_files_of_mnist(tmp_path):
    pictures = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    path, labels = tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(pictures)))
    labels.write_bytes(gzip.compress(idx([1, 0, 1])))
    format = IdxPictures(names=["shirt", "bag"])
    found = format.read({"train": path})["train"]
    assert [one.label for one in found] == ["bag", "shirt", "bag"]
    assert found[2].name == "train-images-idx3-ubyte.gz#2"
    for one, picture in zip(found, pictures, strict=True):
        assert (decoded(one.read()).values == picture[..., None]).all()
    before = found.sha256
    labels.write_bytes(gzip.compress(idx([1, 1, 1])))
    assert format.digest(path) != before
    for content, reason in (
        (idx([2, 0, 0]), "has the label 2"),
        (idx([0]), "3 pictures, and 1 labels"),
        (idx([0, 1, 0])[:-1], "2 values, and"),
        (b"\x1f\x8b", "cannot be read"),
        (b"", "no IDX file"),
    ):
        labels.write_bytes(content)
        with pytest.raises(DataError, match=reason):
            format.read({"train": path})


def test_a_folder_has_no_columns_of_groups():
    """Its ``group`` is a separator, which the name of a column is not."""
    assert by_column(MediaTable(rows=PictureRows()), "sex").rows.group == "sex"
    with pytest.raises(ConfigError, match="column=sex: files of PictureFolders have no columns"):
        by_column(PictureFolders(), "sex")
