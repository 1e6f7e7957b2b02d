from __future__ import annotations

import hashlib
import itertools
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoTokenizer

from peftlab.data.batching import Division
from peftlab.data.cleaning.actions import Cleaning
from peftlab.data.columns import Columns
from peftlab.data.delimited import Delimited
from peftlab.data.json_lines import JsonLines
from peftlab.data.module import DataModule
from peftlab.data.rows.conversations import ConversationRows
from peftlab.data.rows.row_files import RowFiles
from peftlab.data.spec import BudgetSpec, DataSpec
from peftlab.data.splits import Splits
from peftlab.errors import ConfigError, DataError, SourceError
from peftlab.sources import FilesSource, cache_root
from peftlab.tasks.causal_lm import CausalLm
from peftlab.tasks.classification import Classification
from peftlab.tasks.ner import Ner
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Selection


def spec_of(folder: Path, splits=None, **options) -> DataSpec:
    return DataSpec(
        name="tiny",
        source=FilesSource(path=folder),
        splits=splits or Splits(),
        format=Columns(),
        **{"batch_size": 8, "eval_batch_size": 4, **options},
    )


@pytest.fixture
def module(tiny_data: Path, processor):
    """Return a maker of loaded data modules."""

    def make(folder=tiny_data, seed=0, budget=None, division=None, **options) -> DataModule:
        task = Ner(name="ner", selection=Selection(metric="entity_f1", mode="max"))
        budget = BudgetSpec(name="b", max_steps=1, **(budget or {}))
        data = DataModule(spec_of(folder, **options), task, processor, budget, seed, division)
        data.load()
        return data

    return make


@pytest.fixture
def folder_of(tmp_path: Path):
    def make(*names: str, content="Rome B-LOC\n") -> Path:
        folder = tmp_path / "files"
        folder.mkdir()
        for name in names:
            (folder / name).write_text(content)
        return folder

    return make


def ids(data: DataModule, split: str) -> list[str]:
    return [example.id for example in data.splits[split].examples]


class TestLoad:
    def test_a_file_that_is_not_there(self, folder_of, module):
        with pytest.raises(SourceError, match=r"tests\.txt'\. Did you mean 'test\.txt'\?"):
            module(folder_of("train.txt", "dev.txt", "test.txt"), splits=Splits(test="tests.txt"))

    def test_a_task_on_other_examples_is_refused(self, tiny_data, processor):
        task = Classification(name="classification", selection=Selection(metric="macro_f1", mode="max"))
        data = DataModule(spec_of(tiny_data), task, processor, BudgetSpec(name="b", max_steps=1), 0)
        with pytest.raises(ConfigError) as error:
            data.load()
        assert str(error.value) == (
            "task=classification takes a Text as an example, and data=tiny has a Sentence: "
            "choose another data=..., or another task=..."
        )

    def test_splits_are_read_and_encoded(self, module):
        data = module()
        assert {name: split.rows for name, split in data.splits.items()} == {
            "train": 48,
            "validation": 16,
            "test": 16,
        }
        for name, split in data.splits.items():
            assert ids(data, name) == [f"{name}:{n}" for n in range(split.rows)]
            assert len(split.encoded.lengths) == split.rows
            assert split.encoded.counts["words"] == sum(len(example.words) for example in split.examples)
        assert data.task.types == ["LOC", "ORG", "PER"]
        assert data.resolved() == {
            "splits": {"train": "train.txt", "validation": "dev.txt", "test": "test.txt"},
            "labels": ["LOC", "ORG", "PER"],
        }
        assert set(data.facts.sha256) == {"train", "validation", "test"}

    def test_the_encoding_is_kept_and_found_again(self, module, monkeypatch):
        first = module()
        kept = sorted(path.name for path in (cache_root() / "encoded").iterdir())
        assert len(kept) == 3
        monkeypatch.setattr(Ner, "encode", lambda *_, **__: pytest.fail("encoded again"))
        again = module(seed=1)
        for name, split in first.splits.items():
            assert (again.splits[name].encoded.arrays["tokens"] == split.encoded.arrays["tokens"]).all()
        assert sorted(path.name for path in (cache_root() / "encoded").iterdir()) == kept

    def test_declared_labels_are_used(self, module):
        assert module(labels=["PER", "ORG", "LOC", "MISC"]).task.types == ["PER", "ORG", "LOC", "MISC"]

    @pytest.mark.parametrize("content", ["", "\n\n", "-DOCSTART- O\n"])
    def test_a_file_without_a_sentence(self, folder_of, module, content):
        folder = folder_of("train.txt", "dev.txt", "test.txt")
        (folder / "dev.txt").write_text(content)
        with pytest.raises(DataError, match=r"dev\.txt: empty split 'validation'"):
            module(folder)

    def test_test_texts_that_are_in_the_training_split_are_counted(self, folder_of, module):
        folder = folder_of("train.txt", "dev.txt", content="Rome B-LOC\nfell O\n\nParis B-LOC\n")
        (folder / "test.txt").write_text("Rome B-LOC\n\nParis B-LOC\n\nPARIS O\n\nRome B-LOC\nfell O\n")
        assert module(folder).facts.train_test_overlap == 3  # the text counts, whatever its tags and letter case


def sentences(count: int) -> str:
    """Return `count` sentences as CoNLL text, many of them twice."""
    draw = random.Random(5)
    different = [[draw.choice(["Rome B-LOC", "Ada B-PER", "to O"]) for _ in range(9)] for _ in range(count // 2)]
    return "\n\n".join("\n".join(draw.choice(different)) for _ in range(count)) + "\n"


class TestHeldOut:
    """Splits that have no file of their own."""

    def test_the_training_file_is_divided(self, folder_of, module):
        folder = folder_of("all.txt", content=sentences(200))
        data = module(folder / "all.txt", splits=Splits(validation=0.2))
        assert data.resolved()["splits"] == {"train": "all.txt", "validation": 0.2, "test": 0.1}
        assert set(data.facts.sha256) == {"train", "validation", "test"}
        assert len(set(data.facts.sha256.values())) == 1
        numbers = [int(id_.partition(":")[2]) for split in data.splits for id_ in ids(data, split)]
        assert sorted(numbers) == list(range(200))
        rows = {name: split.rows for name, split in data.splits.items()}
        assert all(id_.startswith(f"{split}:") for split in rows for id_ in ids(data, split))
        assert rows["train"] > rows["validation"] > 10 < rows["test"]
        assert data.facts.train_test_overlap == 0  # though the same sentences are there several times
        described = data.describe()["splits"]
        assert {split["file"] for split in described.values()} == {"all.txt"}

    def test_it_is_divided_alike_whatever_the_seed_and_what_is_kept(self, folder_of, module):
        folder = folder_of("train.txt", content=sentences(100))
        first, again = module(folder), module(folder, seed=3, budget={"train_examples": 20})
        assert ids(first, "test") == ids(again, "test")
        assert set(ids(again, "train")) < set(ids(first, "train"))

    def test_labels_are_those_of_the_whole_file(self, folder_of, module):
        """A type that only held-out sentences have is no unknown label."""
        content = "".join(f"word{n} B-T{n}\n\n" for n in range(40))
        data = module(folder_of("train.txt", content=content))
        assert len(data.task.types) == 40

    def test_a_share_of_nothing(self, folder_of, module):
        with pytest.raises(DataError) as error:
            module(folder_of("train.txt"))
        assert str(error.value) == (
            "empty split 'validation': of 1 examples in train.txt, none is left for it; name a file or another share, "
            "data.splits.validation=..."
        )


class TestDuplicates:
    CONTENT = "Rome B-LOC\n\nfell O\n\nParis B-LOC\n\nRome B-LOC\n\nParis O\n\nRome B-LOC\n\nAda B-PER\n"

    def test_they_are_kept_by_default(self, folder_of, module):
        data = module(folder_of("train.txt", "dev.txt", "test.txt", content=self.CONTENT))
        assert [split.rows for split in data.splits.values()] == [7, 7, 7]
        assert data.describe()["splits"]["train"]["dropped"] == {}

    def test_dropping_leaves_the_first_and_nothing_that_contradicts(self, folder_of, module):
        data = module(folder_of("train.txt", "dev.txt", "test.txt", content=self.CONTENT), duplicates="drop")
        for split in ("train", "validation", "test"):
            assert ids(data, split) == [f"{split}:{n}" for n in (0, 1, 6)]
            assert data.describe()["splits"][split]["dropped"] == {"duplicates": 2, "conflicts": 2}

    def test_where_splits_are_held_out_they_are_counted_in_the_file_they_were_in(self, folder_of, module):
        folder = folder_of("train.txt", content=sentences(150))
        dropped = module(folder, duplicates="drop")
        splits = dropped.describe()["splits"]
        assert (splits["validation"]["dropped"], splits["test"]["dropped"]) == ({}, {})
        left = sum(split.rows for split in dropped.splits.values())
        assert left + sum(splits["train"]["dropped"].values()) == 150
        texts = [" ".join(e.words) for split in dropped.splits.values() for e in split.examples]
        assert len(texts) == len(set(texts)) < 150

    def test_what_is_lost_is_told(self, folder_of, module, caplog):
        folder = folder_of("train.txt", "dev.txt", "test.txt", content=self.CONTENT)
        (folder / "test.txt").write_text("Rome B-LOC\nfell O\nto O\nAda B-PER\n")
        with caplog.at_level("INFO", logger="peftlab"):
            module(folder, duplicates="drop", max_tokens=4, long="truncate")
        cut = "2 words without their end, longer than a row"
        assert [record.getMessage() for record in caplog.records] == [
            f"left out of the train split (data.max_tokens=4): 2 conflicts, 2 duplicates, {cut}",
            f"left out of the validation split (data.max_tokens=4): 2 conflicts, 2 duplicates, {cut}",
            "left out of the test split (data.max_tokens=4): 3 truncated words",
        ]

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ("Rome B-LOC\nin O\nParis B-LOC\n", ["longer than data.max_tokens=4 in the test split: 1 split sentences"]),
            ("\u200b B-LOC\nRome I-LOC\n", ["left out of the test split (data.max_tokens=4): 1 words without a token"]),
            ("rome B-LOC\n", []),
        ],
    )
    def test_so_is_what_new_data_loses(self, module, tmp_path, caplog, content, told):
        data = module(max_tokens=4, labels=["LOC", "ORG", "PER"])
        (tmp_path / "new.txt").write_text(content)
        caplog.clear()  # of what reading the data of the run has told, where a test before wanted to hear that
        with caplog.at_level("INFO", logger="peftlab"):
            data.load_new({"test": tmp_path / "new.txt"})
        assert [line.partition(", ")[0] for line in caplog.messages] == told


class TestBudget:
    def test_fewer_examples_are_a_fixed_random_choice(self, module):
        limited = {"train_examples": 10, "eval_examples": 5}
        whole, first, again = module(), module(budget=limited), module(budget=limited, seed=1)
        for split, most in {"train": 10, "validation": 5, "test": 5}.items():
            assert ids(first, split) == ids(again, split)
            assert first.splits[split].rows == len(set(ids(first, split))) == most
            assert ids(first, split) == [each for each in ids(whole, split) if each in ids(first, split)]  # in order
            assert ids(first, split) != ids(whole, split)[:most]
        assert first.facts.sha256 == whole.facts.sha256

    def test_more_than_there_are_is_all(self, module):
        data = module(budget={"train_examples": 1000, "eval_examples": 16})
        assert [split.rows for split in data.splits.values()] == [48, 16, 16]

    def test_overfitting_takes_the_first_training_batches_for_both(self, module):
        whole = module()
        data = module(budget={"overfit_batches": 2})
        expected = [f"train:{i}" for (batch,) in list(whole._training_batches())[:2] for i in batch.examples]
        assert ids(data, "train") == expected
        assert len(set(expected)) == 16
        assert data.splits["validation"] is data.splits["train"]
        assert data.splits["test"].rows == 16
        assert sorted(e.id for (batch,) in data.train_dataloader() for e in batch.examples) == sorted(expected)
        assert sorted(e.id for batch in data.val_dataloader() for e in batch.examples) == sorted(expected)

    @pytest.mark.parametrize(("every", "batches"), [(1.0, 6), (0.5, 3), (2.0, 12), (0.001, 1)])
    def test_validation_comes_after_so_many_batches(self, module, every, batches):
        assert module(budget={"validate_every": every}).validation_interval() == batches

    def test_validation_comes_after_as_many_steps_however_they_are_divided(self, module):
        data = module(budget={"validate_every": 0.5}, division=Division(world_size=2, rank=1, accumulate=4))
        assert data.validation_interval() == 3

    def test_there_must_be_an_end(self):
        with pytest.raises(ValidationError, match=r"give budget\.max_epochs, max_steps or max_passes"):
            BudgetSpec(name="b")


class TestLoaders:
    @pytest.mark.parametrize("split", ["train", "validation", "test"])
    def test_every_example_comes_once_in_batches_of_the_right_size(self, module, split):
        data = module(batch_size=10, eval_batch_size=7)
        loader = {"train": data.train_dataloader, "validation": data.val_dataloader, "test": data.test_dataloader}
        batches = list(loader[split]())
        assert len(batches) == len(loader[split]())
        batches = [batch for (batch,) in batches] if split == "train" else batches
        assert sorted(e.id for batch in batches for e in batch.examples) == sorted(ids(data, split))
        size, rows = (10, 48) if split == "train" else (7, 16)
        assert sorted(len(batch.examples) for batch in batches) == sorted([size] * (rows // size) + [rows % size])

    @pytest.mark.parametrize("accumulate", [1, 3])
    def test_the_halves_of_a_part_are_together_the_part(self, module, accumulate):
        data = module(max_tokens=12, division=Division(accumulate=accumulate))  # sentences of several rows among them
        for part in itertools.chain.from_iterable(data.train_dataloader()):
            halves = data.halves(part)
            assert [e.id for half in halves for e in half.examples] == [e.id for e in part.examples]
            assert sum(half.scale for half in halves) == pytest.approx(part.scale)
            assert sum(half.tokens for half in halves) == part.tokens
            assert [words for half in halves for words in half.host["words"]] == part.host["words"]

    @pytest.mark.parametrize("accumulate", [1, 3])
    def test_the_shares_of_a_batch_are_those_of_its_labelled_tokens(self, module, accumulate):
        """Some batches of 5 sentences are smaller than the number of parts: what is left over is filled."""
        ranks = [Division(2, rank, accumulate) for rank in range(2)]
        whole = [batch for (batch,) in module(batch_size=5).train_dataloader()]
        parts = [list(module(batch_size=5, division=division).train_dataloader()) for division in ranks]
        assert {batch.scale for batch in whole} == {1.0}
        for step, batch in enumerate(whole):
            of_step = [part for own in parts for part in own[step]]
            assert len(of_step) == 2 * accumulate
            assert sum(part.scale for part in of_step) == pytest.approx(1)
            assert sum(part.tokens for part in of_step) == batch.tokens
            assert sorted(e.id for part in of_step for e in part.examples) == sorted(e.id for e in batch.examples)
            for part in of_step:
                own = (part.targets["labels"] != -100).sum() if part.examples else 0
                assert part.scale == pytest.approx(own / (batch.targets["labels"] != -100).sum())
                assert len(part.inputs["input_ids"])  # there is something to compute, even in a filler

    def test_ranks_evaluate_every_example_once_and_as_often(self, module):
        loaders = [module(eval_batch_size=3, division=Division(4, rank)).test_dataloader() for rank in range(4)]
        found = [list(loader) for loader in loaders]
        assert [len(batches) for batches in found] == [2] * 4
        given = [example.id for batches in found for batch in batches for example in batch.examples]
        assert sorted(given) == sorted(f"test:{n}" for n in range(16))

    def test_batches_that_are_collated_ahead_are_the_same_ones(self, module):
        def epochs(ahead: int) -> list[list[Any]]:
            data = module(batch_size=5)
            data.ahead = ahead
            data.load_state_dict({"epoch": 1, "batches": 3})  # and as those of a run that goes on
            loader = data.train_dataloader()
            found = []
            for epoch in (1, 2):
                loader.sampler.set_epoch(epoch)
                found.append([(batch.part, batch.inputs["input_ids"].tolist()) for (batch,) in loader])
            return found

        assert epochs(ahead=2) == epochs(ahead=0)
        assert [len(each) for each in epochs(ahead=2)] == [7, 10]

    def test_training_batches_depend_on_the_seed(self, module):
        def order(seed):
            return [e.id for (batch,) in module(seed=seed).train_dataloader() for e in batch.examples]

        assert order(0) == order(0)
        assert order(0) != order(1)

    def test_what_a_task_draws_for_an_example_depends_on_nothing_but_seed_epoch_and_example(self, module, monkeypatch):
        """However batches are divided, and in a half that is collated anew; an evaluation draws nothing."""
        collate, drawn = Ner.collate, {}

        def drawing(self, examples, encoded, indices, random=None):
            for i in indices:
                drawn.setdefault(examples[i].id, set()).add(random and random(i).random())
            return collate(self, examples, encoded, indices, random)

        monkeypatch.setattr(Ner, "collate", drawing)

        def draws(epoch, **options):
            drawn.clear()
            data = module(**options)
            loader = data.train_dataloader()
            loader.sampler.set_epoch(epoch)
            for part in itertools.chain.from_iterable(loader):
                data.halves(part)
            return {id_: values for id_, values in drawn.items() if id_.startswith("train:")}

        first = draws(0)
        assert {len(values) for values in first.values()} == {1}
        assert len(set.union(*first.values())) == len(first) == 48
        assert draws(0, division=Division(accumulate=3)) == first
        second = {rank: draws(0, division=Division(world_size=2, rank=rank)) for rank in range(2)}
        assert all(first[id_] >= values for own in second.values() for id_, values in own.items())
        assert first.keys() == second[0].keys() | second[1].keys()
        others = [draws(1), draws(0, seed=1)]
        assert not set.union(*first.values()) & set.union(*(set.union(*other.values()) for other in others))
        drawn.clear()
        list(module().val_dataloader())
        assert set.union(*drawn.values()) == {None}

    def test_evaluation_begins_with_the_longest(self, module):
        lengths = [batch.inputs["input_ids"].shape[1] for batch in module().test_dataloader()]
        assert lengths == sorted(lengths, reverse=True)
        assert lengths[0] > lengths[-1]

    @pytest.mark.slow
    def test_workers_bring_the_same_batches(self, module):
        here, there = (list(module(workers=workers).val_dataloader()) for workers in (0, 1))
        assert len(here) == len(there)
        for a, b in zip(here, there, strict=True):
            assert torch.equal(a.inputs["input_ids"], b.inputs["input_ids"])
            assert a.examples == b.examples

    def test_only_tensors_move_to_the_device(self, module):
        data = module()
        batch = next(iter(data.val_dataloader()))
        moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
        assert moved.weights.device.type == moved.rows.device.type == "meta"
        assert moved.targets["labels"].device.type == moved.inputs["input_ids"].device.type == "meta"
        assert moved.examples is batch.examples
        assert moved.host is batch.host
        assert batch.to(torch.device("cpu")) is batch
        assert moved.tokens == batch.tokens


def test_describe_is_what_the_record_says(module, folder_of):
    folder = folder_of(
        "train.txt", "dev.txt", "test.txt", content="the B-LOC\n\u200b O\nmoved O\nwas O\n\nRome B-LOC\n"
    )
    described = module(folder, max_tokens=5, long="truncate").describe()
    assert described == {
        "name": "tiny",
        "origin": f"files:{folder}",
        "splits": {
            split: {
                "file": file,
                "rows": 2,
                "words": 5,
                "emptied": 1,
                "truncated": 2,
                "split_sentences": 0,
                "dropped": {},
            }
            for split, file in {"train": "train.txt", "validation": "dev.txt", "test": "test.txt"}.items()
        },
        "labels": ["O", "B-LOC", "I-LOC"],
        "train_test_overlap": 2,
        "licence": None,
    }
    json.dumps(described)


def test_describe_names_the_file_that_overfitting_validates_on(module):
    described = module(budget={"overfit_batches": 1}).describe()
    assert described["splits"]["validation"] == described["splits"]["train"]
    assert described["splits"]["validation"]["file"] == "train.txt"


@pytest.fixture
def of_texts(tmp_path: Path, processor):
    """Return a maker of data modules that have read JSON lines."""

    def make(lines: list[dict], splits=None, **options) -> DataModule:
        path = tmp_path / "all.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        task = Classification(name="classification", selection=Selection(metric="macro_f1", mode="max"))
        spec = replace(
            spec_of(path, splits or Splits(validation=0.3, test=0.2), long="truncate"), format=JsonLines(**options)
        )
        data = DataModule(spec, task, processor, BudgetSpec(name="b", max_steps=1), 0)
        data.load()
        return data

    return make


REVIEWS = [
    {"text": f"lamp {n} of {n * n} was {'kind' if n % 2 else 'warm'} to {n + 3}", "label": n % 2, "doc": n // 2}
    for n in range(100)
]


class TestText:
    """What comes in is valid Unicode, whatever the file holds."""

    def test_half_a_character_is_mended_told_and_counted(self, of_texts, tmp_path, caplog):
        lines = [dict(each) for each in REVIEWS]
        lines[3]["text"] += " \ud83d"
        lines[7]["text"] = "\udc00\U0001f600\ude00"
        lines[9]["label"] = lines[11]["label"] = "odd\ud800"
        data = of_texts(lines)
        texts = {e.line: e for split in data.splits.values() for e in split.examples}
        assert len(texts) == 100
        assert texts[4].text.endswith("to 6 \ufffd")
        assert texts[8].text == "\ufffd\U0001f600\ufffd"
        assert data.task.labels == ["0", "1", "odd\ufffd"]
        assert [record.getMessage() for record in caplog.records] == [
            f"the train split has odd characters, the first at {tmp_path / 'all.jsonl'}:4: "
            "halves of characters, read as U+FFFD: 5"
        ]
        assert data.describe()["splits"]["train"]["mended_characters"] == 5
        json.dumps(data.describe(), ensure_ascii=False).encode()

    def test_control_characters_are_told_and_stay(self, of_texts, tmp_path, caplog):
        lines = [dict(each) for each in REVIEWS]
        lines[5]["text"] += "\0\x07"
        data = of_texts(lines)
        assert data.describe()["splits"]["train"]["control_characters"] == 2
        assert f"first at {tmp_path / 'all.jsonl'}:6: control characters such as NUL, kept: 2" in caplog.text

    def test_of_plain_text_nothing_is_said(self, of_texts, caplog):
        described = of_texts(REVIEWS).describe()["splits"]
        assert not caplog.records
        for split in described.values():
            assert split.keys() == {"file", "rows", "truncated_texts", "truncated_tokens", "dropped"}

    def test_words_and_tags_too(self, folder_of, module, caplog):
        class Halves(Columns):
            def read(self, files):
                found = super().read(files)
                return {
                    split: [e.mapped(lambda t: t.replace("Paris", "Par\ud83d")) for e in found[split]]
                    for split in found
                }

        folder = folder_of("train.txt", "dev.txt", "test.txt", content="Paris B-LOC\n\nRome B-LOC\n\nParis O\n")
        task = Ner(name="ner", selection=Selection(metric="entity_f1", mode="max"))
        data = DataModule(
            replace(spec_of(folder), format=Halves()), task, module().processor, BudgetSpec(name="b", max_steps=1), 0
        )
        data.load()
        assert [e.words for e in data.splits["test"].examples] == [["Par\ufffd"], ["Rome"], ["Par\ufffd"]]
        assert {split["mended_characters"] for split in data.describe()["splits"].values()} == {2}

    def test_odd_rows_are_counted_where_the_record_says_what_the_split_is(self, tmp_path, processor):
        for name in ("train", "dev", "test"):
            (tmp_path / f"{name}.csv").write_text('text,label\n"a\nb",1\nc,2\n"d\n\ne",2\n')
        task = Classification(name="classification", selection=Selection(metric="macro_f1", mode="max"))
        spec = replace(spec_of(tmp_path, long="truncate"), format=Delimited())
        data = DataModule(spec, task, processor, BudgetSpec(name="b", max_steps=1), 0)
        data.load()
        assert [split["rows_over_lines"] for split in data.describe()["splits"].values()] == [2, 2, 2]


class TestGroups:
    def test_they_are_held_out_whole(self, of_texts):
        data = of_texts(REVIEWS, group="doc")
        groups = [{e.group for e in split.examples} for split in data.splits.values()]
        assert sum(map(len, groups)) == len(set().union(*groups)) == 50
        assert all(groups)

    def test_files_that_share_them_are_told(self, tmp_path, processor, caplog):
        for name, groups in {"train": "aabc", "dev": "acde", "test": "ffgg"}.items():
            rows = "".join(f"text {name} {n},{n % 2},{group}\n" for n, group in enumerate(groups))
            (tmp_path / f"{name}.csv").write_text(f"text,label,doc\n{rows}")
        task = Classification(name="classification", selection=Selection(metric="macro_f1", mode="max"))
        spec = replace(spec_of(tmp_path, long="truncate"), format=Delimited(group="doc"))
        DataModule(spec, task, processor, BudgetSpec(name="b", max_steps=1), 0).load()
        assert [record.getMessage() for record in caplog.records] == [
            "2 of 4 groups of the validation split are in the training split too"
        ]

    def test_too_few_of_them(self, of_texts):
        lines = [line | {"doc": "one"} for line in REVIEWS]
        with pytest.raises(
            DataError, match=r"of 100 examples in all\.jsonl, which are 1 group and held out by it, none"
        ):
            of_texts(lines, group="doc")

    @pytest.mark.slow
    def test_documents_of_columns_are_kept_but_hold_nothing_together(self, folder_of, module):
        part = sentences(150) + "\n"
        folder = folder_of("with.txt", content=f"-DOCSTART- O\n\n{part}" * 4)
        (folder / "without.txt").write_text(part * 4)
        found, without = module(folder / "with.txt"), module(folder / "without.txt")
        assert {e.group for split in found.splits.values() for e in split.examples} == set("0123")
        assert [ids(found, split) for split in found.splits] == [ids(without, split) for split in without.splits]


class TestIds:
    @pytest.mark.parametrize("own", [["a", "b", "a"], ["7", "7", "8"]])
    def test_two_examples_of_one_id_are_named(self, folder_of, module, own):
        class Own(Columns):
            def read(self, files):
                return {
                    split: [replace(e, id=i) for e, i in zip(found, own, strict=True)]
                    for split, found in super().read(files).items()
                }

        folder = folder_of("train.txt", "dev.txt", "test.txt", content="Rome B-LOC\n\nfell O\n\nParis B-LOC\n")
        task = Ner(name="ner", selection=Selection(metric="entity_f1", mode="max"))
        data = DataModule(replace(spec_of(folder), format=Own()), task, None, BudgetSpec(name="b", max_steps=1), 0)
        with pytest.raises(
            DataError,
            match=rf"the train split has two examples with the id '{own[0]}': .*train.txt:1 and .*train.txt:[35]",
        ):
            data.load()


class TestDeclaredLabels:
    @pytest.mark.parametrize(
        ("typed", "labels"),
        [
            ([0, 1], ["0", "1"]),
            ([True, False], ["true", "false"]),
            ([None, "a"], ["null", "a"]),
            (["007", "1e3", "yes"], ["007", "1e3", "yes"]),
            ([-1, 10**20], ["-1", "1" + "0" * 20]),
            (None, None),
        ],
    )
    def test_they_are_texts_as_in_the_data(self, typed, labels):
        assert spec_of(Path(), labels=typed).labels == labels

    @pytest.mark.parametrize("typed", [[1e3, "a"], ["a", 0.5], [float("nan")]])
    def test_other_numbers_are_to_be_quoted(self, typed):
        with pytest.raises(ValidationError, match=r"put each label in quotes, as in \"data\.labels=\['"):
            spec_of(Path(), labels=typed)

    @pytest.mark.parametrize("typed", ["a", 3, [["a"]], [{"a": 1}]])
    def test_anything_else_is_refused(self, typed):
        with pytest.raises(ValidationError):
            spec_of(Path(), labels=typed)


class TestWeightsOfRows:
    def test_examples_weigh_what_their_rows_say_in_training_alone(self, tmp_path, processor):
        rows = [
            {"text": f"{word} {n}", "label": "ab"[n % 2], "w": (n + 1) / 10}
            for n, word in enumerate(["one", "two", "three", "four"])
        ]
        del rows[2]["w"]
        rows.append({**rows[1], "w": 0.9})
        for split in ("train", "validation", "test"):
            (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        task = Classification(name="classification", selection=Selection(metric="macro_f1", mode="max"))
        options = {"clean": Cleaning(duplicates="downweight", weight=0.5), "long": "truncate"}

        def loaded(**columns) -> DataModule:
            spec = replace(spec_of(tmp_path, **options), format=JsonLines(**columns))
            data = DataModule(spec, task, processor, BudgetSpec(name="b", max_steps=1), 0)
            data.load()
            return data

        data = loaded(weight="w")
        assert data.splits["train"].factors == pytest.approx([0.1, 0.2, 1, 0.4, 0.45])
        assert data.splits["validation"].factors is None
        assert loaded().splits["train"].factors == pytest.approx([1, 1, 1, 1, 0.5])
        with pytest.raises(DataError, match="the column 'W' of weights is empty, or missing, in the training split"):
            loaded(weight="W")


class TestCleaning:
    CONTENT = "".join(f"{word} {tag}\n\n" for word, tag in zip("abcadba", "OOOOXOO", strict=True)).replace("X", "B-LOC")
    """The texts a, b, c, a, d, b, a: duplicates 3 (of 0), 5 (of 1) and 6 (of 0)."""

    def test_examples_are_dropped_and_downweighted_in_training_alone(self, folder_of, module):
        folder = folder_of("train.txt", "dev.txt", "test.txt", content=self.CONTENT)
        data = module(folder, clean=Cleaning(duplicates="drop"))
        assert ids(data, "train") == [f"train:{n}" for n in (0, 1, 2, 4)]
        assert data.splits["test"].rows == 7
        assert data.describe()["splits"]["train"]["dropped"] == {"duplicates": 3}
        assert data.describe()["cleaned"] == {"duplicates": {"action": "drop", "examples": 3}}
        data = module(folder, clean=Cleaning(duplicates="downweight", leaks="report", weight=0.25))
        assert data.splits["train"].factors.tolist() == [1, 1, 1, 0.25, 1, 0.25, 0.25]
        assert data.splits["test"].factors is None
        assert data.describe()["cleaned"]["leaks"] == {"action": "report", "examples": 7}
        data = module(folder, clean=Cleaning(duplicates="report"))
        assert data.splits["train"].factors is None
        assert "cleaned" not in module(folder).describe()

    def test_however_a_step_is_divided_it_has_the_same_loss(self, module):
        def of_step(data: DataModule) -> tuple[float, float]:
            steps = next(iter(data.train_dataloader()))
            losses = [torch.tensor([float(len(e.words) ** 2) for e in batch.examples]) for batch in steps]
            means = [batch.scale * batch.mean(loss) for batch, loss in zip(steps, losses, strict=True)]
            factors = [batch.factors for batch in steps if batch.factors is not None]
            return sum(map(float, means)), sum(float(each.sum()) for each in factors)

        clean = Cleaning(duplicates="downweight", weight=0.25)
        whole, divided = module(clean=clean), module(clean=clean, division=Division(accumulate=3))
        assert of_step(divided) == pytest.approx(of_step(whole))
        assert of_step(whole)[1] < 8
        assert of_step(whole)[0] != of_step(module())[0]

    def test_a_list_of_label_errors_counts_by_its_content(self, folder_of, module, tmp_path):
        folder = folder_of("train.txt", "dev.txt", "test.txt", content=self.CONTENT)
        listing = tmp_path / "errors.csv"
        listing.write_text("split,id,reason\ntrain,train:4,label error\n")
        data = module(folder, clean=Cleaning(label_errors="drop", label_errors_from=listing), labels=["LOC"])
        assert "train:4" not in ids(data, "train")
        assert data.facts.sha256["label_errors"] == hashlib.sha256(listing.read_bytes()).hexdigest()
        assert data.resolved()["clean"] == {"label_errors": "drop", "label_errors_from": str(listing)}

    def test_what_drops_everything_is_refused(self, folder_of, module):
        folder = folder_of("train.txt", "dev.txt", "test.txt", content=self.CONTENT)
        with pytest.raises(DataError, match="it drops every training example"):
            module(folder, clean=Cleaning(leaks="drop"))

    def test_what_finds_nothing_for_it_is_dropped_before_is_refused(self, module):
        with pytest.raises(ValidationError, match=r"clean\.conflicts: there are none, for data\.duplicates=drop"):
            module(clean=Cleaning(conflicts="drop"), duplicates="drop")


class TestFold:
    def test_folds_take_turns_in_place_of_the_test_split(self, module):
        whole = module()
        folds = [module(fold=f"{number}/3") for number in (1, 2, 3)]
        tested = [ids(data, "test") for data in folds]
        assert sorted(id for of_fold in tested for id in of_fold) == sorted(ids(whole, "train"))
        for data, held_out in zip(folds, tested, strict=True):
            assert sorted([*held_out, *ids(data, "train")]) == sorted(ids(whole, "train"))
            assert ids(data, "validation") == ids(whole, "validation")
            assert data.task.labels == whole.task.labels
            texts = [{" ".join(e.words) for e in data.splits[split].examples} for split in ("train", "test")]
            assert not texts[0] & texts[1]  # the 48 sentences repeat each other
            assert data.describe()["splits"]["test"]["file"] == "train.txt"
            assert data.resolved()["splits"]["test"] == "test.txt"

    def test_what_is_recorded_of_a_fold_is_of_the_training_file(self, folder_of, module):
        folder = folder_of("dev.txt", "test.txt", content="Rome\0 B-LOC\n")
        (folder / "train.txt").write_text("Rome B-LOC\n\nParis B-LOC\n\nOslo\0\0 B-LOC\n")
        data = module(folder, fold="1/3")
        described = data.describe()["splits"]
        assert [described[split]["control_characters"] for split in described] == [2, 1, 2]
        assert data.facts.sha256["test"] == data.facts.sha256["train"] != module(folder).facts.sha256["test"]

    def test_the_fold_itself_is_not_cleaned(self, module):
        data, cleaned = module(fold="1/3"), module(fold="1/3", clean=Cleaning(duplicates="drop"))
        assert ids(data, "test") == ids(cleaned, "test")
        assert len(ids(data, "train")) > len(ids(cleaned, "train"))

    def test_more_folds_than_texts_are_refused(self, folder_of, module):
        folder = folder_of("train.txt", "dev.txt", "test.txt", content="Rome B-LOC\n\nParis B-LOC\n\nRome B-LOC\n")
        with pytest.raises(DataError, match=r"data\.fold=3/3: it leaves no example for the test split"):
            module(folder, fold="3/3")

    def test_a_fold_that_is_not_tested_is_refused(self, module):
        with pytest.raises(ConfigError, match=r"data\.fold=1/3: .* budget\.test=false tests nothing"):
            module(fold="1/3", budget={"test": False})

    def test_what_is_no_fold_is_refused(self, module):
        with pytest.raises(ValidationError, match="expected a fold such as 2/5"):
            module(fold="6/5")


class TestWeights:
    """A model cannot learn from a split of which nothing counts in the loss, nor be selected by it."""

    @pytest.fixture
    def loaded(self, tmp_path, language_model):
        """Load short conversations with a model's tokenizer, but for those of one split, whose answers are cut away."""

        def load(cut: str | None) -> DataModule:
            files = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}
            for split, file in files.items():
                asked = "rome " * (80 if split == cut else 3)
                rows = [{"prompt": asked, "answer": f"paris {n}"} for n in range(6)]
                (tmp_path / file).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
            spec = spec_of(tmp_path, Splits(**files), long="truncate", max_tokens=40)
            task = CausalLm(name="causal_lm", selection=Selection(metric="perplexity", mode="min"))
            processor = Processor("tokenizer", AutoTokenizer.from_pretrained(language_model("llama")))
            spec = replace(spec, format=RowFiles(rows=ConversationRows()))
            data = DataModule(spec, task, processor, BudgetSpec(name="b", max_steps=1), 0)
            data.load()
            return data

        return load

    def test_a_split_to_learn_from_is_refused(self, loaded):
        for split in ("train", "validation"):
            with pytest.raises(DataError, match=rf"{split} split: nothing of its 6 .*cut away.* data.max_tokens=40"):
                loaded(split)

    def test_a_split_to_test_is_told(self, loaded, caplog):
        loaded(None)
        assert "loss" not in caplog.text
        loaded("test")
        assert "the test split has no loss: nothing of its 6 examples" in caplog.text
