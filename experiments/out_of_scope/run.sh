#!/usr/bin/env bash
# The study of this folder: which score tells questions out of scope from the intents of banking77? LoRA on MiniLM, and
# the frozen model with a logistic regression; six intents held out, drawn by the seed, as near; far.py's texts as far.
# Run it again to resume: finished runs are left alone.
#   experiments/out_of_scope/run.sh DATA [key=value ...]       DATA holds the folders banking77 and vader
# SEEDS="0 1 2". SCORES="energy msp knn mahalanobis". PYTHON: the interpreter.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
out=${OUT:-runs/out_of_scope}
python=${PYTHON:-.venv/bin/python}
data=$1
shift
mkdir -p "$out"
"$python" experiments/out_of_scope/far.py "$data/vader" > "$out/far.txt"

# train NAME SCORE SEED OVERRIDES
train() {
  "$python" -m peftlab train --config-dir examples/customer_service/conf +experiment=customer_service \
    "data.path=$data/banking77" trainer.precision=32-true "out_of_scope=$2" out_of_scope.held_out=6 "out_of_scope.far=$out/far.txt" "seed=$3" \
    "run_dir=$out/$1-$2-$3" existing=skip "${@:4}"
}

for seed in ${SEEDS:-0 1 2}; do
  for score in ${SCORES:-energy msp knn mahalanobis}; do
    train frozen "$score" "$seed" task=contrastive task.selection.metric=accuracy peft=head budget.max_steps=0 "$@"
    train lora "$score" "$seed" "$@"
  done
done
"$python" experiments/out_of_scope/table.py "$out"/*/record.json > experiments/out_of_scope/results.md
