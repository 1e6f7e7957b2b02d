"""Published checklists, answered from the records as far as they tell.

The questions are in our own words; the sources have the original ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Literal

from peftlab.report.analysis.results import Analysis
from peftlab.report.document import Checklist, Item, Paragraph, Section
from peftlab.report.numbers import duration, energy, flops, gib, listed, plural
from peftlab.report.sections import reruns
from peftlab.report.sections.cost import device_hours, energy_of
from peftlab.report.statistics.comparison import FEWEST_SEEDS

Answer = Literal["yes", "no", "partly", "unknown", "not applicable"]

MACHINE_LEARNING = "ML Reproducibility Checklist (Pineau et al. 2021, version 2.0)"
ACL = "ACL Responsible NLP Research Checklist (ACL Rolling Review)"
NEURIPS = "NeurIPS Paper Checklist"

_ASK = "for the authors; no record tells"


def section(analysis: Analysis) -> Section:
    """Return the checklists."""
    facts = Facts(analysis)
    text = (
        "What the records answer is filled in; “unknown” is left to the authors. The questions are paraphrased, so "
        "submit the original forms."
    )
    lists = tuple(
        Checklist(source, tuple(Item(*item) for item in items(facts)))
        for source, items in ((MACHINE_LEARNING, _machine_learning), (ACL, _acl), (NEURIPS, _neurips))
    )
    return Section("checklists", "Checklists", (Paragraph(text), *lists))


class Facts:
    """What the records say for the checklists: pairs of an answer and its evidence."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.runs = analysis.runs
        self.tested = [run for result in analysis.results for run in result.comparison.runs]

    @cached_property
    def licence(self) -> tuple[Answer, str]:
        """Whether the licence of the data is known."""
        licences = {run.record.data["data"]["licence"] for run in self.runs}
        known = sorted(one for one in licences if one)
        if not known:
            return "unknown", "no record has a licence of its data"
        return ("yes" if None not in licences else "partly"), listed(known, 3)

    @cached_property
    def splits(self) -> tuple[Answer, str]:
        """Whether the sizes of the splits are known."""
        splits = self.runs[0].record.data["data"]["splits"] if self.runs else {}
        sizes = [f"{name} {split['rows']:,}" for name, split in splits.items() if split.get("rows") is not None]
        return ("yes", f"{listed(sizes)} rows; see “Data”") if sizes else ("unknown", "no sizes are recorded")

    @cached_property
    def origin(self) -> tuple[Answer, str]:
        """Whether others can get the data."""
        known = {run.record.data["data"].get("origin") for run in self.runs}
        origins = sorted(str(origin) for origin in known if origin)
        kinds = {origin.partition(":")[0] for origin in origins}
        if not origins:
            return "unknown", "no origin is recorded; digests of the data are"
        if kinds <= {"index", "hub"} and len(origins) == len(known):
            return "yes", f"{listed(origins, 3)}, with digests"
        return "partly", f"{listed(origins, 3)}: local files, with digests, which others need to be given"

    @cached_property
    def dropped(self) -> tuple[Answer, str]:
        """Whether excluded rows are told."""
        parts = {
            f"{split}: {number} {reason}"
            for run in self.runs
            for split, of_split in run.record.data["data"]["splits"].items()
            for reason, number in (of_split.get("dropped") or {}).items()
        }
        return "yes", f"dropped: {listed(sorted(parts), 4)}" if parts else "no row was dropped"

    @cached_property
    def code(self) -> tuple[Answer, str]:
        """Whether the code is pinned."""
        commits = {run.record.data["code"]["commit"] for run in self.runs}
        names = sorted(str(one)[:12] for one in commits if one)
        if not names:
            versions = sorted({str(run.record.data["code"]["version"]) for run in self.runs})
            return "partly", f"peftlab {listed(versions)}; no commit is recorded"
        if self._is_dirty:
            return "partly", f"commit {listed(names, 3)} with uncommitted changes, whose digest is recorded"
        return "partly", f"commit {listed(names, 3)}; where it is published is for the authors"

    @cached_property
    def packages(self) -> tuple[Answer, str]:
        """Whether the dependencies are pinned."""
        known = all(run.record.data["environment"]["packages_sha256"] for run in self.runs)
        return ("yes" if known else "partly"), "packages.txt of every run lists exact versions; its digest is recorded"

    @cached_property
    def commands(self) -> tuple[Answer, str]:
        """Whether commands are told."""
        return "yes", "“Commands to repeat everything”"

    @cached_property
    def repeatable(self) -> tuple[Answer, str]:
        """Whether others can repeat the runs."""
        text = "“Commands to repeat everything”, with the code, packages and data that “Provenance” names"
        return ("yes" if self.origin[0] == "yes" and not self._is_dirty else "partly"), text

    @property
    def _is_dirty(self) -> bool:
        return any(run.record.data["code"]["dirty"] for run in self.runs)

    @cached_property
    def search(self) -> tuple[Answer, str]:
        """Whether the search and its space are told."""
        trials = sum(len(group.trials) for result in self.analysis.results for group in result.comparison.groups)
        if not trials:
            return "partly", "no search is recorded; the settings of every run are in its config.yaml"
        return "yes", f"{plural(trials, 'trial')}, scored on the validation split; see “Search for hyperparameters”"

    @cached_property
    def number(self) -> tuple[Answer, str]:
        """Whether the number of runs is told."""
        seeds = [len(row.measured.seeds) for result in self.analysis.results for row in result.rows]
        return "yes", f"{plural(len(self.tested), 'tested run')}, at least {min(seeds, default=0)} seeds for each group"

    @cached_property
    def metric(self) -> tuple[Answer, str]:
        """Whether the scores are defined."""
        scorers = sorted({score["scorer"] for run in self.tested for score in run.record.scores("test")})
        return ("yes", f"scorers: {listed(scorers, 4)}") if scorers else ("no", "no run was tested")

    @cached_property
    def spread(self) -> tuple[Answer, str]:
        """Whether there are error bars."""
        rows = [row for result in self.analysis.results for row in result.rows]
        enough = [row for row in rows if len(row.measured.seeds) >= FEWEST_SEEDS]
        if not enough:
            return "no", f"fewer than {FEWEST_SEEDS} seeds"
        both = any(row.test_set is not None for row in rows)
        what = "SD and intervals over seeds" + (" and over test sets" if both else "; none over test sets")
        return ("yes" if len(enough) == len(rows) else "partly"), what

    @cached_property
    def significance(self) -> tuple[Answer, str]:
        """Whether significance is tested."""
        pairs = sum(len(result.pairs) for result in self.analysis.results)
        if not pairs:
            return "not applicable", "nothing is compared"
        adjusted = ", adjusted by Holm's method" if any(len(one.pairs) > 1 for one in self.analysis.results) else ""
        return "yes", f"{plural(pairs, 'comparison')} with the baseline{adjusted}; see “Compared with”"

    @cached_property
    def compute(self) -> tuple[Answer, str]:
        """Whether the compute is told."""
        hours = sum(device_hours(run) or 0.0 for run in self.runs)
        total = sum(run.record.data["cost"]["train_flops"] or 0.0 for run in self.runs)
        memory = max((run.record.data["cost"]["peak_memory_gib"] or 0.0 for run in self.runs), default=0.0)
        text = f"{duration(hours * 3600)} of device time in all, {flops(total)}, at most {gib(memory)}; see “Cost”"
        return ("yes" if hours else "unknown"), text

    @cached_property
    def energy(self) -> str:
        """The energy of all runs; empty unless each was counted."""
        joules = [energy_of(run) for run in self.runs]
        return "" if None in joules else f"{energy(sum(one or 0.0 for one in joules))} of energy"

    @cached_property
    def infrastructure(self) -> tuple[Answer, str]:
        """Whether the machines are told."""
        devices = {name for run in self.runs for name in run.record.data["environment"]["accelerators"]}
        cpus = {str(run.record.data["environment"]["cpu"]) for run in self.runs}
        return "yes", listed(sorted(devices or cpus), 4)

    @cached_property
    def parameters(self) -> tuple[Answer, str]:
        """Whether the size of the model is told."""
        totals = {run.record.data["method"]["total_parameters"] for run in self.runs} - {None}
        if not totals:
            return "unknown", "no record has the number of parameters"
        low, high = min(totals), max(totals)
        return "yes", f"{low:,} parameters" if low == high else f"{low:,} to {high:,} parameters"

    @cached_property
    def rerun(self) -> tuple[Answer, str]:
        """Whether a run was trained again."""
        judged = [(run, one) for run in self.runs if (one := reruns.newest(run)) is not None]
        return ("yes", reruns.said(judged, len(self.runs))) if judged else ("no", "no run has been trained again")


Items = Iterator[tuple[str, Answer, str]]


def _machine_learning(facts: Facts) -> Items:
    yield (
        "Are model and algorithm described?",
        "partly",
        "every configuration is recorded; the description is the paper's",
    )
    yield "Are assumptions stated?", "unknown", _ASK
    yield "Is the complexity (time, space, sample size) analysed?", "partly", facts.compute[1]
    yield "Are theoretical claims proven?", "not applicable", "records hold no theory"
    yield "Are the relevant statistics of the data, such as the number of examples, given?", *facts.splits
    yield "Are the splits into training, validation and test described?", *facts.splits
    yield "Is it said which data were excluded, and all preprocessing?", *facts.dropped
    yield "Can the data or the simulation be downloaded?", *facts.origin
    yield "Is the collection of new data described, with its instructions and quality control?", "unknown", _ASK
    yield "Are the dependencies specified?", *facts.packages
    yield "Is the training code available?", *facts.code
    yield "Is the evaluation code available?", *facts.code
    yield "Are the pretrained models available?", "partly", "digests of the weights are recorded; see “Provenance”"
    yield "Is there a README with results and the commands that produce them?", *facts.commands
    yield "Are the ranges of the hyperparameters, how they were chosen, and the final ones given?", *facts.search
    yield "Is the exact number of training and evaluation runs given?", *facts.number
    yield "Are the measures or statistics of the results clearly defined?", *facts.metric
    yield "Are results given with central tendency and variation?", *facts.spread
    yield (
        "Is the average runtime, or estimated energy, of each result given?",
        "yes" if facts.energy else "partly",
        f"{facts.compute[1]}; {facts.energy or 'no energy'}",
    )
    yield "Is the computing infrastructure described?", *facts.infrastructure


def _acl(facts: Facts) -> Items:
    yield "A1. Are the limitations of the work described?", "partly", "“Limitations” has those that the records tell"
    yield "A2. Are potential risks discussed?", "unknown", _ASK
    yield "B1. Are the creators of the data and models that were used cited?", "partly", facts.origin[1]
    yield "B2. Are licences and terms of use discussed?", *facts.licence
    yield "B3. Is the use consistent with what the data and models are intended for?", "unknown", _ASK
    yield "B4. Were the data checked for personal or offensive content?", "unknown", _ASK
    yield "B5. Are the data documented: domain, language, groups of people?", "unknown", _ASK
    yield "B6. Are statistics such as the sizes of the splits reported?", *facts.splits
    yield (
        "C1. Are parameters, computational budget and infrastructure reported?",
        facts.compute[0],
        (f"{facts.parameters[1]}; {facts.compute[1]}; {facts.infrastructure[1]}"),
    )
    yield "C2. Is the experimental setup described, with the search and the best values?", *facts.search
    yield "C3. Are descriptive statistics given: error bars, single run or mean?", *facts.spread
    yield "C4. Are the settings of existing packages for processing and scoring reported?", *facts.metric
    yield "D1-D5. Were human annotators used, and instructed, paid, asked for consent and reviewed?", "unknown", _ASK
    yield "E1. Is the use of AI assistants disclosed?", "unknown", _ASK


def _neurips(facts: Facts) -> Items:
    yield "1. Do the claims match the results?", "unknown", "“Summary” says what the runs support"
    yield "2. Are limitations discussed?", "partly", "“Limitations” has those that the records tell"
    yield "3. Are theoretical results complete?", "not applicable", "records hold no theory"
    yield "4. Can the main results be reproduced from what is disclosed?", *facts.repeatable
    yield "4b. Have they been reproduced?", *facts.rerun
    yield "5. Are data and code openly accessible, with instructions?", *facts.origin
    yield "6. Are all training and test details given: splits, hyperparameters and how they were chosen?", *facts.search
    yield (
        "7. Are error bars and statistical significance reported?",
        facts.spread[0],
        (f"{facts.spread[1]}; {facts.significance[1]}"),
    )
    yield "8. Are the compute resources of each experiment given?", *facts.compute
    yield "9. Does the work conform with the code of ethics?", "unknown", _ASK
    yield "10. Are broader impacts discussed?", "unknown", _ASK
    yield "11. Are there safeguards for data or models that may be misused?", "unknown", _ASK
    licence = facts.licence[1]
    yield (
        "12. Are assets credited, and their licences respected?",
        "unknown",
        f"recorded: {licence}; the rest is for the authors",
    )
    yield "13. Are new assets documented?", "partly", "every run has a record; peftlab card writes a model card"
    yield "14. Are crowdsourcing instructions and pay given?", "unknown", _ASK
    yield "15. Was research with human subjects approved?", "unknown", _ASK
    yield "16. Is the use of language models as part of the method declared?", "unknown", _ASK
