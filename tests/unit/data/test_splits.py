from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from peftlab.data.splits import Splits, file_of, named_for, split_files
from peftlab.errors import ConfigError, DataError
from peftlab.sources import FilesSource


@pytest.fixture
def folder_of(tmp_path: Path):
    """Return a maker of a folder with such files; names that end with a slash are folders."""

    def make(*names: str) -> Path:
        folder = tmp_path / "files"
        folder.mkdir()
        for name in names:
            (folder / name).mkdir(parents=True) if name.endswith("/") else (folder / name).write_text("a")
        return folder

    return make


def files_of(path: Path, folders=False, **named):
    return split_files(Splits(**named), FilesSource(path=path).fetch(), folders)


class TestFiles:
    @pytest.mark.parametrize(
        "names",
        [
            ("train.txt", "dev.txt", "test.txt"),
            ("train.txt", "valid.txt", "test.txt"),
            ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"),
            ("NER-TRAIN.tsv", "NER-Validation.tsv", "NER-TEST.tsv"),
        ],
    )
    def test_they_are_found_by_their_names(self, folder_of, names):
        folder = folder_of(*names, "README.md", ".train.txt.swp", "training-logs/")
        assert tuple(files_of(folder).values()) == names
        assert list(files_of(folder)) == ["train", "validation", "test"]

    def test_named_files_are_taken_as_they_are(self, folder_of):
        folder = folder_of("a", "b", "train.txt")
        assert files_of(folder, validation="a", test="sub/b") == {
            "train": "train.txt",
            "validation": "a",
            "test": "sub/b",
        }

    def test_two_files_that_could_be_meant(self, folder_of):
        folder = folder_of("train.txt", "dev.txt", "test_a.txt", "test_b.txt")
        with pytest.raises(ConfigError) as error:
            files_of(folder)
        assert str(error.value) == (
            f"data.splits.test: which file of {folder}? several could be meant (test_a.txt, test_b.txt). Name it: "
            "data.splits.test=FILE, or a share of the training file to hold out, data.splits.test=0.1; or put one of "
            "test into its name"
        )
        assert files_of(folder, test="test_b.txt")["test"] == "test_b.txt"

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (
                # it might be what the user calls his validation set: nothing is held out behind his back
                ["train.txt", "test.txt", "extra.txt", "LICENSE"],
                "data.splits.validation: which file of FOLDER? no file's name says so; there is extra.txt. Name it: "
                "data.splits.validation=FILE, or a share of the training file to hold out, "
                "data.splits.validation=0.1; or put one of valid, validation, val, dev into its name",
            ),
            (
                ["a.csv", "test.csv", "b.csv"],
                "data.splits.train: which file of FOLDER? no file's name says so; there is a.csv, b.csv. Name it: "
                "data.splits.train=FILE; or put one of train into its name",
            ),
        ],
        ids=["validation", "train"],
    )
    def test_files_whose_names_say_nothing(self, folder_of, names, message):
        folder = folder_of(*names)
        with pytest.raises(ConfigError) as error:
            files_of(folder)
        assert str(error.value).replace(str(folder), "FOLDER") == message

    def test_without_another_file_a_tenth_is_held_out(self, folder_of, caplog):
        folder = folder_of("train.csv", "test.csv", "categories.json", "LICENSE")
        with caplog.at_level("INFO", logger="peftlab"):
            files = files_of(folder)
        assert files == {"train": "train.csv", "validation": 0.1, "test": "test.csv"}
        assert [file_of(files, split) for split in files] == ["train.csv", "train.csv", "test.csv"]
        assert caplog.messages == ["no validation split: a share of 0.1 of 'train.csv' is held out for it"]

    def test_a_source_of_one_file_is_the_training_file(self, folder_of):
        folder = folder_of("mine.csv", "test.csv", "other.csv")
        assert files_of(folder / "mine.csv") == {"train": "mine.csv", "validation": 0.1, "test": 0.1}
        assert files_of(folder / "mine.csv", test="test.csv")["test"] == "test.csv"

    def test_a_folder_that_is_none(self, folder_of):
        with pytest.raises(DataError, match=r"a\.csv: is not a folder; name the folder that holds the files"):
            named_for("train", folder_of("a.csv") / "a.csv")


class TestFolders:
    def test_they_are_found_by_their_names(self, folder_of):
        folder = folder_of("train/", "dev/", "test/", "training/", ".git/", "test.txt")
        assert files_of(folder, folders=True) == {"train": "train", "validation": "dev", "test": "test"}

    def test_words_within_names_of_classes_do_not_count(self, folder_of):
        folder = folder_of("interval/", "trains/", "contest/")
        assert files_of(folder, folders=True) == {"train": ".", "validation": 0.1, "test": 0.1}

    def test_splits_without_one_to_train_on(self, folder_of):
        with pytest.raises(ConfigError, match=r"no folder's name says so; there is test\. Name it: .*train=FOLDER;"):
            files_of(folder_of("test/", "a/"), folders=True)


class TestShares:
    @pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 2])
    def test_they_are_between_nothing_and_all(self, share):
        with pytest.raises(ValidationError):
            Splits(test=share)

    def test_something_is_left_to_train_on(self):
        with pytest.raises(ValidationError, match=r"validation=0\.5 and test=0\.5 leave nothing to train on"):
            Splits(validation=0.5, test=0.5)
