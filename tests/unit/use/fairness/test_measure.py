"""Gaps of finished runs: planted ones are found, others are not claimed, what is kept, and which method is fairer."""

from __future__ import annotations

import json
import random

import pytest
from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference
from tests.unit.report.sweeps import LABELS, planned, run_folders

from peftlab import cli
from peftlab.errors import UserError
from peftlab.report.study import Run, reading
from peftlab.runs.folder import FAIRNESS
from peftlab.runs.record import RunRecord
from peftlab.storage.digests import file_sha256
from peftlab.use.fairness import measure
from peftlab.use.fairness.measure import Settings, fairness
from peftlab.use.fairness.methods import methods

RATES = Settings(("terms=gender",), metrics=("accuracy", "fnr", "fpr", "selection_rate"), labels=("negative",))


def biased(sweep, **errors):
    """Give every text a woman or a man, and each method its share of wrong answers for either."""
    for run in sweep.runs:
        draw = random.Random(f"{run.method} {run.seed}")
        answers = []
        for number, example in enumerate(sweep.gold["test"]):
            who = number % 2
            wrong = draw.random() < errors[run.method][who]
            label = draw.choice([one for one in LABELS if one != example["gold"]]) if wrong else example["gold"]
            words = f"{('she', 'he')[who]} {example['input']}"
            answers.append({**example, "input": words, "predicted": label, "probability": 0.8})
        run.answers["test"] = answers
    return sweep


@pytest.fixture
def folder(tmp_path):
    """A run whose model is wrong on every third text about a woman, and on few about a man."""
    sweep = planned("classification", methods=("full",), seeds=(0,), examples=400, groups=0)
    return run_folders(biased(sweep, full=(0.35, 0.05)).write(tmp_path / "sweep"))[0]


def test_a_planted_gap_is_found_and_kept(folder):
    before = RunRecord.load(folder).data
    result = fairness(folder, RATES)
    found = {one.gap.metric: one for one in result.found}
    assert [*found] == ["accuracy", "fnr/negative", "fpr/negative", "selection_rate/negative"]
    assert found["accuracy"].says == "differs"
    assert found["accuracy"].gap.low > 0.15
    assert found["selection_rate/negative"].says == "smaller than could be seen with these sizes"
    assert result.settings["labels"] == ("negative",)
    document = json.loads(json.dumps(result.document()))
    assert document["kind"] == "groups"
    assert Run(RunRecord.load(folder), "").beside(FAIRNESS) == [document]
    assert RunRecord.load(folder).data == before


@pytest.mark.slow
def test_points_are_those_of_fairlearn(folder):
    result = fairness(folder, RATES)
    answers = Run(RunRecord.load(folder), "").answers()
    gold, predicted = ([answer[key] == "negative" for answer in answers] for key in ("gold", "predicted"))
    who = [answer["input"].split()[0] for answer in answers]
    gaps = {one.gap.metric: one.gap.value for one in result.found}
    parity = demographic_parity_difference(gold, predicted, sensitive_features=who)
    assert gaps["selection_rate/negative"] == pytest.approx(parity)
    odds = equalized_odds_difference(gold, predicted, sensitive_features=who)
    assert result.equalised_odds[0]["value"] == pytest.approx(odds)


@pytest.mark.slow
def test_the_correction_is_over_all_gaps(folder):
    from dataclasses import replace

    adjusted, plain = (fairness(folder, replace(RATES, correction=how)).found for how in ("holm", "none"))
    assert adjusted[0].p == pytest.approx(4 * plain[0].p)
    assert adjusted[0].gap.pairs[0].p == adjusted[0].p  # of two groups the pair is the gap
    assert adjusted[0].gap.detectable > plain[0].gap.detectable
    assert adjusted[0].gap.value == plain[0].gap.value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(("terms=religion",)), "fewer than two groups have 20 examples or more"),
        (Settings(("entities=gender",)), "only a run of named entities has entities. Use terms=gender"),
        (Settings(("terms=gender",), split="train"), "kept no predictions of the train split"),
        (Settings(("terms=gendre",)), "there are no such terms. Did you mean 'gender'"),
    ],
)
def test_what_cannot_be_measured(folder, settings, message):
    with pytest.raises(UserError, match=message):
        fairness(folder, settings)


def test_names_of_files_say_nothing_of_who_is_in_them(tmp_path):
    sweep = biased(planned("classification", methods=("full",), seeds=(0,), examples=40, groups=0), full=(0.3, 0.1))
    for number, answer in enumerate(sweep.runs[0].answers["test"]):
        answer["input"] = f"{('she', 'he')[number % 2]}/photo {number}.jpg"
    with pytest.raises(UserError, match="inputs are files, and have no words"):
        fairness(run_folders(sweep.write(tmp_path / "sweep"))[0], RATES)


def test_entities_by_what_they_say(tmp_path):
    sweep = planned("ner", methods=("full",), seeds=(0,), examples=300, groups=0)
    answers = []
    for number, example in enumerate(sweep.gold["test"]):
        tags = ["B-PER", "O"]
        missed = number % 2 == 0 and number % 3 == 0
        answers.append(
            {**example, "input": [("Sister", "Brother")[number % 2], "said"], "gold": tags,
             "predicted": ["O", "O"] if missed else tags, "probability": [0.9, 0.9]}
        )  # fmt: skip
    sweep.runs[0].answers["test"] = answers
    terms = tmp_path / "who.txt"
    terms.write_text("female | male\nsister | brother\n")
    (one,) = fairness(run_folders(sweep.write(tmp_path / "sweep"))[0], Settings((f"entities={terms}",))).found
    assert (one.gap.metric, one.says) == ("fnr", "differs")
    assert {group.name: (group.value, group.size) for group in one.gap.groups} == {
        "female": (pytest.approx(1 / 3), 150),
        "male": (0, 150),
    }


@pytest.mark.slow
def test_which_method_is_fairer(tmp_path):
    """A gap that turns round is not smaller for that."""
    sweep = planned("classification", methods=("full", "lora", "ia3"), examples=400, groups=0)
    biased(sweep, full=(0.3, 0.05), lora=(0.1, 0.1), ia3=(0.05, 0.3))
    with reading([sweep.write(tmp_path / "sweep")]) as study:
        compared = methods(study.runs, Settings(("terms=gender",), metrics=("accuracy",)))
    rows = {row.method: row for row in compared.rows}
    assert compared.baseline == "full"
    assert {method: (row.says, row.seeds) for method, row in rows.items()} == {
        "full": ("baseline", 3),
        "lora": ("fairer", 3),
        "ia3": ("not told apart", 3),
    }
    assert rows["ia3"].gap.value * rows["full"].gap.value < 0
    assert rows["ia3"].against.value == pytest.approx(rows["ia3"].gap.value - rows["full"].gap.value)
    json.dumps(compared.document())


def test_runs_on_other_examples_are_left_out(tmp_path):
    sweep = planned("classification", methods=("full",), seeds=(0, 1), examples=60, groups=0)
    biased(sweep, full=(0.3, 0.05))
    sweep.runs[1].answers["test"] = sweep.runs[1].answers["test"][:-1]
    with reading([sweep.write(tmp_path / "sweep")]) as study:
        compared = methods(study.runs, Settings(("terms=gender",), metrics=("accuracy",)))
    assert len(compared.notes) == 1
    assert "others than those of the first run" in compared.notes[0]
    assert compared.rows[0].says == "baseline"


@pytest.mark.slow
def test_a_report_shows_the_newest_gaps(folder):
    from peftlab.report.analysis.options import Options
    from peftlab.report.analysis.results import analysed
    from peftlab.report.contents import document_of

    fairness(folder, Settings(("terms=gender",), metrics=("ece",)))
    fairness(folder, RATES)
    with reading([folder]) as study:
        document = document_of(analysed(study, Options()))
    (section,) = [one for one in document.sections if one.title == "Fairness"]
    _, shown, figure = section.blocks
    assert [row[3].text for row in shown.rows] == [
        "accuracy", "fnr/negative", "fpr/negative", "selection_rate/negative",
    ]  # fmt: skip
    assert shown.rows[0][-1].text == "differs"
    assert [group["label"] for group in figure.data["groups"]] == ["female", "male"]


def test_a_column_of_the_data_that_the_run_has_read(tmp_path):
    """The rows are found by their ids, though some are held out, and the file must be the one that was read."""
    data, draw = tmp_path / "texts.csv", random.Random(0)
    sweep = planned("classification", methods=("full",), seeds=(0,), examples=120, groups=0)
    (run,) = sweep.runs
    lines, answers = ["text,label,age"], []
    for number, example in enumerate(sweep.gold["test"]):
        age = draw.choice(["old", "young"])
        lines.append(f"{example['input']},{example['gold']},{age}")
        wrong = age == "old" and number % 2 == 0
        label = "neutral" if wrong and example["gold"] != "neutral" else example["gold"]
        answers.append({**example, "id": f"train:{number}", "predicted": label, "probability": 0.8})
    data.write_text("\n".join(lines) + "\n")
    run.answers["test"] = answers[::-1][:110]  # in another order, and not all
    run.config["data"] = {
        "name": "csv",
        "source": {"_target_": "peftlab.sources.FilesSource", "path": str(data)},
        "splits": {"train": data.name, "validation": 0.1, "test": 0.1},
        "format": {"_target_": "peftlab.data.delimited.Delimited", "text": "text", "label": "label"},
        "labels": LABELS,
    }
    run.config["model"]["source"] = run.config["data"]["source"]
    run.data_sha256 = dict.fromkeys(run.data_sha256, file_sha256(data))
    folder = run_folders(sweep.write(tmp_path / "sweep"))[0]
    settings = Settings(("column=age",), metrics=("accuracy",))
    (one,) = fairness(folder, settings).found
    assert one.says == "differs"
    assert {group.name: group.value for group in one.gap.groups}["young"] == 1
    assert sum(group.size for group in one.gap.groups) == 110
    with pytest.raises(UserError, match="there is no column 'sex'"):
        fairness(folder, Settings(("column=sex",)))
    data.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(UserError, match="no longer what the run was scored on"):
        fairness(folder, settings)


def test_the_command(folder, capsys):
    cli.main(["fairness", str(folder), "--groups", "terms=gender", "--metrics", "accuracy,ece", "--min-group", "50"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"run: {folder}: 400 test examples"
    assert lines[1].split()[:3] == ["groups", "metric", "gap"]
    assert lines[2].startswith("terms=gender  accuracy")
    assert lines[2].endswith("differs")
    assert lines[4].startswith("terms=gender, accuracy: female 0.")
    cli.main(["fairness", str(folder), "--groups", "terms=gender", "--metrics", "accuracy", "--json"])
    assert json.loads(capsys.readouterr().out)["found"][0]["says"] == "differs"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["terms=gender", "--places", "us"], "--places acts on names swapped in, and needs --groups names"),
        (["terms=gender", "--templates", "mine.txt"], "--templates acts on names swapped in"),
        (["names", "--metrics", "fnr"], "--metrics acts on groups of examples, and not on names"),
        (["names", "--min-group", "5"], "--min-group acts on groups of examples, and not on names"),
        (["terms=gender", "--intersect"], "--intersect crosses several --groups, and there is only one"),
        (["terms=gender", "--groups", "terms=gender", "--intersect"], "and there is only one"),
        (["terms=gender", "--attributes", "who.csv"], "--attributes who.csv: no --groups column=NAME reads a column"),
        (["terms=gender", "--baseline", "full"], "--baseline full: there is only one run"),
    ],
)
def test_an_option_without_effect_is_refused(folder, capsys, options, message):
    with pytest.raises(SystemExit):
        cli.main(["fairness", str(folder), "--groups", *options])
    assert message in capsys.readouterr().err


def test_groups_that_are_named_twice_are_measured_once_and_what_is_left_out_is_said(folder, capsys):
    (folder.parent / "broken").mkdir()
    (folder.parent / "broken" / "record.json").write_text("{")
    groups = ["--groups", "terms=gender", "--groups", "terms=gender", "--metrics", "accuracy", "--json"]
    cli.main(["fairness", str(folder.parent), *groups])
    out, err = capsys.readouterr()
    assert len(json.loads(out)["found"]) == 1
    assert "left out: " in err
    assert "broken" in err


def test_a_metric_without_a_value_in_two_groups_is_said_not_to_be_measured(folder, monkeypatch, capsys):
    monkeypatch.setattr(measure, "gap", lambda *args, **options: None)
    cli.main(["fairness", str(folder), "--groups", "terms=gender", "--metrics", "accuracy"])
    assert "not measured, too few examples that count or no value: terms=gender: accuracy" in capsys.readouterr().out
