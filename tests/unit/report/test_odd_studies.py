"""Studies that are odd but not damaged: every one of them gets a report, with names that files and links can have."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.unit.report import sweeps
from tests.unit.report.sweeps import edited_record, planned, run_folders

from peftlab.report import archive, html, latex, markdown
from peftlab.report.analysis import results
from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.contents import document_of
from peftlab.report.document import link_name, link_names
from peftlab.report.sections.summary import lines
from peftlab.report.study import canonical, reading
from peftlab.runs.folder import keep_beside


def reported(folder, **options):
    """Return the analysis of a folder, and its whole report as Markdown."""
    with reading([folder]) as study:
        analysis = analysed(study, Options(**options))
        document = document_of(analysis)
        canonical(document.numbers)
        html.check_names(document)
        latex.page(document)
        return analysis, markdown.page(document)


@pytest.mark.slow
def test_a_test_split_of_one_group_says_nothing_of_other_test_sets(tmp_path):
    analysis, page = reported(planned(examples=20, groups=1).write(tmp_path / "sweep"))
    (result,) = analysis.results
    assert result.units is None
    assert all(row.whole.covers == "seeds" and row.test_set is None for row in result.rows)
    assert "all predictions are of one group, which says nothing of others" in page


@pytest.mark.slow
def test_a_score_that_is_no_number_without_one_group_says_nothing_of_other_test_sets(tmp_path, monkeypatch):
    """As the correlation is where all answers of the other group are the same."""

    def score_of(scorer, metric):
        return lambda totals: np.where(len(totals) > 1, np.nan, scorer.batched(totals)[metric])

    monkeypatch.setattr(results, "score_of", score_of)
    analysis, page = reported(planned(examples=20, groups=2).write(tmp_path / "sweep"))
    (result,) = analysis.results
    assert all(row.whole.covers == "seeds" and row.test_set is None for row in result.rows)
    assert "without some of the groups, entity_f1 is no number" in page


@pytest.mark.slow
def test_lists_that_were_tuned_are_shown(tmp_path):
    sweep = planned(trials=4, examples=20)
    for number, run in enumerate(sweep.runs):
        run.config["peft"]["targets"] = ["query"] if number % 2 else ["query", "value"]
    folder = sweep.write(tmp_path / "sweep")
    for number, run in enumerate(run_folders(folder, tested=False)):
        edited_record(run, lambda record, n=number: record["overrides"].append(f"peft.targets={n % 2}"))
    _, page = reported(folder)
    assert "\\['query'\\], \\['query', 'value'\\]" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    "names", [("größe", "方法"), ("方", "法"), ("x" * 200, "x" * 199)], ids=["letters", "short", "long"]
)
def test_groups_may_have_any_name(names, tmp_path, monkeypatch):
    for number, name in enumerate(names):
        monkeypatch.setitem(sweeps.METHODS, name, (0.1 + number / 10, 1000))
    sweep = planned("classification", methods=names, examples=20)
    for run in sweep.runs:
        run.config["data"]["name"] = "数据"
    folder = sweep.write(tmp_path / "sweep")
    reported(folder)
    for run in run_folders(folder):
        (run / "config.yaml").unlink()  # so that the task is unknown
    reported(folder)


def test_names_for_links_are_short_and_tell_texts_apart():
    texts = ["LoRA r=8", "größe", "方", "法", "x" * 200, "x" * 199, "-", ""]
    names = [link_name(text) for text in texts]
    assert names[0] == "lora-r-8"
    assert len(set(names)) == len(texts)
    for name in names:
        assert html.NAME.fullmatch(name)
        assert len(name) <= 40


def test_texts_with_the_same_name_for_links_have_names_of_their_own():
    names = link_names(["optimizer.lr", "optimizer_lr", "peft.r", "peft.r"])
    assert names["peft.r"] == "peft-r"
    assert len(set(names.values())) == 3
    assert all(html.NAME.fullmatch(name) for name in names.values())


@pytest.mark.slow
def test_a_measurement_of_robustness_without_all_numbers_is_shown(tmp_path):
    folder = planned(examples=20).write(tmp_path / "sweep")
    drop = {"value": float("nan"), "low": float("nan"), "high": float("inf")}
    outcome = {"perturbation": "typos", "scores": {"entity_f1": 0.5}, "broken": 1, "mended": 0, "p": None}
    outcomes = [outcome | {"drop": drop}, outcome | {"perturbation": "upper", "drop": drop | {"value": 0.1}}]
    one = {"split": "test", "metric": "entity_f1", "examples": 20, "clean": {"entity_f1": float("nan")}}
    one["outcomes"] = outcomes
    first, second, *_ = run_folders(folder)
    (first / "robustness.json").write_text(json.dumps([one]), encoding="utf-8")  # as earlier versions wrote it
    assert keep_beside(second, "robustness.json", one)
    assert "NaN" not in (second / "robustness.json").read_text(encoding="utf-8")
    _, page = reported(folder)
    assert page.count("typos") >= 2


@pytest.mark.slow
def test_a_measurement_of_explanations_is_shown_as_far_as_it_has_numbers(tmp_path):
    folder = planned(examples=20).write(tmp_path / "sweep")
    above = {"value": 0.4567, "low": 0.3, "high": 0.6}
    known = {"how": "ig", "comprehensiveness": 0.8, "sufficiency": 0.2, "above_random": above, "complete": 0.975}
    unknown = known | {"how": "attention", "above_random": dict.fromkeys(above), "complete": None}
    stable = {"how": "ig", "seeds": [1, 2], "correlation": {"value": 0.71, "low": 0.6, "high": 0.8}}
    one = {"split": "test", "examples": 20, "baseline": "mask", "outcomes": [known, unknown], "stability": [stable]}
    first, second, *_ = run_folders(folder)
    assert keep_beside(first, "explanation.json", one)
    (second / "explanation.json").write_text('[{"outcomes": [{}]}, {}]', encoding="utf-8")
    _, page = reported(folder)
    assert "0.300 to 0.600" in page
    assert "97.5%" in page
    assert "| attention |" in page
    assert "0.710" in page


def test_groups_whose_values_look_alike_stay_apart(tmp_path):
    sweep = planned("classification", methods=("lora", "full"), examples=20)
    for run in sweep.runs:
        run.config["optimizer"]["lr"] = 0.00123456 + 1e-9 * (run.method == "full")
    analysis, _ = reported(sweep.write(tmp_path / "sweep"), by=("optimizer.lr",))
    (result,) = analysis.results
    assert [row.name for row in result.rows] == ["lr=0.00123456 (1)", "lr=0.00123456 (2)"]
    for row in result.rows:
        assert row.measured.scores == pytest.approx([run.score() for run in row.group.final], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "documents"),
    [
        ("robustness.json", [{"metric": "entity_f1", "outcomes": [{}]}]),
        ("robustness.json", [{"metric": 1, "outcomes": None}]),
        ("diff.json", [{"settings": {"top": 10}, "layers": [], "runs": [{"weights": {"matrices": [{}]}}]}]),
        ("fairness.json", [{"kind": "groups", "found": [{}]}]),
        ("reproduction.json", [{"verdict": "identical", "causes": 5, "because": {}, "again": []}]),
    ],
)
def test_what_lies_beside_a_record_in_another_form_is_left_out(name, documents, tmp_path):
    folder = planned(examples=20).write(tmp_path / "sweep")
    (run_folders(folder)[0] / name).write_text(json.dumps(documents), encoding="utf-8")
    reported(folder)


def test_what_never_varies_has_no_interval_and_shows_nothing(tmp_path):
    sweep = planned("classification", methods=("full", "lora"), examples=20, groups=0)
    for run in sweep.runs:
        run.error_rate = 0.0
    analysis, page = reported(sweep.write(tmp_path / "sweep"))
    (result,) = analysis.results
    for row in result.rows:
        assert (row.value, row.whole.low, row.seeds.low) == (1, None, None)
        assert row.test_set is not None
        assert row.test_set.low == pytest.approx(0.82, abs=0.01)  # of 20 examples, all right
        assert row.test_set.high == 1
    (pair,) = result.pairs
    assert (pair.detectable, pair.needed) == (None, None)
    assert "100.00 to" not in page.replace("\u00a0", " ")
    assert "a power of 80 %" not in page


def test_intervals_of_shares_stay_between_0_and_100_percent(tmp_path):
    sweep = planned("classification", methods=("full",), examples=20)
    for run in sweep.runs:
        run.error_rate = 0.05
    analysis, _ = reported(sweep.write(tmp_path / "sweep"))
    (row,) = analysis.results[0].rows
    limits = [limit for one in (row.whole, row.seeds, row.test_set) if one for limit in (one.low, one.high)]
    assert all(limit is not None and 0 <= limit <= 1 for limit in limits)
    assert 1 in limits


@pytest.mark.slow
def test_without_variation_nothing_is_better(tmp_path):
    scores = {"full": 0.8, "lora": 0.9, "ia3": 0.7}
    folder = planned("classification", methods=tuple(scores), examples=20).write(tmp_path / "sweep")

    def change(record):
        for score in record["metrics"]:
            score["value"] = scores[record["method"]["name"]]

    for run in run_folders(folder):
        (run / "predictions" / "test.jsonl").unlink()
        edited_record(run, change)
    analysis, _ = reported(folder)
    assert analysis.results[0].beside_the_best == set(scores)


def test_runs_without_a_seed_are_no_result(tmp_path):
    folder = planned("classification", examples=20).write(tmp_path / "sweep")
    for run in run_folders(folder):
        edited_record(run, lambda record: record["environment"].update(seeds={}))
    analysis, _ = reported(folder)
    assert "No tested run has this score and a seed" in lines(analysis)[0]


@pytest.mark.slow
def test_a_run_in_a_folder_and_in_its_archive_counts_once(tmp_path):
    folder = planned("classification", examples=20, trials=2).write(tmp_path / "sweep")
    archive.write([folder], tmp_path / "a.zip")
    with reading([folder, tmp_path / "a.zip"]) as both, reading([folder]) as alone:
        assert len(both) == len(alone) == 10


def test_a_baseline_without_a_score_is_named(tmp_path):
    sweep = planned("classification", methods=("full", "lora", "head"), examples=20)
    for run in sweep.of("head"):
        run.status = "failed"
    analysis, _ = reported(sweep.write(tmp_path / "sweep"), baseline="head")
    assert analysis.results[0].pairs == ()
    assert "head has no test score, so that nothing is compared with it." in lines(analysis)
