#!/usr/bin/env bash
# PubMedQA (500 questions, yes/no/maybe) by five folds: LoRA on MiniLM beside the majority and TF-IDF; run it again to resume:
#   experiments/medical/run.sh [key=value ...]
# SEEDS="0 1 2", FOLDS="1 2 3 4 5". REHEARSAL=1: in another folder, so that a small budget (budget.max_steps=5) leaves the
# study alone. PYTHON: the interpreter. Fifteen runs, about 8 minutes each on 2 idle cores; the table is printed, and
# written to results.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
python=${PYTHON:-.venv/bin/python}
runs=runs/medical
results=$here
if [ -n "${REHEARSAL:-}" ]; then
  runs=runs/medical_rehearsal
  results=$runs
fi
for seed in ${SEEDS:-0 1 2}; do
  for fold in ${FOLDS:-1 2 3 4 5}; do
    # the test split of the data is given up for the folds, which are tested in its place
    "$python" -m train +experiment=pubmedqa_lora logger=[csv] trainer.precision=32-true data.splits.test=0.01 "data.fold=$fold/5" \
      task.selection.metric=accuracy "seed=$seed" "run_dir=$runs/lora-$seed-$fold" "$@"
  done
done
"$python" "$here/table.py" "$runs" "$results/results.md"
