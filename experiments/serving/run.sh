#!/usr/bin/env bash
# The measurements of a server that compare.py has, on 127.0.0.1 and two cores; with SMALL=1 a rehearsal of minutes.
#   experiments/serving/run.sh [SWEEP]   # of NER runs with MiniLM that differ in their seed (default sweeps/ner)
# Run it again to resume: what is measured is not measured again.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false
python=${PYTHON:-.venv/bin/python}
out=runs/serving
if [ -n "${SMALL:-}" ]; then
  out=runs/serving_small
  export TEXTS=${TEXTS:-60} ROUNDS=${ROUNDS:-1} SECONDS_EACH=${SECONDS_EACH:-6} REQUESTS=${REQUESTS:-400}
fi
out=${OUT:-$out}
mkdir -p "$out"
mapfile -t runs < <("$python" experiments/serving/runs_of.py "${1:-sweeps/ner}")

# the sentences of the test split, as the run predicted them
[ -f "$out/texts.txt" ] || "$python" experiments/serving/runs_of.py --texts "${runs[0]}" > "$out/texts.txt"

for measurement in throughput latency adapters endurance killed overload; do
  "$python" experiments/serving/compare.py $measurement "$out" "${runs[@]}"
done
"$python" experiments/serving/compare.py table "$out" | tee "$out/table.md"
