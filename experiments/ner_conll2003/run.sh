#!/usr/bin/env bash
# The study of this folder: two methods, three seeds. Run it again to resume: a finished run is left alone.
#   experiments/ner_conll2003/run.sh [key=value ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
for experiment in ner_lora ner_full; do
  for seed in 0 1 2; do
    .venv/bin/python -m train "+experiment=$experiment" "seed=$seed" trainer.precision=bf16-mixed existing=skip "$@"
  done
done
.venv/bin/python experiments/ner_conll2003/summarise.py > experiments/ner_conll2003/results.md
