"""Loops that ask for labels, in studies and with people, on the tiny model."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from peftlab.active_learning import queries
from peftlab.active_learning.loop import Settings, study
from peftlab.active_learning.observing import observe
from peftlab.active_learning.pool import without_gold
from peftlab.chains.chain import read_chain
from peftlab.errors import ConfigError, DataError
from peftlab.runs.label_budget import label_budget_of
from peftlab.runs.record import RunRecord
from peftlab.use.examples import data_of
from peftlab.use.finished import load

pytestmark = pytest.mark.slow

SIZES = ["budget.max_steps=2", "logger=[]", "callbacks=[]", "model.dropout=0.1"]


@pytest.fixture
def classify(tiny_run, tiny_texts):
    return (*tiny_run, "task=classification", "data=csv", f"data.path={tiny_texts}", *SIZES)


@pytest.fixture
def tag(tiny_overrides):
    return (*tiny_overrides, *SIZES)


def asked(folder, stage):
    return json.loads((folder / "lists" / f"{stage}.json").read_text())


def bits(folder):
    return {file.relative_to(folder): file.read_bytes() for file in sorted(folder.rglob("adapter/*.safetensors"))}


def test_a_study_is_paired_found_again_and_extended(classify, tiny_texts, tmp_path):
    moved = shutil.copytree(tiny_texts, tmp_path / "texts")
    classify = tuple(text.replace(str(tiny_texts), str(moved)) for text in classify)
    settings = Settings(classify, batch=6, initial=10)
    folder = tmp_path / "loop"
    facts = study(folder, settings, ["random", "breaking_ties"], rounds=1, seeds=1)
    names = [stage["name"] for stage in read_chain(folder)["stages"]]
    assert names == ["seed-0-start", "seed-0-random-1", "seed-0-breaking_ties-1"]  # the first is shared
    assert [(one["query"], one["round"], one["budget"], one["asked"]) for one in facts] == [
        (query, n, 10 + 6 * n, 10 + 6 * n) for query in ("random", "breaking_ties") for n in (0, 1)
    ]
    for name in names:
        record = RunRecord.load(folder / name)
        data = data_of(load(record.folder), ["train"])
        assert [one.id for one in data.splits["train"].examples] == sorted(asked(folder, name)["train"], key=_number)
        assert record.data["selection"]["step"] == 2
        assert label_budget_of(record) == (len(asked(folder, name)["train"]), 0, [])
    start, random, ties = (set(asked(folder, name)["train"]) for name in names)
    assert start < random
    assert start < ties != random

    before = bits(folder)
    torn = folder / "lists" / f".seed-0-random-2.json.{2**120}"  # of a loop that was killed while it wrote
    torn.touch()
    more = study(folder, settings, ["random", "breaking_ties"], rounds=2, seeds=1)
    assert not torn.exists()
    assert [one for one in more if one["round"] < 2] == facts
    assert {name: content for name, content in bits(folder).items() if name in before} == before
    with pytest.raises(ConfigError, match=r"begun with other settings .*batch=6, now 7"):
        study(folder, Settings(classify, batch=7, initial=10), ["random"], rounds=1, seeds=1)
    with (moved / "test.csv").open("a") as file:
        file.write("nothing more ,nothing\n")
    with pytest.raises(DataError, match=r"the data have changed \(test\) since .*seed-0-start was trained"):
        study(folder, settings, ["random"], rounds=1, seeds=1)


def _number(id):
    return int(id.partition(":")[2])


def test_labels_that_were_not_asked_for_decide_nothing(classify, tiny_texts, tmp_path):
    overrides = [*classify, "data.labels=[compare,hire,move,nothing,report]"]
    first = study(tmp_path / "a", Settings(tuple(overrides), batch=5, initial=8), ["breaking_ties"], rounds=1, seeds=1)
    known = {_number(id) for id in asked(tmp_path / "a", "seed-0-start")["train"]}
    other = tmp_path / "other"
    other.mkdir()
    for file in tiny_texts.iterdir():
        header, *rows = file.read_text().splitlines()
        if file.name == "train.csv":
            rows = [row if n in known else f"{row.rpartition(',')[0]},move" for n, row in enumerate(rows)]
        (other / file.name).write_text("\n".join([header, *rows]) + "\n")
    changed = tuple(text.replace(str(tiny_texts), str(other)) for text in overrides)
    second = study(tmp_path / "b", Settings(changed, batch=5, initial=8), ["breaking_ties"], rounds=1, seeds=1)
    assert asked(tmp_path / "a", "seed-0-breaking_ties-1") == asked(tmp_path / "b", "seed-0-breaking_ties-1")
    assert first[0]["score"] == second[0]["score"]  # trained on the same labels


def test_words_are_what_labels_of_sentences_cost(tag, tmp_path):
    folder = tmp_path / "loop"
    facts = study(folder, Settings(tag, batch=40, initial=60, in_words=True), ["mnlp"], rounds=2, seeds=1)
    whole = data_of(load(folder / "seed-0-start"), ["train"])
    longest = 12
    for one in facts:
        assert one["budget"] <= one["asked"] < one["budget"] + longest
    assert whole.splits["train"].rows == facts[0]["trained_on"]


def test_a_share_of_the_labels_may_choose_the_checkpoint(classify, tmp_path):
    folder = tmp_path / "loop"
    settings = Settings(classify, batch=6, initial=10, validation=0.2, warm_start=True)
    facts = study(folder, settings, ["random"], rounds=1, seeds=1)
    assert [(one["trained_on"], one["validated_on"], one["asked"]) for one in facts] == [(8, 2, 10), (13, 3, 16)]
    first, second = asked(folder, "seed-0-start"), asked(folder, "seed-0-random-1")
    assert set(first["validation"]) < set(second["validation"])
    assert not set(second["validation"]) & set(second["train"])
    run = load(folder / "seed-0-random-1")
    assert [one.id for one in data_of(run).splits["validation"].examples] == sorted(second["validation"], key=_number)
    assert run.record.data["data"]["splits"]["validation"]["rows"] == 3
    assert label_budget_of(run.record)[:2] == (13, 3)
    assert run.config["adapter"]["path"] == str(folder / "seed-0-start/adapter")


def test_the_last_round_costs_what_is_left_of_the_pool(classify, tmp_path):
    """The pool has 48 texts, which a curve cannot go beyond."""
    facts = study(tmp_path / "loop", Settings(classify, batch=90, initial=10), ["random"], rounds=3, seeds=1)
    assert [(one["budget"], one["asked"]) for one in facts] == [(10, 10), (48, 48)]


def test_what_a_loop_refuses(classify, tag, tmp_path):
    dry = ["model.dropout=0", "model.attention_dropout=0"]
    for overrides, options, query, reason in (
        ([*classify, "budget.train_examples=null", "budget.per_class=4"], {}, "random", "labels that nobody has"),
        ([*classify, "budget.test=false"], {}, "random", "a curve is one of test scores"),
        ([*classify, "out_of_scope=msp"], {}, "random", "out_of_scope chooses its threshold by validation labels"),
        ([*classify], {"in_words": True}, "random", "labels texts: give --batch"),
        ([*classify], {"initial": 48}, "random", "the pool has 48 labels"),
        ([*classify], {"initial": 1, "validation": 0.2}, "random", "first sample has 1 example, and one more is need"),
        ([*tag], {"initial": 1, "in_words": True, "validation": 0.2}, "random", "or --validation none"),
        ([*classify], {}, "mnlp", "would be least_confidence"),
        ([*classify], {}, "randon", "Did you mean 'random'"),
        ([*tag], {}, "badge", "one label a text"),
        ([*classify, "peft=head", *dry], {}, "bald", "the model has no dropout"),
    ):
        settings = Settings(tuple(overrides), **{"batch": 5, "initial": 8, **options})
        with pytest.raises(ConfigError, match=reason):
            study(tmp_path / reason[-9:], settings, [query], rounds=1, seeds=1)


class TestObserving:
    @pytest.fixture(scope="class")
    def runs(self, tiny_model, tiny_texts, tiny_data, tiny_label_sets, tiny_numbers, tmp_path_factory):
        """A finished run of each kind of task."""
        from peftlab.composing.compose import compose
        from peftlab.one_run import run

        tiny = ["model=folder", f"model.path={tiny_model}", "trainer=cpu", "trainer.precision=32-true", "budget=smoke"]
        tasks = {
            "classification": [f"data.path={tiny_texts}", "data=csv", "task=classification", "peft=head"],
            "ner": [f"data.path={tiny_data}", "data=files", "data.max_tokens=8"],
            "several labels": [f"data.path={tiny_label_sets}", "data=several_labels", "task=multilabel"],
            "regression": [f"data.path={tiny_numbers}", "data=csv", "task=regression"],
        }
        folder = tmp_path_factory.mktemp("observed")
        return {
            kind: load(run(compose(*tiny, *SIZES, *own, f"run_dir={folder / str(n)}")).folder)
            for n, (kind, own) in enumerate(tasks.items())
        }

    def test_answers_and_what_the_head_reads(self, runs):
        for kind, run in runs.items():
            gold = list(data_of(run).splits["train"].examples)[:20]
            examples = list(map(without_gold, gold))
            seen = observe(
                run,
                examples,
                {"distributions", "samples", "embeddings"} if kind != "regression" else {"embeddings"},
                (0,),
            )
            assert len(seen) == 20
            assert seen.embeddings.shape == (20, 32)
            if kind == "regression":
                assert seen.distributions.size == 0
                continue
            assert np.allclose(seen.distributions.sum(-1), 1, atol=1e-5)
            assert seen.samples.shape == (10, *seen.distributions.shape)
            assert not np.allclose(seen.samples[0], seen.samples[1])
            for name in queries.names():
                if kind not in queries.named(name).REFUSES:
                    chosen = queries.named(name).choose(
                        seen.of(range(5, 20)), seen.of(range(5)), 4, np.random.default_rng(0)
                    )
                    assert len(set(chosen.tolist())) == 4, (kind, name)
            again = observe(run, examples, {"samples"}, (0,))
            assert np.array_equal(seen.samples, again.samples)
            assert np.array_equal(seen.distributions, again.distributions)
            assert not np.array_equal(seen.samples, observe(run, examples, {"samples"}, (1,)).samples)

    def test_the_answers_are_those_of_predict(self, runs):
        run = runs["classification"]
        examples = [without_gold(one) for one in data_of(run).splits["train"].examples]
        seen = observe(run, examples, {"distributions", "embeddings"}, (0,))
        answers = run.predict([one.text for one in examples])
        predicted = np.asarray([list(answer["probabilities"].values()) for answer in answers])
        assert np.allclose(seen.distributions, predicted, atol=1e-6)
        assert [run.parts.task.labels[n] for n in seen.distributions.argmax(-1)] == [
            one["predicted"] for one in answers
        ]
        weight, bias = (
            dict(run.model.named_parameters())[f"classifier.{name}"].detach().numpy() for name in ("weight", "bias")
        )
        logits = seen.embeddings @ weight.T + bias
        softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        assert np.allclose(softmax, seen.distributions, atol=1e-5)


class TestAsking:
    @pytest.fixture
    def pool(self, tmp_path):
        lines = ["text", "marie curie moved from rome to paris .", '"=acme hired ada, in rome"', "nothing happened ."]
        (tmp_path / "pool.csv").write_text("\n".join(lines * 1) + "\n")
        return tmp_path / "pool.csv"

    def test_people_label_what_is_asked(self, peftlab, classify, pool, tmp_path):
        given = tmp_path / "given.jsonl"
        given.write_text(json.dumps({"id": "given:0", "text": "paris hired ada .", "label": "hire"}) + "\n")
        command = [
            "active",
            "budget.train_examples=null",
            f"data.labelled={given}",
            *classify,
            "--query",
            "least_confidence",
            "--batch",
            "2",
            "--rounds",
            "2",
            "--ask",
            pool,
            "--out",
            tmp_path / "loop",
        ]
        code, out, err = peftlab(*command)
        file = tmp_path / "loop/label-1.csv"
        assert (code, out.splitlines()[1]) == (
            0,
            f"Label the 2 examples in {file}, with ? where nobody can decide; then give the same command again.",
        ), err
        rows = list(csv.DictReader(file.open()))
        assert [list(row) for row in rows] == [["id", "text", "label"]] * 2
        assert peftlab(*command)[1] == out  # nothing has been labelled yet
        texts = {row["id"]: row["text"].removeprefix("'") for row in rows}

        def answer(**labels):
            lines = ["id;text;label", *(f'{id};"another text";{label}' for id, label in labels.items())]
            file.write_text("\ufeff" + "\r\n".join(lines) + "\r\n")
            return peftlab(*command)

        one, other = texts
        for labels, reason in (
            ({one: "move", other: ""}, f"1 of 2 have no label yet: '{other}'"),
            ({one: "move"}, f"'{other}' is gone"),
            ({one: "move", other: "hire", "pool:7": "hire"}, "was not asked about 'pool:7'"),
            ({one: "move", other: "hird"}, "unknown label 'hird'. Did you mean 'hire'"),
        ):
            code, _, err = answer(**labels)
            assert code == 2
            assert reason in err
        code, out, err = answer(**{one: "move", other: "?"})
        assert code == 0, err
        assert out.startswith("round 1: 1 labels from the pool")
        run = load(tmp_path / "loop/round-1")
        (mine,) = [example for example in data_of(run).splits["train"].examples if example.id == one]
        assert (mine.text, mine.label) == (texts[one], "move")
        assert run.record.data["data"]["splits"]["train"]["rows"] == 50
        assert "given:0" in {example.id for example in data_of(run).splits["train"].examples}  # as in round 0
        (last,) = csv.DictReader((tmp_path / "loop/label-2.csv").open())
        assert last["id"] not in texts

        code, _, err = answer(**{one: "hire", other: "?"})
        assert (code, "has changed since round 1 was trained" in err) == (2, True)
        answer(**{one: "move", other: "?"})
        (tmp_path / "loop/label-2.csv").write_text(f"id,label\n{last['id']},nothing\n")
        code, out, _ = peftlab(*command, "--json")
        state = json.loads(out)
        assert (code, state["round"], state["labelled"], state["file"]) == (0, 2, 2, None)
        pool.write_text("text\nanother\n")
        assert "begun with other settings (pool=" in peftlab(*command)[2]

    def test_words_are_labelled_in_json_lines(self, peftlab, tag, tmp_path):
        pool = ['{"text": "ada moved ."}', '{"id": "x", "words": ["rome", "and", "rome", "and", "paris"]}']
        (tmp_path / "pool.jsonl").write_text("\n".join(pool))
        command = [
            "active",
            "budget.train_examples=null",
            *tag,
            "--query",
            "random",
            "--batch-tokens",
            "1",
            "--rounds",
            "2",
            "--ask",
            tmp_path / "pool.jsonl",
            "--out",
            tmp_path / "loop",
        ]
        for done in (0, 1):  # the first sentence costs more than both rounds
            code, out, err = peftlab(*command, "--json")
            assert code == 0, err
            state = json.loads(out)
            assert (state["round"], state["labelled"], state["questions"]) == (done, done, 1)
            file = Path(state["file"])
            first = json.loads(file.read_text())
            assert first.keys() == {"id", "words", "tags"}
            first["tags"] = ["B-PER", *["O"] * (len(first["words"]) - 1)]
            file.write_text(f"{json.dumps(first)}\n")
        state = json.loads(peftlab(*command, "--json")[1])
        assert (state["round"], state["labelled"], state["file"]) == (2, 2, None)
        examples = {one.id: one for one in data_of(load(tmp_path / "loop/round-2")).splits["train"].examples}
        assert examples[first["id"]].tags[0] == "B-PER"


def test_the_command_prints_curves(peftlab, classify, tmp_path):
    command = [
        "active",
        *classify,
        "--query",
        "random",
        "--query",
        "entropy",
        "--batch",
        "6",
        "--initial",
        "10",
        "--rounds",
        "1",
        "--seeds",
        "2",
        "--out",
        tmp_path / "loop",
    ]
    code, out, err = peftlab(*command)
    assert code == 0, err
    head, random, entropy, *_ = out.splitlines()
    assert head.split() == ["query", "10", "labels", "16", "labels", "area", "minus", "random"]
    assert (random[:7], entropy[:8]) == ("random ", "entropy ")
    document = json.loads(peftlab(*command, "--json")[1])
    assert [curve["budgets"] for curve in document["curves"]] == [[10, 16]] * 2
    assert document["curves"][0]["gain"] is None
    assert document["curves"][1]["gain"]["number"] == 2
    assert "<svg" in (tmp_path / "loop/curve.html").read_text()
