"""What the runs cannot say."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.results import Analysis, Result
from peftlab.report.document import Paragraph, Section
from peftlab.report.numbers import called, count, plural
from peftlab.report.sections import audit, fairness, reruns, robustness
from peftlab.report.sections.cost import energy_of
from peftlab.report.statistics.comparison import FEWEST_SEEDS
from peftlab.runs import privacy


def section(analysis: Analysis) -> Section:
    """Return the limits of what was done, as far as the records tell."""
    texts = list(dict.fromkeys(text for result in analysis.results for text in _of(result)))
    texts += _of_all(analysis)
    sentences = (f"{text[0].upper()}{text[1:]}" for text in texts)
    return Section("limitations", "Limitations", tuple(map(Paragraph, sentences)))


def _of(result: Result) -> Iterator[str]:
    comparison = result.comparison
    where = f"{called(comparison.metric)} on {comparison.data or 'unnamed data'}"
    seeds = {len(row.measured.seeds) for row in result.rows}
    if seeds and min(seeds) < FEWEST_SEEDS:
        yield f"{where}: with fewer than {FEWEST_SEEDS} seeds nothing can be claimed about the method behind a score."
    elif seeds and max(seeds) < 10:
        yield (
            f"{where}: {min(seeds)} to {max(seeds)} seeds show large differences only."
            if len(seeds) > 1
            else f"{where}: {plural(max(seeds), 'seed')} show large differences only."
        )
    if result.units is None and result.rows:
        yield f"{where}: without predictions, all intervals are for this test set; nothing is said about others."
    elif result.units == "examples":
        yield (
            f"{where}: examples are taken as independent; if they come from the same documents or authors, the "
            "intervals over test sets are too narrow."
        )
    elif result.units == "groups" and (result.clusters or 0) < 30:
        yield f"{where}: {count(result.clusters)} groups of test examples are few for an interval over test sets."
    if len({str(run.value("data")) for run in comparison.runs}) == 1:
        yield f"{where}: one data set and one domain; another may rank the methods differently."
    trials = {len(group.trials) for group in comparison.groups}
    if trials == {0} and len(comparison.groups) > 1:
        yield f"{where}: no search is recorded; the settings that every group was given may suit some better."
    elif max(trials, default=0) and max(trials) < 10:
        yield f"{where}: a search of at most {max(trials)} trials a group is coarse; its best point may lie elsewhere."


def _of_all(analysis: Analysis) -> list[str]:
    models = {str(run.value("model")) for run in analysis.runs}
    weights = {run.record.data["identity"]["weights_sha256"] for run in analysis.runs}
    texts = []
    if len(weights) == 1:
        name = f" ({models.pop()})" if len(models) == 1 and models != {"None"} else ""
        texts.append(f"One pretrained model{name}; methods may rank differently on another.")
    if any(run.record.data["code"]["dirty"] for run in analysis.runs):
        texts.append("Some runs come from code with changes that no commit holds: others cannot repeat them exactly.")
    energy = "" if any(energy_of(run) is not None for run in analysis.runs) else "Energy was not measured, and "
    texts.append(f"{energy}times are those of the machines that ran the runs, whatever else ran there.")
    texts.append(
        "A report trusts its records: that they are true is shown only by training runs again (peftlab reproduce)."
    )
    texts += privacy.together(run.record for run in analysis.runs)
    if not any(reruns.newest(run) for run in analysis.runs):
        texts.append("No run has been trained again.")
    if not any(robustness.newest(run) for run in analysis.runs):
        texts.append("Robustness to perturbed inputs was not measured on the test split (peftlab robustness).")
    if not any(fairness.newest(run) or fairness.newest_of_names(run) for run in analysis.runs):
        texts.append(
            "Whether groups of people fare alike with the models was not measured on the test split (peftlab fairness)."
        )
    if not any(audit.newest(run) for run in analysis.runs):
        texts.append("What the models reveal of their training examples was not measured (peftlab audit).")
    return texts
