"""From runs to a document: what it says, and that it never says more than it may."""

from __future__ import annotations

import json
import re

import pytest
from tests.unit.report.sweeps import edited_record, planned, run_folders

from peftlab.report import latex, markdown
from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.contents import document_of
from peftlab.report.sections.summary import lines
from peftlab.report.study import canonical, reading


def reported(*paths, **options):
    with reading(paths) as study:
        analysis = analysed(study, Options(**options))
        return analysis, document_of(analysis)


def blocks(sections, kind):
    for section in sections:
        yield from (block for block in section.blocks if type(block).__name__ == kind)
        yield from blocks(section.sections, kind)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    methods = ("full", "lora", "head")
    return planned(methods=methods, seeds=(0, 1, 2, 3), trials=5, examples=120).write(
        tmp_path_factory.mktemp("s") / "a"
    )


@pytest.mark.slow
def test_the_sections_figures_and_numbers(sweep):
    analysis, document = reported(sweep, price_per_device_hour=2.0, baseline="lora")
    names = [section.title for section in document.sections]
    assert names[:5] == ["Summary", "Before you believe it", "Score and cost", "Scores", "Compared with lora"]
    assert names[-1] == "Appendix"
    kinds = {figure.kind for figure in blocks(document.sections, "Figure")}
    assert kinds >= {
        "seeds",
        "differences",
        "pareto",
        "per_type",
        "confusion",
        "reliability",
        "variance",
        "tuning_curve",
    }
    everything = [block.name for kind in ("Figure", "Table") for block in blocks(document.sections, kind)]
    assert len(everything) == len(set(everything))
    numbers = json.loads(canonical(document.numbers))
    (comparison,) = numbers["comparisons"]
    assert comparison["baseline"] == "lora"
    assert [group["name"] for group in comparison["groups"]] == ["full", "lora", "head"]
    (result,) = analysis.results
    row = result.row("lora")
    assert comparison["groups"][1]["scores"]["over_seeds"]["value"] == row.value
    recorded = [run.score() for run in row.group.final]
    assert row.measured.scores == pytest.approx(recorded, abs=1e-6)
    assert row.test_set is not None
    assert row.test_set.clusters == 12
    for text in (markdown.page(document), latex.page(document)):
        assert len(text) > 5000


@pytest.mark.slow
def test_the_same_records_give_the_same_document(sweep):
    one, other = (reported(sweep)[1] for _ in range(2))
    assert markdown.page(one) == markdown.page(other)
    assert canonical(one.numbers) == canonical(other.numbers)


@pytest.mark.slow
def test_fewer_than_three_seeds_claim_nothing(tmp_path):
    folder = planned(methods=("full", "head"), seeds=(0, 1)).write(tmp_path / "sweep")
    analysis, document = reported(folder)
    said = " ".join(lines(analysis))
    assert "nothing can be claimed" in said
    assert "better than" not in said
    assert not [
        cell for table in blocks(document.sections, "Table") for row in table.rows for cell in row if cell.strong
    ]


@pytest.mark.slow
def test_a_clear_winner_is_bold_and_named(tmp_path):
    folder = planned(methods=("full", "head"), seeds=(0, 1, 2, 3, 4), examples=150, groups=50).write(tmp_path / "sweep")
    analysis, document = reported(folder)
    said = " ".join(lines(analysis))
    assert "It is better than every other group" in said or "It is better than the other group" in said
    assert re.search(
        r"The mean of full is \d+\.\d\d points better than that of head, .* times the trained parameters", said
    )
    (numbers,) = document.numbers["comparisons"]
    assert numbers["best_against_the_next"]["times"]["parameters"] > 1
    scores = next(table for table in blocks(document.sections, "Table") if table.name.endswith("scores-table"))
    assert [cell.text for row in scores.rows for cell in row if cell.strong][:1] == ["full"]


@pytest.mark.slow
def test_equal_methods_are_not_ranked(tmp_path):
    sweep = planned(methods=("full", "lora"), seeds=(0, 1, 2), examples=60)
    for run in sweep.runs:
        run.error_rate = 0.1
    analysis, document = reported(sweep.write(tmp_path / "sweep"))
    (result,) = analysis.results
    assert result.beside_the_best == {"full", "lora"}
    scores = next(table for table in blocks(document.sections, "Table") if table.name.endswith("scores-table"))
    assert not [cell for row in scores.rows for cell in row if cell.strong]


@pytest.mark.slow
def test_runs_without_predictions_are_reported_over_seeds_alone(tmp_path):
    folder = planned(seeds=(0, 1, 2)).write(tmp_path / "sweep")
    for file in folder.rglob("test.jsonl"):
        file.unlink()
    analysis, document = reported(folder)
    (result,) = analysis.results
    assert result.units is None
    assert all(row.test_set is None for row in result.rows)
    assert any("over seeds" in line for line in lines(analysis))
    assert not [figure for figure in blocks(document.sections, "Figure") if figure.kind == "variance"]


@pytest.mark.slow
def test_records_alone_are_enough(tmp_path):
    folder = planned(seeds=(0, 1, 2), trials=3).write(tmp_path / "sweep")
    for file in folder.rglob("*"):
        if file.is_file() and file.name != "record.json":
            file.unlink()
    analysis, document = reported(folder)
    assert {row.name for row in analysis.results[0].rows} == {"full", "lora"}
    assert markdown.page(document)


@pytest.mark.slow
def test_damage_is_named_and_never_a_crash(tmp_path):
    folder = planned(seeds=(0, 1, 2)).write(tmp_path / "sweep")
    runs = run_folders(folder)
    (runs[0] / "record.json").write_text('{"schema')
    (runs[1] / "predictions" / "test.jsonl").write_bytes(b"\xff\xfe{")
    (runs[2] / "reproduction.json").write_text("[1]")
    (runs[3] / "robustness.json").write_text('[{"outcomes": [], "metric": "entity_f1"}, {}]')
    (runs[4] / "config.yaml").write_text("{")
    edited_record(runs[5], lambda record: record.update(error={"type": "X", "message": "y"}, status="failed"))
    analysis, document = reported(folder)
    page = markdown.page(document)
    assert runs[0].name in page
    assert "cannot be scored" in page
    assert len(analysis.runs) == 5


def test_nothing_was_tested(tmp_path):
    sweep = planned(methods=("lora",), seeds=(), trials=3)
    analysis, document = reported(sweep.write(tmp_path / "sweep"))
    assert "No run was tested" in lines(analysis)[0]
    assert markdown.page(document)


@pytest.mark.slow
def test_a_rerun_and_its_verdict(tmp_path):
    folder = planned(seeds=(0, 1, 2)).write(tmp_path / "sweep")
    verdict = {"verdict": "identical", "because": "all bits are equal", "again": "reproductions/x", "causes": []}
    (run_folders(folder)[0] / "reproduction.json").write_text(json.dumps([verdict]))
    analysis, _ = reported(folder)
    assert "1 identical (the same bits)" in lines(analysis)[-1]


def test_of_a_score_without_a_range_nothing_is_a_tie(tmp_path):
    """A run that fails is judged by the size of the score then."""
    folder = planned("classification", examples=20).write(tmp_path / "sweep")

    def loss(record, value):
        for score in record["metrics"]:
            if (score["name"], score["split"]) == ("loss", "test"):
                score["value"] = value

    for number, run in enumerate(run_folders(folder)):
        edited_record(run, lambda record, value=1 + 0.0001 * number: loss(record, value))
    (result,) = reported(folder, metric="loss")[0].results
    assert [(pair.margin, pair.verdict.says) for pair in result.pairs] == [(None, "worse")]
    edited_record(run_folders(folder, "lora")[0], lambda record: loss(record, 9.0))
    page = markdown.page(reported(folder, metric="loss")[1])
    assert "No difference is called a tie: loss has no least and largest value" in page
    assert "lies over 0.1000 below the group's median (above, as less is better): lora (" in page
    (result,) = reported(folder, metric="loss", margin=99.0)[0].results
    assert [pair.verdict.says for pair in result.pairs] == ["tie"]
