#!/usr/bin/env bash
# The study of this folder: the next film of each user of MovieLens 100K, by texts, ids and both, three seeds each, beside
# recommenders without training of texts. Run it again to resume: finished runs are left alone.
#   experiments/recommendation/run.sh [key=value ...]        # overrides of all trainings
#   SEEDS="0 1 2" KINDS="both text ids" experiments/recommendation/run.sh
#   TOWERS=1 experiments/recommendation/run.sh               # and LoRA on the encoder, for an hour or more on a CPU
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
out=${OUT:-runs/recommendation}
python=${PYTHON:-.venv/bin/python}

# train NAME OVERRIDES
train() {
  "$python" -m peftlab train +experiment=recommend_films "logger=[csv]" "callbacks=[]" trainer.precision=32-true "run_dir=$out/$1" \
    existing=skip "${@:2}"
  [ -s "$out/$1.json" ] || "$python" -m peftlab recommend "$out/$1" --evaluate --json > "$out/$1.json.part"
  [ -s "$out/$1.json" ] || mv "$out/$1.json.part" "$out/$1.json"
}

mkdir -p "$out"
for seed in ${SEEDS:-0 1 2}; do
  for kind in ${KINDS:-both text ids}; do
    train "$kind-$seed" "seed=$seed" "task.items=$kind" "$@"
  done
  if [ -n "${TOWERS:-}" ]; then
    train "towers-$seed" "seed=$seed" task.user=text task.recent=3 task.negatives=7 peft=lora optimizer.lr=5e-4 \
      data.batch_size=16 data.max_tokens=32 budget.train_examples=8000 budget.max_epochs=1 budget.validate_every=0.5 "$@"
  fi
done
"$python" experiments/recommendation/sampled.py > experiments/recommendation/sampled.md
"$python" experiments/recommendation/table.py "$out" > experiments/recommendation/results.md
