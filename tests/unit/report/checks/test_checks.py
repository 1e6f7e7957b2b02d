"""Every check finds its planted faults, in both tasks, and no check accuses a sound sweep."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.report.checks.faults import FAULTS
from tests.unit.report.sweeps import planned, sound_sweeps

from peftlab.report.analysis.groups import comparisons_of
from peftlab.report.analysis.options import Options
from peftlab.report.checks import checks, findings_of
from peftlab.report.document import Finding
from peftlab.report.study import reading

SHAPES = (
    {"task": "ner", "examples": 20},
    {"task": "classification", "methods": ("full", "lora", "head"), "seeds": (1, 2, 4, 6), "examples": 20},
)


def findings_in(folder: Path) -> list[Finding]:
    """Return what all checks say of the runs in a folder."""
    with reading([folder]) as study:
        return [finding for one in comparisons_of(study, Options())[0] for finding in findings_of(one)]


def test_no_check_accuses_a_sound_sweep(tmp_path):
    sweeps = list(sound_sweeps())
    assert len(sweeps) == 20
    for name, sweep in sweeps:
        assert findings_in(sweep.write(tmp_path / name)) == [], name


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
