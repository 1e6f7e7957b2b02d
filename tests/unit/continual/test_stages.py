"""From a stream's settings to the configuration of each stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftlab.composing.hydra_gate import plain_values
from peftlab.continual import stages
from peftlab.continual.spec import stream_spec
from peftlab.continual.stages import Composing, Contender, Plan
from peftlab.errors import ConfigError

BASE = ("task=classification", "data=csv", "data.path=DATA", "data.labels=[a,b,c,d,e,f]", "stream=classes")
RUNS = [Path("one"), Path("two")]


@pytest.fixture
def plan(monkeypatch, compose_config):
    def compose(*overrides, config_dir):
        return compose_config(*overrides)

    monkeypatch.setattr(stages, "compose", compose)

    def of(*more, own=(), seed=0, order=0):
        return Plan(Contender("c", tuple(own), Composing((*BASE, *more))), seed, order)

    return of


@pytest.mark.slow
def test_classes_add_up_and_each_stage_starts_from_the_one_before(plan):
    three = plan("stream.stages=3", seed=7)
    assert [stage.labels for stage in three.stages] == [("a", "b"), ("c", "d"), ("e", "f")]
    first, last = three.config(0, []), three.config(2, RUNS)
    assert first["data"]["labels"] == ["a", "b"]
    assert "adapter" not in first or first["adapter"] is None
    assert last["data"]["labels"] == ["a", "b", "c", "d", "e", "f"]
    assert last["data"]["subset"] == {"labels": ["e", "f"]}
    assert last["adapter"] == "two/adapter"
    assert (last["seed"], last["stream"]) == (7, None)
    joint = three.joint()
    assert joint["data"]["labels"] == ["a", "b", "c", "d", "e", "f"] == joint["data"]["subset"]["labels"]


def test_joint_training_has_the_budget_of_all_stages_together(plan):
    three = plan("stream.stages=3", "budget.train_examples=20", "budget.max_steps=4")
    budgets = [config["budget"] for config in (three.alone(0), three.joint())]
    assert [(budget["train_examples"], budget["max_steps"]) for budget in budgets] == [(20, 4), (60, 12)]
    grows = plan("stream.stages=3", "budget.train_examples=0.5", "budget.max_epochs=2")
    assert grows.joint()["budget"] == grows.alone(0)["budget"]


def test_joint_training_has_the_data_of_the_stages_and_no_other(plan):
    column = "stream.column=of"
    for last in ("{labels: [c], values: [y]}", "{labels: [c]}"):
        with pytest.raises(ConfigError, match="joint: the stages differ in labels and in values"):
            plan(column, f"stream.stages=[{{labels: [a], values: [x]}},{last}]").joint()
    same = plan(column, "stream.stages=[{labels: [a], values: [x]},{labels: [c], values: [x]}]")
    assert same.joint()["data"]["subset"] == {"labels": ["a", "c"], "column": "of", "values": ["x"]}


@pytest.mark.slow
def test_tasks_have_labels_of_their_own(plan):
    config = plan("stream=tasks", "stream.stages=3").config(1, RUNS[:1])
    assert config["data"]["labels"] == ["c", "d"] == config["data"]["subset"]["labels"]


@pytest.mark.slow
def test_an_order_is_a_permutation_of_listed_stages_and_of_labels_where_stages_are_a_number(plan):
    listed = "stream.stages=[[a,b],[c,d],[e,f]]"
    orders = [plan(listed, order=n) for n in range(8)]
    names = {tuple(stage.name for stage in one.stages) for one in orders}
    assert names <= {tuple(each) for each in ("123", "132", "213", "231", "312", "321")}
    assert len(names) > 2
    assert {(stage.name, stage.labels) for one in orders for stage in one.stages} == {
        ("1", ("a", "b")),
        ("2", ("c", "d")),
        ("3", ("e", "f")),
    }
    drawn = plan("stream.stages=3", order=1)
    assert sorted(label for stage in drawn.stages for label in stage.labels) == list("abcdef")
    assert [stage.labels for stage in drawn.stages] == [
        stage.labels for stage in plan("stream.stages=3", order=1).stages
    ]


def test_memory_and_what_keeps_a_model_from_forgetting_begin_with_the_second_stage(plan, monkeypatch):
    memory = plan("stream.stages=3", "stream.memory={per_class: 5}")
    assert memory.config(0, [])["data"]["replay"] is None
    replay = memory.config(2, RUNS)["data"]["replay"]
    assert replay == [{"run": "one", "per_class": 5}, {"run": "two", "per_class": 5}]
    kinds = {
        "last": {"_target_": "x", "previous": None},
        "all": {"_target_": "x", "previous": []},
        "given": {"_target_": "x", "previous": "RUN"},
        "other": {"_target_": "x"},
    }

    def with_regularizers(self, *more):
        config = composed(self, *more)
        return config | {"regularizer": {name: dict(node) for name, node in kinds.items()}}

    composed = Composing.__call__
    monkeypatch.setattr(Composing, "__call__", with_regularizers)
    assert set(memory.config(0, [])["regularizer"]) == set(memory.joint()["regularizer"]) == {"given", "other"}
    filled = memory.config(2, RUNS)["regularizer"]
    assert filled["last"]["previous"] == "two"
    assert filled["all"]["previous"] == ["one", "two"]
    assert filled["given"]["previous"] == "RUN"


def test_what_was_remembered_before_the_stream_still_is(plan):
    old = {"run": "old", "per_class": 2}
    three = plan("stream.stages=3", "stream.memory={per_class: 5}", "data.replay=[{run: old, per_class: 2}]")
    assert three.config(0, [])["data"]["replay"] == [old]
    assert three.config(1, RUNS[:1])["data"]["replay"] == [old, {"run": "one", "per_class": 5}]


@pytest.mark.parametrize(
    ("own", "more", "message"),
    [
        ([], ["data.subset={labels: [a,b,c,d]}"], "data.subset: the stages"),
        ([], ["stream.stages=[{overrides: ['data.subset={labels: [a]}']},[c,d]]"], "data.subset: the stages"),
        ([], ["stream.stages=[{name: x, labels: [a], overrides: ['seed=9']},[c,d]]"], "stages: x: seed=9: is set for"),
        ([], ["stream.stages=[[a],{labels: [c], overrides: ['stream.memory.per_class=3']}]"], "2: stream.memory"),
        (["stream.controls=[]"], [], r"methods\.c: stream\.controls=\[\]: .* may be set here: stream\.memory"),
        (["seed=5"], [], "seeds are listed in stream.seeds"),
        (["adapter=RUN/adapter"], [], "is set for the stream as a whole"),
    ],
)
def test_what_would_be_overlooked_is_refused(plan, own, more, message):
    with pytest.raises(ConfigError, match=message):
        plan("stream.stages=3", *more, own=own)


def test_an_override_takes_the_place_of_an_earlier_one(plan):
    assert plan("peft=lora", "stream.stages=3").contender.composing("peft=full")["peft"]["name"] == "full"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"stages": 1}, "greater than or equal to 2"),
        ({"stages": [["a", "b"]]}, "two or more"),
        ({"stages": [["a", "b"], {"name": "x"}]}, "says nothing"),
        ({"stages": [{"values": ["x"]}, {"values": ["y"]}]}, "of which column"),
        ({"stages": [["a"], ["b"]], "column": "of"}, "column = 'of': no stage has values"),
        ({"stages": 3, "column": "of"}, "column = 'of': a number divides labels"),
        ({"scenario": "domain", "stages": 3}, "domains share theirs"),
        ({"scenario": "task", "stages": 3, "memory": {"per_class": 5}}, "knows no label of the others"),
        ({"stages": 3, "memory": {"per_class": 5}, "method": "separate_and_merge"}, "no stage follows another"),
        ({"stages": [{"name": "a/b", "labels": ["a"]}, ["b"]]}, "names a folder"),
        ({"stages": 3, "seeds": [1, 1]}, "listed twice"),
        ({"stages": 3, "methd": "x"}, "Did you mean"),
    ],
)
def test_settings_that_make_no_stream(more, message):
    with pytest.raises(ConfigError, match=message):
        stream_spec({"scenario": "class", **more})


@pytest.mark.parametrize("option", ["classes", "domains", "tasks"])
def test_the_options_have_every_key(compose_config, option):
    stages = "[{overrides: [seed]},{overrides: [seed]}]"
    section = plain_values(compose_config(f"stream={option}", f"stream.stages={stages}").stream)
    spec = stream_spec(section)
    assert set(section) == set(vars(spec))
