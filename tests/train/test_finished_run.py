"""A finished run used again: scores to the last digit, predictions with their places, an equal plain model."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

from peftlab import cli
from peftlab.errors import DataError, SourceError, UserError
from peftlab.methods.selection import OwnWeights
from peftlab.runs.folder import read_config
from peftlab.runs.identity import identity
from peftlab.storage.atomic import temporary_for
from peftlab.use import evaluate
from peftlab.use.export import MERGE_TOLERANCE
from peftlab.use.finished import load


@pytest.fixture(scope="session")
def loaded(finished):
    return load(finished.folder)


def state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def predictions(folder: Path, split: str = "test") -> list[dict]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


class TestEvaluate:
    @pytest.mark.parametrize(
        ("peft", "precision"),
        [
            pytest.param("full", "32-true", marks=pytest.mark.slow),
            pytest.param("head", "bf16-mixed", marks=pytest.mark.slow),
            pytest.param("lora", "32-true", marks=pytest.mark.slow),
            ("lora", "bf16-mixed"),
        ],
    )
    def test_the_scores_are_those_of_the_record_to_the_last_digit(self, run_tiny, peft, precision):
        record = run_tiny(f"peft={peft}", f"trainer.precision={precision}", "budget.max_steps=12", "run_dir=run")
        found = load("run").evaluate()
        assert found.equal is True
        assert [(s.split, s.name, s.value) for s in found.scores] == [
            (m["split"], m["name"], m["value"]) for m in record.data["metrics"]
        ]
        assert found.elsewhere == {}

    @pytest.mark.slow
    def test_the_run_folder_is_left_alone_and_predictions_are_kept_elsewhere(self, finished, loaded):
        before = state(finished.folder)
        loaded.evaluate(out="kept")
        assert state(finished.folder) == before
        for split in ("validation", "test"):
            kept, own = Path("kept", f"{split}.jsonl"), finished.folder / "predictions" / f"{split}.jsonl"
            assert kept.read_bytes() == own.read_bytes()

    @pytest.mark.slow
    def test_one_split(self, loaded):
        assert {score.split for score in loaded.evaluate(splits=["test"]).scores} == {"test"}

    def test_another_score_than_the_recorded_one_is_told(self, finished):
        shutil.copytree(finished.folder, "copy")
        record = json.loads(Path("copy/record.json").read_text())
        metric = next(m for m in record["metrics"] if (m["name"], m["split"]) == ("loss", "test"))
        metric["value"] += 1e-12
        record["environment"]["cpu"] = "another"
        Path("copy/record.json").write_text(json.dumps(record))
        found = load("copy").evaluate(splits=["test"])
        assert found.equal is False
        assert [score.name for score in found.scores if not score.equal] == ["loss"]
        assert found.elsewhere.keys() == {"cpu"}

    def test_a_score_that_is_no_number_equals_another_such_alone(self, finished, monkeypatch, capsys):
        shutil.copytree(finished.folder, "copy")
        no_number = ("loss", "entity_precision")
        edit(Path("copy"), lambda r: [m.update(value=None) for m in r["metrics"] if m["name"] in no_number])
        now = {"loss": math.nan, "entity_precision": 0.5, "entity_f1": math.nan}
        monkeypatch.setattr(evaluate, "score", lambda *args: now)
        with pytest.raises(SystemExit) as ended:
            cli.main(["evaluate", "copy", "--split", "test", "--json"])
        found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        assert (ended.value.code, found["equal"]) == (1, False)
        assert {one["name"]: one["equal"] for one in found["scores"]} == {
            "loss": True,
            "entity_precision": False,
            "entity_f1": False,
        }

    def test_scores_by_another_scorer_are_not_compared_and_it_says_so(self, finished, monkeypatch, capsys):
        shutil.copytree(finished.folder, "copy")
        edit(Path("copy"), lambda r: [m.update(scorer="an earlier one") for m in r["metrics"] if m["name"] != "loss"])
        monkeypatch.setattr(evaluate, "score", lambda *args: {"entity_f1": 0.5})
        with pytest.raises(SystemExit) as ended:
            cli.main(["evaluate", "copy", "--split", "test"])
        said = capsys.readouterr().out
        assert ended.value.code == 1
        assert "not compared, only in the record: test entity_precision, test entity_recall, test entity_f1" in said
        assert ", by the scorer 'an earlier one'" in said
        assert "not compared, only in the record: test loss, by the scorer '" in said
        assert "not compared, not in the record: test entity_f1, by the scorer '" in said
        assert said.splitlines()[-1] == "nothing could be compared with the record"

    @pytest.mark.slow
    def test_it_computes_with_the_threads_of_the_run_and_gives_back_its_own(self, loaded, monkeypatch):
        seen = []
        monkeypatch.setattr(evaluate, "score", lambda *args: seen.append(torch.get_num_threads()) or {})
        before = torch.get_num_threads()
        loaded.evaluate()
        loaded.evaluate(threads=3)
        recorded = loaded.record.data["environment"]["threads"]
        assert seen == [recorded, recorded, 3, 3]
        assert torch.get_num_threads() == before

    @pytest.mark.slow
    @pytest.mark.parametrize("path", ["data", "data/test.txt"])
    def test_new_data_is_scored_under_the_labels_of_the_run(self, loaded, finished, tiny_data, path):
        Path("data").mkdir()
        shutil.copy(tiny_data / "test.txt", "data")
        found = loaded.evaluate(path)
        assert found.equal is None
        recorded = {m["name"]: m["value"] for m in finished.data["metrics"] if m["split"] == "test"}
        assert {score.name: score.value for score in found.scores} == recorded
        assert {score.recorded for score in found.scores} == {None}

    @pytest.mark.slow
    def test_new_data_may_have_longer_sentences_than_the_model_positions(self, loaded):
        Path("new.txt").write_text("Paris B-LOC\n" * 300 + "\nRome B-LOC\n")
        loaded.evaluate("new.txt", out="kept")
        assert [len(found["predicted"]) for found in predictions(Path("kept"))] == [300, 1]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("Paris B-LOC\nIBM B-ORGA\n", r"new.txt:2: unknown label 'B-ORGA'. Did you mean 'B-ORG'\?"),
            ("Paris\n", "new.txt:1: word and tag are the same column"),
            ("", "new.txt: empty split 'test'"),
        ],
    )
    def test_a_mistake_in_new_data_names_file_and_line(self, loaded, text, message):
        Path("new.txt").write_text(text)
        with pytest.raises(DataError, match=message):
            loaded.evaluate("new.txt")

    @pytest.mark.slow
    def test_new_data_that_cannot_be_meant(self, loaded, tiny_data):
        with pytest.raises(DataError, match="'nowhere': there is no such file or folder"):
            loaded.evaluate("nowhere")
        with pytest.raises(DataError, match="is one file, and so one split"):
            loaded.evaluate(tiny_data / "test.txt", ["validation", "test"])
        Path("empty").mkdir()
        with pytest.raises(DataError, match="which file is the test split"):
            loaded.evaluate("empty")

    @pytest.mark.slow
    def test_data_that_has_changed_since_is_not_passed_off_as_the_runs(self, run_tiny, tiny_data):
        shutil.copytree(tiny_data, "mine")
        run_tiny("data.path=mine", "budget.max_steps=1", "run_dir=run")
        with Path("mine/test.txt").open("a") as file:
            file.write("\nParis B-LOC\n")
        with pytest.raises(DataError, match=r"test.txt is no longer what the run was scored on"):
            load("run").evaluate()
        assert load("run").evaluate(splits=["validation"]).equal


class TestPredict:
    def test_as_the_run_did_for_the_same_words(self, finished, loaded):
        recorded = predictions(finished.folder / "predictions")
        assert any(example["predicted_entities"] for example in recorded)
        answers = loaded.predict([example["input"] for example in recorded])
        assert answers == [{"words": r["input"], "entities": r["predicted_entities"]} for r in recorded]

    def test_entities_are_slices_of_the_text(self, loaded):
        text = "Marie Curie moved from Warsaw to Paris."
        (answer,) = loaded.predict([text])
        (as_words,) = loaded.predict([["Marie", "Curie", "moved", "from", "Warsaw", "to", "Paris", "."]])
        assert answer["text"] == text
        assert answer["entities"]
        assert [entity["text"] for entity in answer["entities"]] == [e["text"] for e in as_words["entities"]]
        for entity in answer["entities"]:
            assert entity.keys() == {"type", "start", "end", "text", "probability"}
            assert entity["text"] == text[entity["start"] : entity["end"]]

    @pytest.mark.slow
    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(st.text() | st.lists(st.sampled_from(["Paris", "Marie", "\u200b", "東京", ",", "\n"])).map(" ".join))
    )
    def test_any_texts(self, loaded, texts):
        answers = loaded.predict(texts)
        assert [answer["text"] for answer in answers] == texts
        for answer in answers:
            for entity in answer["entities"]:
                assert entity["text"] == answer["text"][entity["start"] : entity["end"]] != ""
                assert 0 < entity["probability"] <= 1

    @pytest.mark.parametrize("texts", [[], [""], [" \n"], ["", "Paris", ""], [[]], [["", "Paris"]]])
    def test_there_is_an_answer_for_nothing(self, loaded, texts):
        assert [answer.get("text", answer.get("words")) for answer in loaded.predict(texts)] == texts

    def test_a_long_text_is_cut_into_rows(self, loaded):
        text = "Paris and Rome . " * 200
        (answer,) = loaded.predict([text])
        (short,) = loaded.predict([text[:17]])
        assert short["entities"]
        assert answer["entities"][-1]["start"] > 3000

    def test_a_lone_text_is_refused(self, loaded):
        with pytest.raises(TypeError, match=r"predict\(\[text\]\)"):
            loaded.predict("Paris")


class TestExport:
    @pytest.mark.slow
    @pytest.mark.parametrize("peft", [pytest.param("full", marks=pytest.mark.slow), "lora"])
    def test_transformers_reads_an_equal_model(self, run_tiny, tiny_data, peft):
        run_tiny(f"peft={peft}", "budget.max_steps=12", "run_dir=run")
        run = load("run")
        exported = run.export("out/plain")
        assert 0 <= exported.largest_difference < MERGE_TOLERANCE
        model = AutoModelForTokenClassification.from_pretrained("out/plain")
        tokenizer = AutoTokenizer.from_pretrained("out/plain")
        assert model.config.id2label == dict(enumerate(run.spec.task.labels))
        assert len(tokenizer("paris " * 500, truncation=True)["input_ids"]) == tokenizer.model_max_length == 64
        assert type(model).__name__ == "BertForTokenClassification"
        assert {type(module).__name__ for module in model.classifier.modules()} == {"Linear"}
        inputs = tokenizer("Marie Curie moved from Warsaw to Paris.", return_tensors="pt")
        with torch.no_grad():
            expected = run.model(**inputs).logits
            found = model(**inputs).logits
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        found = pipeline("token-classification", model="out/plain", aggregation_strategy="first")("Curie saw Paris")
        assert all({"entity_group", "score", "word"} <= entity.keys() for entity in found)

    @pytest.mark.slow
    def test_the_folder(self, finished, loaded, tiny_model):
        left = temporary_for(Path("elsewhere").absolute())  # of an export that was killed long ago
        left.mkdir()
        os.utime(left, (0, 0))
        loaded.export("plain")
        assert not left.exists()
        names = {path.name for path in Path("plain").iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
        assert not list(Path().glob(".plain*"))
        card = Path("plain/README.md").read_text()
        for metric in finished.data["metrics"]:
            assert f"| {metric['split']} | {metric['name']} | {metric['value']:.4f} | {metric['scorer']} |" in card
        assert "48 train, 16 validation, 16 test" in card
        assert "Licence of the data**: unknown" in card
        assert "None" not in card
        assert str(tiny_model) not in card
        assert str(tiny_model) not in Path("plain/config.json").read_text()

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_what_is_there_is_left_alone(self, loaded, kind):
        if kind == "file":
            Path("there").write_text("mine")
        else:
            Path("there").mkdir()
            Path("there/mine").write_text("mine")
        with pytest.raises(UserError, match="'there' is there already and not empty"):
            loaded.export("there")

    @pytest.mark.slow
    def test_an_empty_folder_will_do(self, loaded):
        Path("empty").mkdir()
        loaded.export("empty")
        assert Path("empty/README.md").is_file()

    @pytest.mark.slow
    def test_scores_that_the_run_does_not_have_are_not_put_on_the_card(self, copied):
        edit(copied, lambda r: next(m for m in r["metrics"] if m["name"] == "entity_f1").update(value=0.99))
        with pytest.raises(UserError, match=r"validation entity_f1 does not follow .*peftlab reproduce copy"):
            load(copied).export("plain")
        assert {path.name for path in Path().iterdir()} == {"copy", "cache"}

    @pytest.mark.slow
    def test_nor_are_those_that_nothing_shows_any_more(self, copied, caplog):
        shutil.rmtree(copied / "predictions")
        load(copied).export("plain")
        card = Path("plain/README.md").read_text()
        assert "The scores of the run are left out: predictions/test.jsonl, which could confirm them, is gone" in card
        assert "model-index" not in card
        assert "| entity_f1 |" not in card
        assert "the model card has no scores" in caplog.text

    @pytest.mark.slow
    def test_a_model_that_computes_something_else_is_not_exported(self, run_tiny, monkeypatch):
        def spoilt(method, model):
            model.classifier.bias.data += 0.1
            return model

        run_tiny("peft=head", "budget.max_steps=1", "run_dir=run")
        monkeypatch.setattr(OwnWeights, "merge", spoilt)
        with pytest.raises(RuntimeError, match=r"logits differ by 0\.1"):
            load("run").export("plain")
        assert {path.name for path in Path().iterdir()} == {"run", "cache"}


CHANGED = {
    "another adapter": ("adapter/adapter_model.safetensors", lambda f: weights(f, lambda w: -w)),
    "zeros": ("adapter/adapter_model.safetensors", lambda f: weights(f, lambda w: 0 * w)),
    "half of it": ("adapter/adapter_model.safetensors", lambda f: f.write_bytes(f.read_bytes()[:999])),
    "strength": ("adapter/adapter_config.json", lambda f: put(f, '"lora_alpha": 16', '"lora_alpha": 64')),
    "no description": ("adapter/adapter_config.json", Path.unlink),
    "labels": ("adapter/labels.json", lambda f: f.write_text(json.dumps(json.loads(f.read_text())[::-1]))),
    "one file more": ("adapter/prompt_encoder.safetensors", lambda f: f.write_bytes(b"")),
    "configured strength": ("config.yaml", lambda f: put(f, "lora_alpha: 16", "lora_alpha: 64")),
    "order of labels": ("config.yaml", lambda f: put(f, "- LOC\n  - ORG\n  - PER", "- PER\n  - ORG\n  - LOC")),
    "modules": ("config.yaml", lambda f: put(f, "max_tokens: 128", "max_tokens: 16")),
    "seed": ("config.yaml", lambda f: put(f, "\nseed: 0\n", "\nseed: 1\n")),
}
"""By what is changed: the file, and how."""


def weights(file: Path, change) -> None:
    save_file({name: change(tensor) for name, tensor in load_file(file).items()}, file)


def put(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def edit(folder: Path, change) -> None:
    record = json.loads((folder / "record.json").read_text())
    change(record)
    (folder / "record.json").write_text(json.dumps(record))


@pytest.fixture
def copied(finished) -> Path:
    shutil.copytree(finished.folder, "copy")
    return Path("copy")


class TestWhatIsLoaded:
    """It is what the record tells of, or nothing is computed with it."""

    @pytest.mark.parametrize("what", CHANGED)
    def test_a_file_that_was_changed_after_the_run(self, copied, what):
        name, change = CHANGED[what]
        change(copied / name)
        with pytest.raises(UserError, match=rf"^copy: {name} is not .* `peftlab reproduce copy`"):
            load("copy")

    def test_labels_of_the_record_in_another_order(self, copied):
        """As of a run of an older version, which has them in no file of their own."""
        (copied / "adapter/labels.json").unlink()
        edit(copied, lambda r: r.update(files=[f for f in r["files"] if f["path"] != "adapter/labels.json"]))
        load("copy")
        edit(copied, lambda r: r["data"]["labels"].reverse())
        with pytest.raises(UserError, match=r"the labels in config.yaml is not those that the adapter has"):
            load("copy")

    @pytest.mark.slow
    def test_what_decides_nothing_may_be_changed(self, copied, loaded):
        put(copied / "config.yaml", "\ntrainer:\n", "\n# mine\ntrainer:\n")
        put(copied / "config.yaml", "log_every: 1\n", "log_every: 7\n")
        shutil.move("copy", "elsewhere")
        assert load("elsewhere").predict(["Marie saw Rome"]) == loaded.predict(["Marie saw Rome"])

    def test_a_record_without_digests_is_refused_where_the_run_is_completed(self, copied, caplog):
        edit(copied, lambda r: r.update(files=[]))
        with pytest.raises(UserError, match=r"the list of files in its record is not that of a completed run"):
            load("copy")
        edit(copied, lambda r: r.update(status="interrupted"))
        load("copy")
        assert "copy: its record has no digests of the adapter" in caplog.text


class TestLoad:
    def test_a_run_that_did_not_finish_has_no_model(self, finished):
        shutil.copytree(finished.folder, "copy", ignore=shutil.ignore_patterns("adapter"))
        record = json.loads(Path("copy/record.json").read_text())
        Path("copy/record.json").write_text(json.dumps(record | {"status": "interrupted"}))
        with pytest.raises(UserError, match="the run left no model: its status is 'interrupted'"):
            load("copy")

    @pytest.mark.slow
    def test_another_model_in_the_same_folder_is_not_taken_for_it(self, run_tiny, tiny_model):
        shutil.copytree(tiny_model, "model")
        run_tiny("model.path=model", "budget.max_steps=1", "run_dir=run")
        config = json.loads(Path("model/config.json").read_text())
        Path("model/config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-6}))
        with pytest.raises(SourceError, match="is no longer the model that run was trained on"):
            load("run")

    @pytest.mark.slow
    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_run_from_a_gpu_is_used_on_the_cpu(self, finished, loaded, capsys):
        shutil.copytree(finished.folder, "copy")
        config = Path("copy/config.yaml").read_text()
        assert "accelerator: cpu" in config
        config = config.replace("accelerator: cpu", "accelerator: gpu").replace("32-true", "16-mixed")
        config = config.replace("tf32: false", "tf32: true")
        Path("copy/config.yaml").write_text(config)
        record = json.loads(Path("copy/record.json").read_text())
        known = record["identity"]
        made_there = identity(read_config(Path("copy")), known["data_sha256"], known["weights_sha256"])
        Path("copy/record.json").write_text(json.dumps(record | {"identity": made_there}))
        run = load("copy")
        assert not run.predictor.tf32
        assert run.predict(["Marie moved to Paris"]) == loaded.predict(["Marie moved to Paris"])
        assert run.evaluate(splits=["test"]).equal
