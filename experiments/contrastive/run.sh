#!/usr/bin/env bash
# The study of this folder: 1, 5 and 10 examples of each intent of banking77; the frozen embeddings of MiniLM with a
# logistic regression against contrastive LoRA and an ordinary classifier by LoRA. Run it again to resume: finished runs
# are left alone.
#   experiments/contrastive/run.sh FOLDER_OF_BANKING77 [key=value ...]        # overrides of all trainings
#   DRAWS="1 2 3 4 5" experiments/contrastive/run.sh FOLDER_OF_BANKING77
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
out=${OUT:-runs/contrastive}
python=${PYTHON:-.venv/bin/python}
data=$1
shift

# train NAME SHOTS DRAW OVERRIDES: no label is looked at but those of the shots
train() {
  "$python" -m peftlab train +experiment=contrastive_banking77 "data.path=$data" "logger=[csv]" "callbacks=[progress]" \
    trainer.precision=32-true "budget.per_class=$2" "budget.sample_seed=$3" budget.select=last "run_dir=$out/$1-$2-$3" existing=skip "${@:4}"
}

for draw in ${DRAWS:-1 2 3}; do
  for shots in ${SHOTS:-1 5 10}; do
    train frozen "$shots" "$draw" "$@" peft=head budget.max_steps=0
  done
  train contrastive 10 "$draw" "$@"
  train classifier 10 "$draw" "$@" task=classification budget.max_epochs=20 budget.validate_every=20
done
"$python" experiments/contrastive/table.py "$out"/*/record.json > experiments/contrastive/results.md
