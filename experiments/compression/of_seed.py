"""Prints the folder of the completed run of a sweep with a seed: ``of_seed.py SWEEP SEED``."""

from __future__ import annotations

import sys

from peftlab.report.study import reading

with reading([sys.argv[1]]) as study:
    runs = [run for run in study.runs if run.seed == int(sys.argv[2]) and run.is_tested]
if not runs:
    sys.exit(f"{sys.argv[1]} has no completed run of seed {sys.argv[2]}")
print(runs[0].record.folder)
