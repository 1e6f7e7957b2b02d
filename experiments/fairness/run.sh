#!/usr/bin/env bash
# The study of this folder: names of five places in the sentences of named-entity runs, and simulations of equal groups.
# Run it again to resume: finished runs are left alone, and so are their measurements.
#   experiments/fairness/run.sh [key=value ...]
#   NER=sweeps/ner experiments/fairness/run.sh      # seeds of ner_lora that are there already
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
runs=runs/fairness
for seed in 0 1 2; do
  run=$runs/ner-$seed
  if [ -n "${NER:-}" ]; then
    run=$(.venv/bin/python experiments/compression/of_seed.py "$NER" "$seed")
  else
    .venv/bin/python -m train +experiment=ner_lora "logger=[csv]" trainer.precision=32-true "seed=$seed" "run_dir=$run" existing=skip "$@"
  fi
  for templates in package sentences; do
    # names are measured once in each: the list beside the record says in which
    if ! grep -qs "$([ $templates = package ] && echo "sentences about a person" || echo "test sentences")" "$run/fairness.json"; then
      .venv/bin/peftlab fairness "$run" --groups names $([ $templates = package ] || echo --templates sentences)
    fi
  done
done
.venv/bin/python experiments/fairness/nulls.py
.venv/bin/python experiments/fairness/names_nulls.py
