"""Whole runs on texts with one label each, and what is done with a finished one."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from sklearn.metrics import classification_report
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from peftlab.errors import ConfigError, DataError, UserError
from peftlab.use.export import MERGE_TOLERANCE
from peftlab.use.finished import load
from peftlab.use.reproduce import reproduce

LABELS = ["compare", "hire", "move", "nothing", "report"]


@pytest.fixture(scope="session")
def texts(tiny_texts):
    return ["task=classification", "data=csv", f"data.path={tiny_texts}"]


@pytest.fixture(scope="session")
def run_texts(run_tiny, texts):
    """Run the tiny model on the tiny texts with further overrides, LoRA by default."""
    return lambda *overrides: run_tiny(*texts, *overrides)


LEARNING = ["optimizer.lr=5e-3", "budget.max_steps=120", "model.dropout=0"]
"""Enough for LoRA to tell most of the classes apart."""


@pytest.fixture(scope="session")
def finished_texts(run_once, texts):
    """A finished run; tests only read it."""
    return run_once("finished_texts", *texts, *LEARNING, "logger=[csv,tensorboard]")


@pytest.fixture(scope="session")
def loaded(finished_texts):
    return load(finished_texts.folder)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def recorded(record, split="test") -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in record.data["metrics"] if metric["split"] == split}


class TestRun:
    def test_it_learns(self, finished_texts):
        """By chance, a macro F1 over five classes is about 0.2."""
        assert finished_texts.data["status"] == "completed"
        assert recorded(finished_texts)["macro_f1"] > 0.6

    def test_the_record(self, finished_texts):
        data = finished_texts.data["data"]
        assert {name: (split["file"], split["rows"]) for name, split in data["splits"].items()} == {
            "train": ("train.csv", 48),
            "validation": ("dev.csv", 16),
            "test": ("test.csv", 16),
        }
        assert data["labels"] == LABELS
        assert finished_texts.data["name"] == "classification-csv-lora"
        assert finished_texts.data["selection"]["metric"] == "macro_f1"
        assert {metric["scorer"] for metric in finished_texts.data["metrics"]} == {
            "single label, exact counts; macro over the classes in gold or predicted"
        }
        names = {"accuracy", "macro_f1", "micro_f1", "weighted_f1", "macro_precision", "macro_recall", "loss"}
        by_label = {f"{score}/{label}" for score in ("precision", "recall", "f1") for label in LABELS}
        assert recorded(finished_texts).keys() == names | by_label

    @pytest.mark.parametrize("split", ["validation", "test"])
    def test_scores_are_those_that_scikit_learn_finds_in_the_predictions(self, finished_texts, split):
        predictions = lines(finished_texts.folder / "predictions" / f"{split}.jsonl")
        assert [p["id"] for p in predictions] == [f"{split}:{n}" for n in range(16)]
        keys = {"id", "input", "gold", "predicted", "probability", "probabilities", "group"}
        assert all(p.keys() == keys for p in predictions)
        for p in predictions:
            assert list(p["probabilities"]) == LABELS
            assert max(p["probabilities"], key=p["probabilities"].get) == p["predicted"]
            assert p["probabilities"][p["predicted"]] == pytest.approx(p["probability"], rel=1e-6)
        assert all(1 / len(LABELS) <= p["probability"] <= 1 for p in predictions)
        gold, predicted = ([p[key] for p in predictions] for key in ("gold", "predicted"))
        report = classification_report(gold, predicted, output_dict=True, zero_division=0)
        scores = recorded(finished_texts, split)
        assert scores["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
        assert scores["weighted_f1"] == pytest.approx(report["weighted avg"]["f1-score"])
        assert scores["accuracy"] == pytest.approx(sum(g == p for g, p in zip(gold, predicted, strict=True)) / 16)
        for label in set(gold) | set(predicted):
            assert scores[f"f1/{label}"] == pytest.approx(report[label]["f1-score"])

    def test_the_tables_of_the_loggers(self, finished_texts):
        with (finished_texts.folder / "tables" / "test" / "confusion.csv").open() as file:
            header, *rows = csv.reader(file)
        assert header == ["gold \\ predicted", *LABELS]
        assert [row[0] for row in rows] == LABELS
        right = sum(int(row[1 + n]) for n, row in enumerate(rows))
        assert right / 16 == pytest.approx(recorded(finished_texts)["accuracy"])
        with (finished_texts.folder / "tables" / "test" / "classes.csv").open() as file:
            assert [row["label"] for row in csv.DictReader(file)] == LABELS

    @pytest.mark.slow
    @pytest.mark.parametrize("peft", ["full", "head"])
    def test_other_methods(self, run_texts, peft):
        record = run_texts(f"peft={peft}", "budget.max_steps=2")
        assert record.data["status"] == "completed"
        pooler, classifier = 32 * 32 + 32, 32 * len(LABELS) + len(LABELS)
        if peft == "head":
            assert record.data["method"]["trainable_parameters"] == pooler + classifier

    @pytest.mark.slow
    def test_the_same_seed_gives_the_same_bits(self, run_texts, finished_texts):
        again = run_texts(*LEARNING, "run_dir=again")
        weights = [record.folder / "adapter" / "adapter_model.safetensors" for record in (finished_texts, again)]
        assert weights[0].read_bytes() == weights[1].read_bytes()

    @pytest.mark.slow
    def test_a_batch_in_parts_makes_the_same_step(self, run_texts):
        """Losses are weighed by texts here, not by tokens."""
        options = ["model.dropout=0", "model.attention_dropout=0", "model.head_dropout=0", "budget.max_steps=6"]
        whole, parts = (
            run_texts(*options, "run_dir=whole"),
            run_texts(*options, "trainer.accumulate=3", "run_dir=parts"),
        )
        assert recorded(whole)["loss"] == pytest.approx(recorded(parts)["loss"], rel=1e-4)

    @pytest.mark.slow
    def test_a_head_starts_from_stored_activations(self, run_texts):
        options = ["peft=head", "model.dropout=0", "model.attention_dropout=0", "model.head_dropout=0"]
        options += ["budget.max_steps=6", "optimizer.lr=1e-3"]
        cached = run_texts(*options, "trainer.cache_activations=true", "run_dir=cached")
        whole = run_texts(*options, "trainer.cache_activations=false", "run_dir=whole")
        assert cached.data["cost"]["activation_cache"]["layers"] == 2
        assert recorded(cached)["loss"] == pytest.approx(recorded(whole)["loss"], rel=1e-4)

    @pytest.mark.slow
    def test_one_file_without_splits_and_of_pairs(self, run_tiny, tmp_path):
        towns = ["rome", "paris"]
        rows = [f"{towns[n % 2]},{towns[n % 3 % 2]} {n},{n % 2}" for n in range(80)]
        (tmp_path / "pairs.csv").write_text("\n".join(["one,other,same", *rows]) + "\n")
        columns = ["data.format.text=one", "data.format.pair=other", "data.format.label=same", "data.splits.test=0.3"]
        record = run_tiny("task=classification", "data=csv", "data.path=pairs.csv", *columns, "budget.max_steps=4")
        splits = record.data["data"]["splits"]
        assert sum(split["rows"] for split in splits.values()) == 80
        assert {split["file"] for split in splits.values()} == {"pairs.csv"}
        (first, *_) = lines(record.folder / "predictions" / "test.jsonl")
        assert first["id"].startswith("test:")
        assert first["input"][0] in {"rome", "paris"}
        run = load(record.folder)
        assert run.evaluate().equal
        answers = run.predict([{"text": "rome", "text_pair": "paris 3", "n": 1}])
        assert answers[0]["text_pair"] == "paris 3"
        assert answers[0]["n"] == 1
        assert answers[0]["predicted"] in {"0", "1"}
        own = {"one": "rome", "other": "paris 3", "n": 1}  # as the data calls them
        assert run.predict([own]) == [
            own | {key: answers[0][key] for key in ("predicted", "probability", "probabilities")}
        ]
        for alone in ("there is a cat", {"text": "rome"}, {"one": "rome", "pair": "x"}, ["rome", "paris"]):
            with pytest.raises(DataError, match=r"texts\[1\]: this run takes pairs .* `text_pair` \(or `other`\)"):
                run.predict([own, alone])
        with pytest.raises(DataError, match=r"texts\[0\]: `other`, as this run calls it, and `text_pair` differ"):
            run.predict([{"text": "rome", "text_pair": "a", "other": "b"}])
        run.export("plain")
        assert reproduce(record.folder, check_only=True).reproduced


class TestFinishedRun:
    @pytest.mark.slow
    def test_its_scores_are_found_again_to_the_last_digit(self, loaded):
        assert loaded.evaluate().equal is True

    @pytest.mark.slow
    def test_new_data(self, loaded, tiny_texts, tmp_path):
        found = loaded.evaluate(data=tiny_texts / "dev.csv", out="kept")
        scores = {score.name: score.value for score in found.scores}
        assert scores == recorded(loaded.record, "validation")
        assert len(lines(Path("kept/test.jsonl"))) == 16
        (tmp_path / "bad.csv").write_text("text,label\nRome,move\nParis,go\n")
        with pytest.raises(DataError, match=r"bad\.csv:3: unknown label 'go'\. .*Labels declared: compare, hire,"):
            loaded.evaluate(data=tmp_path / "bad.csv")

    @pytest.mark.slow
    def test_predictions_are_those_of_the_run(self, loaded, finished_texts):
        kept = lines(finished_texts.folder / "predictions" / "test.jsonl")
        answers = loaded.predict([p["input"] for p in kept])
        assert [answer["predicted"] for answer in answers] == [p["predicted"] for p in kept]
        assert [answer["probability"] for answer in answers] == pytest.approx([p["probability"] for p in kept])
        assert all(sum(answer["probabilities"].values()) == pytest.approx(1) for answer in answers)
        assert answers[0].keys() == {"text", "predicted", "probability", "probabilities"}

    def test_what_is_not_seen_is_told(self, loaded, caplog):
        short, long, nothing = "Rome", "nothing happened today . " * 40, "\u200b"
        answers = loaded.predict([short, long, nothing])
        assert "truncated" not in answers[0]
        assert answers[1]["truncated"] is True
        assert answers[1]["lost_tokens"] > 90
        assert answers[2]["empty"] is True
        lost = f"1 truncated texts, {answers[1]['lost_tokens']} truncated tokens, 1 texts without a token"
        assert caplog.messages == [f"not seen of the input (data.max_tokens=64): {lost}"]
        caplog.clear()
        loaded.predict([short])
        assert not caplog.messages

    @pytest.mark.slow
    def test_so_it_is_of_new_data(self, loaded, caplog):
        Path("new.csv").write_text(f"text,label\n{'Rome ' * 90},move\nRome,hire\n")
        with caplog.at_level("INFO", logger="peftlab"):
            found = loaded.evaluate("new.csv")
        assert found.lost == {"test": {"truncated texts": 1, "truncated tokens": 28}}
        assert (
            "left out of the test split (data.max_tokens=64): 1 truncated texts, 28 truncated tokens" in caplog.messages
        )
        assert loaded.evaluate(splits=["test"]).lost == {}

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"text": "Rome", "text_pair": "Paris"}, "this run takes single texts, no pairs: leave `text_pair` out"),
            ({"other": "Rome"}, "expected `text`, a string"),
            ({"text": ["Rome"]}, "expected `text`, a string"),
            ({"text": None}, "expected `text`, a string"),
            (3, "is a int; expected a text, a list of words or of messages, or an object"),
            (None, "is a NoneType; expected a text"),
            (b"Rome", "is a bytes; expected a text"),
        ],
    )
    def test_the_bad_one_of_many_is_named(self, loaded, given, message):
        with pytest.raises(DataError, match=rf"^texts\[2\]: {re.escape(message)}"):
            loaded.predict(["Rome", {"text": "Paris"}, given, "Rome"])

    def test_a_lone_object_is_refused(self, loaded):
        with pytest.raises(TypeError, match=r"predict\(\[text\]\)"):
            loaded.predict({"text": "Rome"})

    def test_an_objects_own_keys_are_kept(self, loaded):
        given = {"text": "Rome", "predicted": "mine", "truncated": False, "given_probability": 1, "probability": 2}
        (answer,) = loaded.predict([given])
        (bare,) = loaded.predict(["Rome"])
        own = {"given_predicted": "mine", "truncated": False, "given_probability": 1, "given_given_probability": 2}
        assert answer == bare | own

    @pytest.mark.slow
    def test_new_data_of_another_form(self, loaded):
        for text in ("a,b,c\nRome,move,x\n", "text;label\nRome;move\n"):
            Path("new.csv").write_text(text)
            with pytest.raises(
                DataError, match=r"new\.csv:(1:)? .* \(New data has the form and the labels of the run's own, see"
            ):
                loaded.evaluate("new.csv")

    @pytest.mark.slow
    def test_a_run_that_selected_in_the_wrong_direction_is_still_of_use(self, finished_texts, seal):
        """Such runs were made before a direction was checked; the best checkpoint is chosen."""
        copy = Path(shutil.copytree(finished_texts.folder, "copy"))
        config = (copy / "config.yaml").read_text()
        assert "mode: max" in config
        (copy / "config.yaml").write_text(config.replace("metric: macro_f1", "metric: loss"))
        seal(copy)
        assert load(copy).predict(["Rome"])[0]["predicted"] in LABELS

    def test_words_are_no_text(self, loaded):
        with pytest.raises(DataError, match="expected `text`, a string"):
            loaded.predict([["Marie", "Curie"]])

    @pytest.mark.slow
    def test_transformers_reads_an_equal_model(self, loaded):
        exported = loaded.export("out/plain")
        assert 0 <= exported.largest_difference < MERGE_TOLERANCE
        model = AutoModelForSequenceClassification.from_pretrained("out/plain")
        tokenizer = AutoTokenizer.from_pretrained("out/plain")
        assert type(model).__name__ == "BertForSequenceClassification"
        assert model.config.id2label == dict(enumerate(LABELS))
        inputs = tokenizer("Marie Curie moved from Warsaw to Paris .", return_tensors="pt")
        with torch.no_grad():
            torch.testing.assert_close(model(**inputs).logits, loaded.model(**inputs).logits, atol=1e-5, rtol=0)
        card = Path("out/plain/README.md").read_text()
        assert "pipeline_tag: text-classification" in card
        assert "AutoModelForSequenceClassification.from_pretrained" in card
        text = "the Acme report was read by Noether , said Noether ."
        (found,) = pipeline("text-classification", model="out/plain")(text)
        (own,) = loaded.predict([text])
        assert (found["label"], found["score"]) == (own["predicted"], pytest.approx(own["probability"], abs=1e-5))

    @pytest.mark.slow
    def test_it_is_what_its_record_says(self, finished_texts):
        copy = Path(shutil.copytree(finished_texts.folder, "runs/copy"))
        assert reproduce(copy, check_only=True).reproduced
        predictions = copy / "predictions" / "test.jsonl"
        rows = [json.loads(line) for line in predictions.read_text().splitlines()]
        right = next(row for row in rows if row["predicted"] == row["gold"])
        right["predicted"] = next(label for label in LABELS if label != right["gold"])
        predictions.write_text("".join(json.dumps(row) + "\n" for row in rows))
        causes = {cause.what for cause in reproduce(copy, check_only=True).causes}
        assert any("does not follow from the predictions" in what for what in causes)


class TestCommandLine:
    @pytest.mark.slow
    def test_a_label_for_people(self, peftlab, finished_texts):
        code, out, _ = peftlab("predict", finished_texts.folder, "nothing happened today .")
        text, answer = out.splitlines()
        assert (code, text) == (0, "nothing happened today .")
        label, probability = answer.split()
        assert label in LABELS
        assert 0 < float(probability) <= 1

    @pytest.mark.slow
    def test_objects_and_what_is_wrong_with_one(self, peftlab, finished_texts):
        Path("in.jsonl").write_text('{"text": "Rome", "label": "kept", "n": 1}\n')
        code, out, _ = peftlab("predict", finished_texts.folder, "--jsonl", "in.jsonl")
        answer = json.loads(out)
        assert (code, answer["label"], answer["n"]) == (0, "kept", 1)
        Path("in.jsonl").write_text('{"text": "Rome"}\n{"words": ["Rome"]}\n')
        code, out, err = peftlab("predict", finished_texts.folder, "--jsonl", "in.jsonl")
        answer, refused = map(json.loads, out.splitlines())
        assert code == 1
        assert answer["text"] == "Rome"
        assert refused["error"].endswith("expected `text`, a string, and for pairs also `text_pair`, a string")
        assert refused["words"] == ["Rome"]
        assert "1 of 2" in err


class TestMistakes:
    @pytest.mark.slow
    def test_a_task_on_other_data(self, command, tiny_texts):
        ended = command("task=classification")  # on the CoNLL columns of the tiny data
        assert ended.code == 2
        assert "task=classification takes a Text as an example, and data=files has a Sentence" in ended.err

    @pytest.mark.slow
    def test_a_label_that_the_training_split_lacks(self, command, tmp_path):
        (tmp_path / "texts").mkdir()
        for name, label in {"train": "b", "dev": "b", "test": "c"}.items():
            (tmp_path / "texts" / f"{name}.csv").write_text(f"text,label\nRome,a\nParis,{label}\n")
        ended = command("task=classification", "data=csv", "data.path=texts")
        assert ended.code == 2
        assert (
            f"{tmp_path / 'texts' / 'test.csv'}:3: unknown label 'c'. Labels in the training split: a, b" in ended.err
        )


class TestPooling:
    @pytest.mark.slow
    def test_a_run_pools_and_is_used_as_it_was_trained(self, run_texts, texts):
        """The score that the record holds comes out again, and pooling makes another run of it."""
        record, other = run_texts("model.pooling=mean"), run_texts()
        assert record.data["run_id"] != other.data["run_id"]
        assert recorded(record)["loss"] != recorded(other)["loss"]
        run = load(record.folder)
        assert run.evaluate().equal
        with pytest.raises(UserError, match=r"model\.pooling=mean: BertForSequenceClassification of"):
            run.export("exported")
        assert not Path("exported").exists()

    def test_a_task_with_outputs_for_each_token_pools_nothing(self, run_tiny):
        with pytest.raises(ConfigError, match=r"model\.pooling=mean: the head of task=ner has outputs for each token"):
            run_tiny("model.pooling=mean")
