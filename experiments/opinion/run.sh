#!/usr/bin/env bash
# The figures of README.md; with the folders of two runs, of opinions and of topics, with their errors.
set -euo pipefail
cd "$(dirname "$0")"
python -W ignore shifts.py "$@" --out results.json
python -W ignore million.py
