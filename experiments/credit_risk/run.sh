#!/usr/bin/env bash
# The study of this folder: both tables of examples/credit_risk, planted and null, 20 seeds each. Run it again to resume.
#   experiments/credit_risk/run.sh [TABLE ...]        # german, uci; by default both
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
python=${PYTHON:-.venv/bin/python}
out=${OUT:-runs/credit_risk}
mkdir -p "$out"
[ $# -gt 0 ] || set -- german uci
for table in "$@"; do
  rows=(); [ "$table" = uci ] && rows=(--rows 3000)
  for seed in $(seq 0 $((${SEEDS:-20} - 1))); do
    for kind in planted null; do
      name="$out/$table-$kind-$seed"
      null=(); [ "$kind" = null ] && null=(--null)
      [ -f "$name.csv" ] || "$python" examples/credit_risk/plant.py "$table" "$name.csv" --seed "$seed" "${rows[@]}" "${null[@]}"
      [ -f "$name/report.html" ] || "$python" -m peftlab scorecard +experiment=scorecard_head "data.path=$name.csv" \
        "seed=$seed" trainer.precision=32-true --time applied --positive bad --test 0.3 --groups sex --out "$name" ${EXTRA:-}
    done
  done
done
"$python" experiments/credit_risk/summary.py "$out"
