#!/usr/bin/env bash
# What gradients on the embeddings take from the tweets' models of the final, by arm: 10 steps, 3 restarts, a fifth of a word's norm.
#   experiments/regularisation_axis/attack.sh [lora|full] [ARM ...]
# A run that has such a measurement is left alone, and so is one of which only the record is here. LIMIT=N: how many test texts are attacked (200).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export OMP_NUM_THREADS=1
method=${1:-lora}; shift || true
chosen=("$@")
if [ ${#chosen[@]} -eq 0 ]; then chosen=(none fgm pgd freelb); fi
for run in sweeps/regularisation_axis/sentiment_lora/*/; do
  arm=$(.venv/bin/python - "$run" <<'PYTHON'
import json, pathlib, sys
record = json.loads(pathlib.Path(sys.argv[1], "record.json").read_text())
if record["status"] == "completed" and record["environment"]["seeds"]["global"] < 10:
    print(record["method"]["name"], "+".join(sorted(record.get("regularizers", {}))) or "none")
PYTHON
)
  for one in "${chosen[@]}"; do
    if [ "$arm" = "$method $one" ] && [ ! -e "$run/robustness.json" ] && [ -d "$run/adapter" ]; then
      .venv/bin/python -m peftlab robustness "$run" --perturb pgd --epsilon 0.2 --steps 10 --restarts 3 --limit "${LIMIT:-200}"
    fi
  done
done
