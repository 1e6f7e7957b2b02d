from __future__ import annotations

import json

import pytest

from peftlab.composing.compose import conf_dir
from peftlab.errors import ConfigError
from peftlab.use.data_set import card_of, option_for, task_of_experiments


@pytest.mark.parametrize(
    ("files", "option"),
    [
        (["my.csv"], "csv"),
        (["MY.TSV"], "csv"),
        (["my.jsonl"], "json_lines"),
        (["my.conll"], "files"),
        (["my.parquet"], "rows"),
        (["folder/train.csv", "folder/README.md"], "csv"),
        (["folder/dataset_dict.json", "folder/train/state.json"], "rows"),
        (["folder/good/1.txt", "folder/bad/2.txt"], "folders"),
    ],
)
def test_a_suffix_says_how_to_read(tmp_path, files, option):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert (conf_dir() / "data" / f"{option}.yaml").is_file()
    assert option_for(tmp_path / files[0].partition("/")[0]) == option


@pytest.mark.slow
@pytest.mark.parametrize("files", [["my.txt"], ["my.json"], ["folder/a.csv", "folder/b.jsonl"], ["folder/a.txt"]])
def test_what_is_not_clear_has_to_be_named(tmp_path, files):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(
        ConfigError, match=r"its name does not say how to read it\. Name the option, data=\.\.\.: .*csv"
    ):
        option_for(tmp_path / files[0].partition("/")[0])


@pytest.mark.slow
def test_the_task_is_the_one_that_takes_the_examples(tiny_texts, tiny_data, tiny_model):
    card = card_of(str(tiny_texts), ["data.source.licence=mine"])
    assert (card.name, card.task, card.splits["train"].rows) == ("csv", "classification", 48)
    assert card.licence == "mine"
    card = card_of(str(tiny_data), ["data=files"], str(tiny_model))
    assert (card.name, card.task, card.splits["train"].lengths.unit) == ("files", "ner", "tokens")
    assert card.splits["train"].classes.keys() == {"LOC", "ORG", "PER"}


@pytest.mark.slow
def test_rows_with_numbers_are_for_regression(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "text {n}", "label": {n / 7}}}\n' for n in range(40)))
    assert card_of(str(path), ["data=numbers"]).task == "regression"


def test_an_experiment_says_what_a_data_set_is_for():
    vader = conf_dir() / "experiment" / "regression_vader.yaml"
    assert "task: regression" in vader.read_text(encoding="utf-8")
    assert task_of_experiments("vader") == "regression"
    assert task_of_experiments("json_lines") is None


@pytest.mark.slow
def test_a_reader_of_numbers_says_what_it_is_for(tmp_path):
    rows = ({"text": f"text number {n}", "label": n / 7} for n in range(40))
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    card = card_of(str(tmp_path / "my.jsonl"), ["data=numbers", "data.splits.test=0.2", "data.splits.validation=0.2"])
    assert (card.name, card.task) == ("numbers", "regression")
    assert not any("label" in warning for warning in card.warnings)


@pytest.mark.slow
def test_settings_are_those_of_a_run(tiny_texts):
    card = card_of(str(tiny_texts), ["data.splits.validation=0.25", "data.duplicates=drop"])
    assert card.splits["train"].dropped
    assert card.splits["validation"].file == "train.csv"
    with pytest.raises(ConfigError, match=r"task=ner takes a Sentence"):
        card_of(str(tiny_texts), ["task=ner"])


def test_what_is_not_there_is_told_with_what_there_is():
    with pytest.raises(ConfigError, match=r"'conll2002' is neither .* Did you mean 'conll2003'\? Data sets: .*csv"):
        card_of("conll2002")


@pytest.mark.parametrize(
    ("keys", "option"),
    [
        (["messages"], "conversations"),
        (["instruction", "input", "output"], "conversations"),
        (["prompt", "answer", "id"], "conversations"),
        (["source", "target"], "source_target"),
        (["prompt", "chosen", "rejected"], "preferences"),
        (["text", "messages", "label"], "json_lines"),
        (["prompt"], "json_lines"),
    ],
)
def test_the_keys_of_objects_say_what_they_are(tmp_path, keys, option):
    (tmp_path / "train.jsonl").write_text(json.dumps(dict.fromkeys(keys, "a")) + "\n")
    assert (conf_dir() / "data" / f"{option}.yaml").is_file()
    assert option_for(tmp_path) == option_for(tmp_path / "train.jsonl") == option
