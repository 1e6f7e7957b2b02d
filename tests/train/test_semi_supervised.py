"""Whole runs that learn from texts without labels."""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from peftlab.data.sampling import random_sample
from peftlab.errors import ConfigError, DataError
from peftlab.runs.folder import RunFolder
from peftlab.terminal.signals import Interrupted
from peftlab.use.check import check

pytestmark = pytest.mark.slow

SHORT = [
    "budget.max_steps=6",
    "budget.train_examples=12",
    "data.batch_size=4",
    "model.dropout=0.2",
    "data.max_tokens=64",
]
PLAIN = ["semi.strong=null", "semi.mu=3"]
"""Without WordNet, whose dictionary is not here."""


@pytest.fixture
def texts(tiny_texts):
    return ["task=classification", "data=csv", f"data.path={tiny_texts}", *SHORT]


@pytest.fixture
def run_texts(run_tiny, texts):
    return lambda *overrides: run_tiny(*texts, *overrides)


def weights(record):
    return load_file(record.folder / "checkpoints" / "best.safetensors")


def trail(record):
    return (record.folder / "trail.jsonl").read_bytes()


def semi(record):
    return record.extensions["semi_supervised"]


def test_without_a_certain_guess_it_is_the_supervised_run_bit_for_bit(run_texts, capsys):
    """The draws of texts, and the passes over them, leave the random numbers of the rest as they are."""
    supervised = run_texts("run_dir=supervised")
    nothing = run_texts("semi=fixmatch", *PLAIN, "semi.threshold=1.01", "run_dir=nothing")
    assert trail(nothing) == trail(supervised)
    assert semi(nothing) | {"windows": []} == {
        **{"texts": 27, "held_out": 9, "labels_hidden": True, "edited": {}},
        **{"seen": 6 * 4 * 3, "used": 0, "mask_rate": 0.0, "windows": []},
        "mean_confidence": semi(nothing)["mean_confidence"],
    }
    assert "no effect: semi has not acted" in capsys.readouterr().out
    assert "regularizers" not in nothing.extensions
    off = run_texts("semi=fixmatch", "semi.lambda_u=0", "run_dir=off")
    assert trail(off) == trail(supervised)
    assert "semi_supervised" not in off.extensions
    assert "no effect: semi: lambda_u=0 leaves it out" in capsys.readouterr().out


def test_hidden_labels_change_no_bit(run_texts, tiny_texts, tmp_path):
    """Those of the training texts that the sample leaves out; the record alone knows them."""
    labels = "data.labels=[compare,hire,move,nothing,report]"
    options = ["semi=softmatch", *PLAIN, labels]
    record = run_texts(*options, "run_dir=first")
    folder = Path(shutil.copytree(tiny_texts, tmp_path / "permuted"))
    with (folder / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    left_out = sorted(set(range(len(rows))) - set(random_sample(len(rows), 12).tolist()))
    moved = [rows[n]["label"] for n in left_out]
    random.Random(0).shuffle(moved)
    for n, label in zip(left_out, moved, strict=True):
        rows[n]["label"] = label
    with (folder / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    permuted = run_texts(*options, f"data.path={folder}", "run_dir=second")
    assert trail(permuted) == trail(record)
    assert semi(permuted)["accuracy"] != semi(record)["accuracy"]
    assert semi(permuted)["classes"] == semi(record)["classes"]


@pytest.mark.parametrize("option", ["softmatch", "adamatch"])
def test_it_is_resumed_bit_for_bit(run_texts, signalled_at, option):
    """With what it has learnt of the steps before, and what it has counted."""
    options = [f"semi={option}", *PLAIN, "trainer.checkpoint_every=2", "budget.max_steps=9"]
    whole = run_texts(*options, "run_dir=whole")
    signalled_at(5)
    with pytest.raises(Interrupted):
        run_texts(*options, "run_dir=parts")
    resumed = run_texts(*options, "run_dir=parts")
    assert trail(resumed) == trail(whole)
    assert semi(resumed) == semi(whole)
    assert semi(whole)["used"] > 0
    assert check(RunFolder(resumed)).causes == []


DIVIDED = {
    "parts": ["trainer.accumulate=2"],
    "ranks": ["trainer.devices=2"],
    "filled up": ["trainer.static_shapes=true"],
    "pieces": [],
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("option", ["mixtext", "softmatch"])
def test_a_divided_step_is_the_step(run_texts, small_memory, option):
    """Words are deleted and change places, as they would be in the undivided step; the last batch is smaller."""
    options = [f"semi={option}", "semi.mu=3", "~semi.strong.synonym", "budget.train_examples=10"]
    options += ["model.dropout=0", "model.attention_dropout=0", "model.head_dropout=0"]
    whole = run_texts(*options, "run_dir=whole")
    for how, overrides in DIVIDED.items():
        more = overrides or [each.replace("positions=80", "positions=8") for each in small_memory("backward")]
        divided = run_texts(*options, *more, f"run_dir={how.replace(' ', '_')}")
        assert semi(divided)["used"] == semi(whole)["used"] > 0, how
        for name, tensor in weights(whole).items():
            torch.testing.assert_close(weights(divided)[name], tensor, rtol=1e-3, atol=1e-5, msg=how)
    assert divided.events("out of memory")


def test_texts_of_a_file_are_part_of_the_identity_and_its_place_is_not(run_texts, tiny_texts, tmp_path, run_tiny):
    with (tiny_texts / "test.csv").open(newline="", encoding="utf-8") as file:
        tested = [row["text"] for row in csv.DictReader(file)][:2]
    lines = [json.dumps({"text": text}) for text in ["Anna moves to Rome", "nobody said a word", tested[0].upper()]]
    first, second = tmp_path / "first.jsonl", tmp_path / "second.txt"
    first.write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(first, tmp_path / "copy.jsonl")
    second.write_text("Anna moves to Rome\n", encoding="utf-8")
    options = ["semi=self_training", "semi.threshold=0", "semi.ramp_up=0", "budget.train_examples=null"]
    runs = [
        run_texts(*options, f"semi.unlabelled={file}", f"run_dir=of_{file.stem}")
        for file in (first, tmp_path / "copy.jsonl", second)
    ]
    identities = [run.data["identity"]["sha256"] for run in runs]
    assert identities[0] == identities[1] != identities[2]
    assert semi(runs[0])["texts"] == 2
    assert semi(runs[0])["held_out"] == 1
    assert not semi(runs[0])["labels_hidden"]
    assert "accuracy" not in semi(runs[0])
    assert check(RunFolder(runs[0])).causes == []
    first.write_text('{"text": 3}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"first\.jsonl:1: expected `text`, a string"):
        run_texts(*options, f"semi.unlabelled={first}", "run_dir=bad")


def test_a_finished_run_teaches(run_texts):
    first = run_texts("run_dir=first")
    options = ["semi=self_training", "semi.threshold=0.2", "semi.ramp_up=0"]
    second = run_texts(*options, f"semi.teacher={first.folder}", "run_dir=second")
    third = run_texts(*options, f"semi.teacher={second.folder}", "run_dir=third")
    assert min(semi(second)["used"], semi(third)["used"]) > 0
    assert second.data["identity"]["sha256"] != third.data["identity"]["sha256"]


def test_what_cannot_be_is_refused(run_texts, tiny_numbers):
    for overrides, message in (
        (["semi=fixmatch", "budget.train_examples=null"], "the sample leaves no training text out"),
        (["semi=fixmatch", "semi.unlabelled='~/nowhere.txt'"], r"unlabelled=/.*/nowhere\.txt: there is no such file"),
        (["semi=fixmatch", "semi.unlabelled=table.csv"], r"table\.csv: expected rest, or a file: \.jsonl"),
        (["semi=fixmatch", "budget.half=0"], "the other half are to stay unseen"),
        (["semi=fixmatch", "privacy=dp"], "semi: privacy"),
        (["semi=uda", "task=regression", f"data.path={tiny_numbers}"], "semi.threshold=0 semi.temperature=1"),
        (["semi=fixmatch", "trainer.cache_activations=true", "peft=head"], "semi reads the hidden states"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            run_texts("semi.strong=null", *overrides, "run_dir=refused")


TASKS = {
    "classification": ["tiny_texts", "data=csv", "semi=fixmatch", "semi.threshold=0.1"],
    "ner": ["tiny_data", "data=files", "semi=softmatch", "~semi.strong.delete", "augment@semi.strong.swap=typo"],
    "multilabel": ["tiny_label_sets", "data=several_labels", "semi=adamatch", "semi.threshold=0.5"],
    "regression": ["tiny_numbers", "data=csv", "semi=uda", "semi.threshold=0", "semi.temperature=1"],
    "relation": ["tiny_relations", "data=relations", "semi=mixtext"],
}


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.parametrize("name", ["ner", *sorted(TASKS.keys() - {"ner"})])
def test_tasks_with_labels_of_texts_or_words_learn_from_others(run_tiny, request, name):
    """Words are deleted and change places; of a sentence whose words are tagged, they are misspelt."""
    data, *options = TASKS[name]
    options += [f"task={name}", f"data.path={request.getfixturevalue(data)}", "~semi.strong.synonym", "semi.mu=2"]
    record = run_tiny(*SHORT, *options)
    assert semi(record)["used"] > 0
    assert semi(record)["edited"]["strong.swap"]["examples"] > 0
    assert record.extensions["regularizers"]["semi"]["term"] > 0
    assert check(RunFolder(record)).causes == []


def test_a_prompt_learns_from_others(run_texts, language_model):
    words = "{compare: a, hire: b, move: c, nothing: d, report: e}"
    prompt = ["task=prompt", r'task.template="{text} :{answer}"', f"task.label_words={words}"]
    model = [f"model.path={language_model('llama')}", "model.dropout=null", "model.head_dropout=null"]
    record = run_texts("semi=fixmatch", *PLAIN, "semi.threshold=0.2", *prompt, *model)
    assert semi(record)["used"] > 0


def test_a_word_stays_where_its_guess_is_learnt(run_tiny):
    """Else the tag of one word would be taught for its neighbour."""
    with pytest.raises(ConfigError, match=r"strong\.delete, strong\.swap: a word would come, go or change places"):
        run_tiny(*SHORT, "semi=fixmatch", "~semi.strong.synonym")
    with pytest.raises(ConfigError, match=r"weak\.insert: .*Leave it out, ~semi\.weak\.insert, and"):
        run_tiny(*SHORT, "semi=fixmatch", "semi.strong=null", "+augment@semi.weak.insert=insert")


def test_other_tasks_are_refused(run_tiny, tiny_headlines):
    with pytest.raises(ConfigError, match="semi: task=masked_lm does not learn from texts without labels"):
        run_tiny(
            *SHORT, "semi=fixmatch", "semi.strong=null", "task=masked_lm", "data=texts", f"data.path={tiny_headlines}"
        )
