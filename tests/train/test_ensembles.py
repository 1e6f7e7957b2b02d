"""Finished runs whose answers are averaged or voted on: again a run, with what its parents were."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from peftlab.errors import UserError
from peftlab.tasks.outputs.mixing import Members
from peftlab.use.ensembles.averaging import average
from peftlab.use.ensembles.members import check_members
from peftlab.use.finished import load

OTHERS = {"bitfit": ["peft=bitfit", "seed=1"], "full": ["peft=full", "seed=2", "optimizer.lr=1e-3"]}


@pytest.fixture(scope="session")
def members(finished, run_once):
    """Runs of three methods and seeds; tests only read them."""
    others = [run_once(f"member-{name}", *overrides, "budget.max_steps=40") for name, overrides in OTHERS.items()]
    return [load(record.folder) for record in (finished, *others)]


def predictions(run, split="test"):
    return [json.loads(line) for line in (run.folder.predictions / f"{split}.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_an_average_is_a_run_that_answers_as_the_mean_of_its_members(members):
    run = average(members, temperature=1.0)
    record = run.record
    assert record.data["status"] == "completed"
    assert [one["id"] for one in record.derived["parents"]] == [one.record.data["run_id"] for one in members]
    for answers in zip(*(predictions(one) for one in (run, *members)), strict=True):
        mine, *theirs = [[list(word.values()) for word in one["probabilities"] if word] for one in answers]
        np.testing.assert_allclose(mine, np.mean(theirs, 0), atol=2e-6)
    assert run.evaluate().equal
    (answer,) = run.predict(["Ada Lovelace moved to Paris ."])
    assert answer["entities"] is not None
    assert average(members, temperature=1.0).folder.path == run.folder.path


@pytest.mark.slow
def test_what_was_fitted_once_is_found(members, monkeypatch):
    first = average(members)
    monkeypatch.setattr("peftlab.use.ensembles.averaging._fitted", None)
    assert average(members).folder.path == first.folder.path


@pytest.mark.slow
def test_an_average_of_one_is_its_member_bit_for_bit(members):
    for member in members:
        run = average([member], temperature=1.0)
        assert [one | {"id": ""} for one in predictions(run)] == [one | {"id": ""} for one in predictions(member)]
        metrics = [{(m["split"], m["name"]): m["value"] for m in one.record.data["metrics"]} for one in (run, member)]
        assert metrics[0] == metrics[1]


@pytest.mark.slow
def test_the_command_shows_members_gain_and_cost(members, peftlab):
    paths = [str(one.folder.path) for one in members]
    code, out, _ = peftlab("ensemble", *paths, "--weights", "validation", "--json")
    document = json.loads(out)
    assert code == 0
    assert [one["id"] for one in document["members"]] == [one.record.data["run_id"] for one in members]
    assert sum(document["weights"]) == pytest.approx(1)
    assert document["over_best"]["low"] <= document["over_best"]["value"] <= document["over_best"]["high"]
    tests = [one["test"] for one in document["members"]]
    assert document["over_mean"]["value"] == pytest.approx(document["ensemble"]["test"] - np.mean(tests), abs=1e-6)
    assert document["temperature"] != 1
    shared = document["ensemble"]["parameters"]
    assert max(one["parameters"] for one in document["members"]) < shared
    assert shared < sum(one["parameters"] for one in document["members"])
    code, out, _ = peftlab("ensemble", *paths, "--how", "vote")
    assert "vote over the best by validation" in out
    for number in ("0", "-1"):
        code, _, err = peftlab("ensemble", *paths, "--best", number)
        assert (code, "--best: invalid positive whole number value" in err) == (2, True)


@pytest.mark.slow
def test_a_member_that_was_tested_on_less_leaves_the_difference_to_the_best(members, run_once, peftlab):
    options = ["peft=head", "budget.max_steps=2", "budget.eval_examples=6", "seed=1"]
    less = run_once("member-of-few-examples", *options)
    code, out, _ = peftlab("ensemble", str(members[0].folder.path), str(less.folder))
    assert code == 0
    (compared,) = [line for line in out.splitlines() if line.startswith("average over")]
    assert compared.startswith("average over the best by validation: ")
    assert " over examples, p " in compared
    assert "not compared with the mean: their groups of test examples differ" in out


@pytest.mark.slow
def test_members_run_in_one_pass_as_in_several_and_share_frozen_weights(members):
    run = average([members[0]] * 2 + [members[1]], temperature=1.0)
    model = run.model
    assert isinstance(model, Members)
    lora, again, bitfit = [dict(member.named_parameters()) for member in model.members]
    frozen = [name for name, parameter in lora.items() if not parameter.requires_grad]
    assert frozen
    assert all(lora[name] is again[name] for name in frozen)
    ours = {parameter.data_ptr() for parameter in lora.values()}
    assert any(parameter.data_ptr() in ours for parameter in bitfit.values())
    assert all(p.data_ptr() not in ours for p in bitfit.values() if p.requires_grad)
    same = average([members[0]] * 3, weights=[1, 2, 3], temperature=1.0).model
    inputs = dict(run.tokenizer(["Ada moved to Paris .", "Rome"], return_tensors="pt", padding=True))
    with torch.inference_mode():
        together, apart = same.each(inputs), [member(**inputs) for member in same.members]
        several = model.each(inputs)  # of two methods, and so one after another
        assert torch.equal(several[2].logits, model.members[2](**inputs).logits)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one.logits, other.logits, atol=1e-6, rtol=1e-6)
    assert same.together.apart is None
    assert "share too few" in model.together.apart


@pytest.mark.slow
def test_labels_in_another_order_are_matched_and_others_are_refused(members, run_once, tiny_data):
    types = list(reversed(members[0].parts.task.types))
    other = load(run_once("other-order", f"data.labels=[{','.join(types)}]", "budget.max_steps=40", "seed=3").folder)
    assert other.parts.task.labels != members[0].parts.task.labels
    run = average([members[0], other], weights=[0, 1], temperature=1.0)
    of_other = {one["id"]: one["predicted"] for one in predictions(other)}
    assert {one["id"]: one["predicted"] for one in predictions(run)} == of_other
    fewer = load(members[0].folder.path)
    fewer.parts.task.labels = fewer.parts.task.labels[:-1]
    with pytest.raises(UserError, match="the labels differ"):
        check_members([members[0], fewer])


@pytest.mark.slow
def test_runs_that_do_not_go_together_are_refused_by_name(members, finished_writer):
    with pytest.raises(UserError, match=r"does not go with .*: the pretrained weights differ"):
        check_members([members[0], load(finished_writer.folder)])
    of_a_fold = load(members[0].folder.path)
    of_a_fold.config["data"]["fold"] = "2/5"  # the other one was trained on what this one is tested on
    with pytest.raises(UserError, match=r"the values of data\.fold differ, None and 2/5"):
        check_members([of_a_fold, members[0]])


@pytest.mark.slow
def test_the_text_of_an_ensemble_is_one_of_its_members(finished_writer):
    member = load(finished_writer.folder)
    run = average([member, member])
    texts = [one["predicted"] for one in predictions(member)]
    assert [one["predicted"] for one in predictions(run)] == texts
    assert run.predict(["Hello"])[0]["written"] == member.predict(["Hello"])[0]["written"]
    with pytest.raises(UserError, match="can be streamed"):
        list(run.stream("Hello"))


@pytest.mark.slow
def test_an_ensemble_is_no_plain_model_and_is_not_trained(members):
    run = average(members[:2], temperature=1.0)
    with pytest.raises(UserError, match="--how soup"):
        run.export("plain")
    with pytest.raises(UserError, match="not trained as a whole"):
        run.parts.peft.calibrate(run.model, ())
