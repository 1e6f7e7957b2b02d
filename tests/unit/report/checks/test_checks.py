"""Every check finds its planted faults, in both tasks, and no check accuses a sound sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.report.checks.faults import FAULTS
from tests.unit.report.sweeps import LABELS, Sweep, _answers, edited_record, planned, run_folders, sound_sweeps

from peftlab.report.analysis.groups import comparisons_of
from peftlab.report.analysis.options import Options
from peftlab.report.checks import checks, findings_of
from peftlab.report.document import Finding
from peftlab.report.study import reading

SHAPES = (
    {"task": "ner", "examples": 20},
    {"task": "classification", "methods": ("full", "lora", "head"), "seeds": (1, 2, 4, 6), "examples": 20},
)


def findings_in(folder: Path, *by: str) -> list[Finding]:
    """Return what all checks say of the runs in a folder, in groups `by` these keys."""
    with reading([folder]) as study:
        return [finding for one in comparisons_of(study, Options(by=by))[0] for finding in findings_of(one)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "some", [slice(None, None, 3), pytest.param(slice(None), marks=pytest.mark.exhaustive)], ids=["a third", "all"]
)
def test_no_check_accuses_a_sound_sweep(tmp_path, some):
    sweeps = list(sound_sweeps())
    assert len(sweeps) == 20
    for name, sweep in sweeps[some]:
        assert findings_in(sweep.write(tmp_path / name)) == [], name


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(checks()))
def test_a_check_finds_each_of_its_planted_faults(name, tmp_path):
    own = {fault: plant for fault, (check, plant) in FAULTS.items() if check == name}
    assert own, f"no fault is planted for {name}: add one to faults.py"
    for number, (fault, plant) in enumerate(own.items()):
        sweep = planned(**SHAPES[number % 2])
        plant(sweep)
        findings = findings_in(sweep.write(tmp_path / fault))
        assert name in {finding.check for finding in findings}, (fault, findings)
        for finding in findings:
            assert finding.text.endswith((".", ")")), finding.text
            assert finding.places


def test_a_step_that_a_resumed_run_has_left_out_again_counts_once(tmp_path):
    sweep = planned(**SHAPES[0])
    sweep.finals[0].history += [
        *({"event": "step left out", "step": step} for step in (12, 30)),
        {"event": "resumed", "step": 20},
        {"event": "step left out", "step": 30},
    ]
    (finding,) = [one for one in findings_in(sweep.write(tmp_path / "sweep")) if one.check == "left_out_steps"]
    assert finding.text.startswith("2 steps of 1 run were left out")


def test_shares_of_one_file_are_two_splits(tmp_path):
    sweep = planned(**SHAPES[0])
    for run in sweep.runs:
        run.data_sha256 |= dict.fromkeys(("validation", "test"), run.data_sha256["train"])
        run.config["data"]["splits"] |= {"validation": 0.1, "test": 0.1}
    assert "test_selected" not in {finding.check for finding in findings_in(sweep.write(tmp_path / "sweep"))}


def test_the_splits_of_interactions_are_not_one_although_they_come_from_one_folder(tmp_path):
    sweep = planned(**SHAPES[0])
    for run in sweep.runs:
        run.data_sha256 |= dict.fromkeys(("validation", "test"), run.data_sha256["train"])
        run.config["data"]["format"] = {"protocol": "leave_one_out"}
    assert "test_selected" not in {finding.check for finding in findings_in(sweep.write(tmp_path / "sweep"))}


def test_every_check_is_documented():
    page = (Path(__file__).parents[4] / "docs" / "reports.md").read_text(encoding="utf-8")
    assert [name for name in checks() if f"`{name}`" not in page] == []


def test_a_finding_is_named_for_its_check_and_the_worst_comes_first(tmp_path):
    sweep = planned(draw=3)
    for _, plant in (FAULTS[name] for name in ("one_seed", "leaked_test_rows", "not_deterministic")):
        plant(sweep)
    findings = findings_in(sweep.write(tmp_path / "sweep"))
    assert [(one.check, one.level) for one in findings] == [
        ("few_seeds", "error"),
        ("leaked_rows", "warning"),
        ("nondeterministic", "note"),
    ]


@pytest.mark.parametrize(
    ("fault", "key"),
    [
        ("other_pretrained_weights", "model"),
        ("longer_texts_for_one_method", "data.max_tokens"),
        ("another_weight_decay_for_one_method", "optimizer"),
        ("half_precision_for_one_method", "trainer.precision"),
        ("twice_the_epochs_for_one_method", "budget.max_epochs"),
    ],
)
def test_what_is_compared_is_no_fault(fault, key, tmp_path):
    sweep = planned(examples=20)
    FAULTS[fault][1](sweep)
    if key == "model":
        for run in sweep.of("lora"):
            run.config["model"]["name"] = "another"
    assert findings_in(sweep.write(tmp_path / "sweep"), "peft", key) == []


def test_another_method_is_no_part_of_what_is_compared_unless_it_is_named(tmp_path):
    sweep = planned(examples=20)
    for run in sweep.runs:
        run.config["model"]["name"] = f"model of {run.method}"
        run.config["peft"]["r"] = {"full": 8, "lora": 64}[run.method]
    sweep.write(tmp_path / "sweep")
    found = {(one.check, one.level): one.text for one in findings_in(tmp_path / "sweep", "model.name")}
    assert found.keys() == {("different_settings", "warning"), ("different_settings", "note")}
    assert "more than is compared: peft.name. A difference" in found["different_settings", "warning"]
    assert "Each group has its own peft.r:" in found["different_settings", "note"]
    assert findings_in(tmp_path / "sweep", "model.name", "peft") == []


def test_decisions_after_the_selection_are_no_false_claim(tmp_path):
    sweep = planned(examples=20)
    for run in sweep.finals:
        run.record |= {"decisions": {"learnt": {"threshold": 0.3}, "optimism": {}}, "selection": {"value": 0.5}}
    assert findings_in(sweep.write(tmp_path / "sweep")) == []


@pytest.mark.parametrize("validates", [True, False])
def test_equal_passes_are_compared_at_equal_compute(tmp_path, validates):
    sweep = planned(examples=20)
    FAULTS["twice_the_epochs_for_one_method"][1](sweep)
    if not validates:  # while it trains, as where half of the epochs are fewer than budget.validate_every
        name = sweep.finals[-1].method  # the one that was trained for longer
        sweep.afterwards.append(
            lambda folder: [edited_record(run, _without_validations) for run in run_folders(folder, name)]
        )
    for run in sweep.runs:
        run.config["budget"] |= {"max_passes": 6, "max_epochs": None}
    (finding,) = findings_in(sweep.write(tmp_path / "sweep"))
    assert (finding.check, finding.level) == ("unequal_training", "note")
    assert "all have 6 passes over the data" in finding.text


def _without_validations(record):
    record["history"] = [event for event in record["history"] if event["event"] != "validated"]


def test_a_mixture_that_all_groups_share_is_only_noted(tmp_path):
    sweep = planned(examples=20)
    for run in sweep.finals:
        if run.seed == 1:
            run.record["code"] = {"commit": "dead" * 10}
    (finding,) = findings_in(sweep.write(tmp_path / "sweep"))
    assert (finding.check, finding.level) == ("different_code", "note")


@pytest.mark.slow
def test_an_ensemble_is_not_accused_of_having_no_seeds(tmp_path):
    sweep = planned(methods=("full", "lora", "head"), seeds=(1, 2, 4), examples=20)
    sweep.runs = [run for run in sweep.runs if run.method != "head" or run.seed == 1]
    of_one = findings_in(sweep.write(tmp_path / "one"))
    assert {finding.check for finding in of_one} >= {"few_seeds", "different_seeds"}
    parents = [{"identity": one, "method": "lora", "device_seconds": 1.0} for one in "ab"]
    sweep.runs[-1].record = {"derived": {"by": "ensemble", "how": {}, "parents": parents}}
    sweep.runs[-1].config["callbacks"] = {}
    assert findings_in(sweep.write(tmp_path / "combined")) == []


def test_labels_that_each_seed_holds_out_are_told_of_once(tmp_path):
    sweep = planned(**SHAPES[1] | {"seeds": (0, 1, 2)})
    for run in sweep.finals:
        own, gold = LABELS[run.seed], {}
        run.config["out_of_scope"] = {"held_out": 1}
        for split, examples in sweep.gold.items():
            gold[split] = [example for example in examples if example["gold"] != own]
            answers = _answers(Sweep(sweep.task, [], gold), run, split)
            run.answers[split] = [
                one | {"predicted": one["gold"]} if one["predicted"] == own else one for one in answers
            ]
        splits = {split: {"file": f"{split}.txt", "rows": len(some)} for split, some in gold.items()}
        labels = [label for label in LABELS if label != own]
        run.record |= {"data": {"labels": labels, "splits": splits}, "out_of_scope": {"held_out": [own]}}
    found = findings_in(sweep.write(tmp_path / "sweep"))
    about = [one for one in found if one.check in ("different_labels", "different_examples")]
    assert [(one.check, one.level) for one in about] == [("different_labels", "warning")]
    assert "out_of_scope.held_out=[a, b]" in about[0].text


def test_passes_of_regularisers_at_equal_steps_are_told(tmp_path):
    sweep = planned(examples=20)
    for run in sweep.of("lora"):
        run.record["regularizers"] = {"rdrop": {"step": 61, "passes": 1}, "sam": {"step": 1, "passes": 1}}
    (finding,) = findings_in(sweep.write(tmp_path / "sweep"))
    assert (finding.check, finding.level) == ("unequal_training", "note")
    assert (
        "(full 1 and lora 3), those of regularisers" in finding.text
    )  # R-Drop in half of 120 steps, all twice for SAM
