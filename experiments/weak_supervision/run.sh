#!/usr/bin/env bash
# Twelve keyword rules for 5,000 tweets against 16 and 64 labels of each class; run it again to resume:
#   experiments/weak_supervision/run.sh [key=value ...]
# SEEDS="0 1 2". REHEARSAL=1: in another folder, so that a small budget (budget.max_steps=5) leaves the study alone.
# PYTHON: the interpreter. Twelve runs of MiniLM with LoRA; the table is printed, and written to results.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
python=${PYTHON:-.venv/bin/python}
runs=runs/weak_supervision
results=$here
if [ -n "${REHEARSAL:-}" ]; then
  runs=runs/weak_supervision_rehearsal
  results=$runs
fi
tweets=$runs/tweets
[ -e "$tweets/test.jsonl" ] || "$python" "$here/prepare.py" "$tweets"
for model in majority generative; do
  mkdir -p "$runs/$model"
  cp "$tweets/validation.jsonl" "$tweets/test.jsonl" "$runs/$model"
  "$python" -m peftlab label "$tweets/texts.jsonl" --functions "$here/tweets.yaml" --model "$model" \
    --out "$runs/$model/train.jsonl" --json >"$runs/$model.json"
done
# no checkpoint is chosen by validation labels: there is one validation, after the last of as many steps for all
common=(+experiment=sentiment_lora budget.max_epochs=null budget.max_steps=400 budget.validate_every=1000
  logger=[csv] trainer.precision=32-true "$@")
for seed in ${SEEDS:-0 1 2}; do
  for model in majority generative; do
    weak=(data=json_lines "data.path=$runs/$model" "data.labels=[negative,neutral,positive]" data.batch_size=32)
    weight=()
    if [ "$model" = generative ]; then weight=(data.format.weight=weight); fi
    "$python" -m train "${common[@]}" "${weak[@]}" "${weight[@]}" "seed=$seed" "run_dir=$runs/weak-$model-$seed"
  done
  for shots in 16 64; do # the shots are others with each seed
    "$python" -m train "${common[@]}" "budget.per_class=$shots" "budget.sample_seed=$seed" "seed=$seed" \
      "run_dir=$runs/gold-$shots-$seed"
  done
done
"$python" "$here/table.py" "$runs" "$results/results.md"
