"""Streams: stages that start from each other, and what is forgotten on the way."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from peftlab.chains.chain import Chain
from peftlab.composing.hydra_gate import plain_values
from peftlab.continual import stages
from peftlab.continual.report import printed, write
from peftlab.continual.stages import Composing, Contender, Plan
from peftlab.continual.stream import Stream, learn
from peftlab.errors import ConfigError, DataError
from peftlab.python_api import run
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.storage.digests import sha256_of
from peftlab.use.finished import load

pytestmark = pytest.mark.slow

CLASSES = ("stream=classes", "stream.stages=[[hire,move],{name: rest, labels: [nothing,report]}]")
MERGED = (*CLASSES, "stream.method=separate_and_merge")
TASKS = ("stream=tasks", "stream.stages=[[hire,move],[nothing,report]]", "stream.controls=[]")


@pytest.fixture
def stream(tiny_run, tiny_texts):
    overrides = [*tiny_run, "task=classification", "data=csv", f"data.path={tiny_texts}", "logger=[]", "peft.r=2"]
    return lambda *more: [*overrides, "budget.max_steps=2", *more]


@pytest.fixture
def domains(stream, tiny_texts, tmp_path):
    """The same texts in two domains, by the number of their row."""
    (tmp_path / "data").mkdir()
    for file in tiny_texts.iterdir():
        header, *rows = file.read_text().splitlines()
        named = [f"{row},{'even' if place % 2 else 'odd'}" for place, row in enumerate(rows)]
        (tmp_path / "data" / file.name).write_text("\n".join([f"{header},domain", *named]) + "\n")
    stages = "stream.stages=[{name: a, values: [even]}, {name: b, values: [odd]}]"
    return stream(f"data.path={tmp_path / 'data'}", "stream=domains", "stream.column=domain", stages)


def test_new_classes_join_those_of_the_stages_before(stream, tmp_path):
    result = learn(stream(*CLASSES), tmp_path / "s")
    (walk,) = result.walks
    assert walk.stages == ("1", "rest")
    assert np.isnan(walk.matrix.values[0, 1])
    first, second = (RunRecord.load(tmp_path / "s" / run) for run in walk.runs)
    assert first.data["data"]["labels"] == ["hire", "move"]
    assert second.data["data"]["labels"] == ["hire", "move", "nothing", "report"]
    assert walk.matrix.values[1, 1] == second.score("test", "accuracy")
    config = RunFolder(second).read_config()
    assert config["adapter"]["path"] == str(tmp_path / "s" / walk.runs[0] / "adapter")
    assert config["data"]["subset"]["labels"] == ["nothing", "report"]
    assert {walk.contender for walk in result.controls} == {"joint (lora)", "nearest_mean"}
    before = (tmp_path / "s/chain.json").read_bytes()
    again = learn(stream(*CLASSES), tmp_path / "s")
    assert np.array_equal(again.walks[0].matrix.values, walk.matrix.values, equal_nan=True)
    assert (tmp_path / "s/chain.json").read_bytes() == before
    write(result)
    document = json.loads((tmp_path / "s/stream.json").read_text())
    assert document["contenders"]["lora"]["accuracy"]["value"] == walk.matrix.accuracy
    assert document["runs"][walk.runs[1]]["trained_on"] == second.data["data"]["splits"]["train"]["rows"]
    assert "nearest_mean" in printed(result)
    assert "nearest_mean" in (tmp_path / "s/report.md").read_text()


def test_a_stream_goes_on_with_keys_that_decide_nothing_and_from_an_older_version(stream, tmp_path, monkeypatch):
    overrides = stream(*CLASSES, "stream.controls=[]")
    names = []

    def stopped(self, name, config):
        names.append(name)
        raise KeyboardInterrupt

    monkeypatch.setattr(Chain, "run", stopped)

    def call(folder="s"):
        with pytest.raises(KeyboardInterrupt):
            learn(overrides, tmp_path / folder)

    def without(config):
        """Compose as a version does that lacks a key, and what only shows progress, and has a notice."""
        plain = plain_values(config)
        assert plain["data"].pop("clean") is None
        assert plain["callbacks"].pop("progress")
        return plain | {"notice": "not for clinical use"}

    with monkeypatch.context() as older:
        older.setattr(stages, "plain_values", without)
        call()
    call()
    assert len(set(names)) == 1
    config = Composing(tuple(overrides))()
    every = sha256_of({key: config[key] for key in config.keys() - {"run_dir", "existing", "sweep", "logger"}})
    settings = json.loads((tmp_path / "s/chain.json").read_text())
    settings["settings"]["sha256_of_configuration"] = every
    (tmp_path / "old").mkdir()
    (tmp_path / "old/chain.json").write_text(json.dumps(settings))
    call("old")
    whole = Plan(Contender("lora", (), Composing(tuple(overrides))), 0, 0).config(0, [])
    assert names[-1] == f"1-{sha256_of(whole)[:8]}" != names[0]
    overrides.append("data.path=elsewhere")
    with pytest.raises(ConfigError, match="begun with other settings"):
        learn(overrides, tmp_path / "s")


def test_data_that_have_changed_since_the_first_stage_are_refused(stream, tiny_texts, tmp_path, monkeypatch):
    shutil.copytree(tiny_texts, tmp_path / "data")
    overrides = stream(*CLASSES, f"data.path={tmp_path / 'data'}", "stream.controls=[]")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Stream, "_score", killed)
        with pytest.raises(KeyboardInterrupt):
            learn(overrides, tmp_path / "s")
    with (tmp_path / "data/test.csv").open("a") as file:
        file.write("what comes next?,move\n")
    with pytest.raises(DataError, match=r"the data have changed \(test\) since .* was trained"):
        learn(overrides, tmp_path / "s")


def test_a_task_keeps_its_head_and_shares_the_rest(stream, tiny_texts, tmp_path):
    """The old task is scored by the head that it ended with, on the weights of the last stage."""
    (walk,) = learn(stream(*TASKS, "stream.metric=loss", "optimizer.lr=0.1"), tmp_path / "s").walks
    first, second = (tmp_path / "s" / run for run in walk.runs)
    assert RunRecord.load(second).data["data"]["labels"] == ["nothing", "report"]
    one, two = (load_file(run / "adapter/adapter_model.safetensors") for run in (first, second))
    assert set(one) == set(two)
    mixed = load(first).adapted()
    body = {name: value for name, value in two.items() if "classifier" not in name}
    assert any((one[name] != value).any() for name, value in body.items())
    for name, parameter in mixed.named_parameters():
        if (stored := name.replace(".default", "")) in body:
            parameter.data.copy_(parameter.data.new_tensor(body[stored]))
    before = load(first)
    texts = [line.rpartition(",") for line in (tiny_texts / "test.csv").read_text().splitlines()]
    own = [(text.strip('"'), label) for text, _, label in texts if label in ("hire", "move")]
    answers = before.predictor_of(mixed).answers([text for text, _ in own])
    losses = [-np.log(answer["probabilities"][label]) for answer, (_, label) in zip(answers, own, strict=True)]
    assert walk.matrix.values[1, 0] == pytest.approx(np.mean(losses), rel=1e-5)
    assert walk.matrix.values[1, 0] != walk.matrix.values[0, 0]


@pytest.mark.exhaustive
def test_domains_share_a_head_and_can_be_merged(domains, tmp_path):
    more = [
        "stream.controls=[joint,separate]",
        "stream.methods={chain: [], merged: ['stream.method=separate_and_merge']}",
    ]
    result = learn([*domains, *more], tmp_path / "s")
    chain, merged = result.walks
    assert not np.isnan(chain.matrix.values).any()
    assert chain.runs[0] == merged.runs[0]
    assert np.isnan(merged.matrix.values[0, 1])
    assert not np.isnan(merged.matrix.values[1]).any()
    assert merged.matrix.learnt == np.mean(
        [RunRecord.load(tmp_path / "s" / run).score("test", "macro_f1") for run in merged.runs[:2]]
    )
    separate = next(walk for walk in result.controls if walk.contender == "separate (chain)")
    assert separate.runs == merged.runs[:2]
    joint = RunRecord.load(tmp_path / "s" / next(w for w in result.controls if w.contender == "joint (chain)").runs[0])
    rows = [RunRecord.load(tmp_path / "s" / run).data["data"]["splits"]["test"]["rows"] for run in separate.runs]
    assert joint.data["data"]["splits"]["test"]["rows"] == sum(rows) == 16
    assert "difference" in (write(result).parent / "report.md").read_text()


def test_what_cannot_be_says_so(stream, tmp_path):
    with pytest.raises(ConfigError, match="makes a chain of runs"):
        run(*stream(*CLASSES))
    for number, (more, message) in enumerate(
        (
            ((*TASKS, "stream.controls=[joint]"), "heads of their own"),
            ((*TASKS, "stream.method=separate_and_merge"), "heads of their own"),
            ((*CLASSES, "budget.test=false"), "judged by the test splits"),
            ((*CLASSES, "stream.metric=acuracy"), "Did you mean 'accuracy'"),
            ((*CLASSES, "stream.metric=macro_f1"), "nearest_mean is judged by its accuracy"),
            ((*MERGED, "regularizer=[ewc]"), r"regularizer\.ewc: .* would do nothing"),
            ((*MERGED, "peft=o_lora"), "peft=o_lora: .* would do nothing"),
            (("stream=classes", "stream.stages=3"), "not two for each stage"),
            (("stream=classes", "stream.stages=[[hire,move],[hire,nothing]]"), "an earlier stage has too"),
        )
    ):
        with pytest.raises(ConfigError, match=message):
            learn(stream(*more), tmp_path / str(number))
        assert not [*(tmp_path / str(number)).glob("*/")]  # nothing was trained before


@pytest.mark.exhaustive
def test_what_keeps_a_model_from_forgetting_is_told_of_the_stages_before(stream, tmp_path):
    """Every such option in a stream of three stages, of which the last has two before it."""
    more = (
        "stream=classes",
        "stream.stages=[[hire,move],[nothing,report],[compare]]",
        "stream.controls=[joint]",
        "stream.methods={"
        "none: [], replay: ['stream.memory={per_class: 2}'], ewc: ['regularizer=[ewc]'], lwf: ['regularizer=[lwf]'], "
        "der: ['regularizer=[der]', 'stream.memory={per_class: 2}'], "
        "o_lora: ['peft=o_lora'], inflora: ['peft=inflora']}",
    )
    result = learn(stream(*more), tmp_path / "s")
    walks = {walk.contender: walk for walk in result.walks}
    runs = {run["name"]: run for run in result.runs}
    first = {name: walk.runs[0] for name, walk in walks.items()}
    assert {first[name] for name in ("none", "replay", "ewc", "lwf", "der")} == {first["none"]}
    assert all(len({walk.runs[-1] for walk in result.walks} - {walks[name].runs[-1]}) == 6 for name in walks)
    assert [runs[run]["remembered"] for run in walks["replay"].runs] == [0, 4, 8]
    configs = {
        name: RunFolder(RunRecord.load(tmp_path / "s" / walk.runs[2])).read_config() for name, walk in walks.items()
    }
    places = [str((tmp_path / "s" / run).absolute()) for run in walks["ewc"].runs[:2]]
    assert configs["ewc"]["regularizer"]["ewc"]["previous"] == places
    assert configs["lwf"]["regularizer"]["lwf"]["previous"] == str(tmp_path / "s" / walks["lwf"].runs[1])
    assert "adapter" not in configs["o_lora"]
    assert len([walk for walk in result.controls if walk.runs[0] == result.controls[0].runs[0]]) == 1
