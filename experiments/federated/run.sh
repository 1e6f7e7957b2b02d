#!/usr/bin/env bash
# The study of this folder: ten clients with 5,000 tweets, alike and not, against central training and each alone.
# Run it again to resume: finished runs are left alone, and an unfinished one goes on.
#   experiments/federated/run.sh [key=value ...]     # SEEDS="0 1 2" CLIENTS=10 ROUNDS=10
# About 2.5 hours of one core: 75 runs, see README.md.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
python=${PYTHON:-.venv/bin/python}
runs=${RUNS:-runs/federated}
clients=${CLIENTS:-10} rounds=${ROUNDS:-10}

# train NAME SEED OVERRIDES...
train() {
  local name=$1 seed=$2
  shift 2
  "$python" -m train +experiment=sentiment_lora "logger=[csv]" "callbacks=[]" budget.train_examples=5000 \
    trainer.cache_activations=false trainer.precision=32-true "seed=$seed" "run_dir=$runs/$name-$seed" existing=skip "$@" "${more[@]}"
}

more=("$@")
for seed in ${SEEDS:-0 1 2}; do
  train central "$seed" "budget.max_epochs=$rounds"
  for division in iid dirichlet; do
    by=("federated.by=$division" "federated.clients=$clients")
    if [ $division = dirichlet ]; then by+=(federated.alpha=0.3); fi
    for option in fedavg fedprox; do
      train "$option-$division" "$seed" "federated=$option" "${by[@]}" "federated.rounds=$rounds"
    done
    for ((client = 0; client < clients; client++)); do
      train "local-$division-$client" "$seed" federated=local "${by[@]}" "federated.only=$client" "budget.max_epochs=$rounds"
    done
  done
done
"$python" experiments/federated/summarise.py "$runs" > experiments/federated/results.md
