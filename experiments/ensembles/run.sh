#!/usr/bin/env bash
# The study of this folder: ensembles of five seeds against the single models. Run it again to resume: finished runs are
# left alone, and an ensemble that was computed before is found.
#   experiments/ensembles/run.sh [key=value ...]                            # overrides of the trainings
#   NER=sweeps/ner experiments/ensembles/run.sh                             # seeds of ner_lora that are there already
#   TWEETS=5000 ...                                                         # how many tweets are trained on
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
out=runs/ensembles
python=${PYTHON:-.venv/bin/python}

# train TASK SEED FOLDER OVERRIDES
train() {
  "$python" -m train "+experiment=$1_lora" "seed=$2" "logger=[csv]" trainer.precision=32-true "run_dir=$out/$3" existing=skip "${@:4}"
}

# combine TASK HOW RUNS: unless its comparison is kept already
combine() {
  file=$out/$1.$2.json
  if [ ! -s "$file" ]; then
    "$python" -m peftlab ensemble "${@:3}" --how "$2" --out "$out/$1.ensembles" --json > "$file.part"
    mv "$file.part" "$file"
  fi
}

for task in ner sentiment; do
  members=$out/$task
  budget=()
  if [ "$task" = sentiment ]; then budget=("budget.train_examples=${TWEETS:-5000}" budget.eval_examples=3000); fi
  if [ "$task" = ner ] && [ -n "${NER:-}" ]; then
    members=$NER
  else
    for seed in 0 1 2 3 4; do train $task $seed $task/$seed "${budget[@]}" "$@"; done
  fi
  # a learning rate that stays keeps the weights moving, which SWAG lives from
  train $task 0 $task.constant scheduler=constant "callbacks=[early_stopping,progress,swag]" callbacks.swag.start=0.5 "${budget[@]}" "$@"
  for how in average vote soup greedy_soup ties dare; do combine $task $how "$members"; done
  combine $task swag "$out/$task.constant"
done
"$python" experiments/ensembles/summarise.py "$out" > experiments/ensembles/results.md
