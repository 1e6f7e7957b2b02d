#!/usr/bin/env bash
# The study of this folder: how a sentiment model without any defence holds up. Run it again to resume: a finished run is
# left alone, and so is a measurement that is kept beside it.
#   experiments/robustness/run.sh [key=value ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
run=runs/robustness/tweets
.venv/bin/python -m train +experiment=sentiment_lora "logger=[csv]" trainer.precision=32-true optimizer.lr=1e-3 budget.train_examples=2000 \
  budget.eval_examples=1000 "run_dir=$run" existing=skip "$@"

# measure PERTURBATION EPSILON OPTIONS: unless the run has such a measurement already; an epsilon of 0 is any
measure() {
  .venv/bin/python - "$run/robustness.json" "$1" "$2" <<'PYTHON' || .venv/bin/peftlab robustness "$run" --perturb "${@:1:1}" "${@:3}"
import json, pathlib, sys
file, perturbation, epsilon = pathlib.Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
outcomes = [one for all in json.loads(file.read_text()) for one in all["outcomes"]] if file.exists() else []
same = [one for one in outcomes if one["perturbation"] == perturbation]
sys.exit(not any(not epsilon or one["details"]["epsilon"] == epsilon for one in same))
PYTHON
}
measure typo 0 --limit 0
measure synonym 0 --limit 0
measure greedy 0 --max-queries 300 --limit 500
for epsilon in 0.02 0.05 0.1 0.2; do
  measure pgd "$epsilon" --epsilon "$epsilon" --limit 100
done
.venv/bin/python experiments/robustness/summarise.py "$run/robustness.json" > experiments/robustness/results.md
