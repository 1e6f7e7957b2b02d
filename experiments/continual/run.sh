#!/usr/bin/env bash
# The studies of this folder; run it again to resume.
#   experiments/continual/run.sh DATA [key=value ...]       DATA holds the folders banking77 and vader
# STUDIES="four_tasks four_classes stream_banking77 rates": only these. PYTHON: the interpreter.
# REHEARSAL=1: one seed and one order, into other folders.
# Two studies at a time, one thread each: about 50 minutes on two idle cores, see README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export OMP_NUM_THREADS=1
python=${PYTHON:-.venv/bin/python}
data=$(realpath "${1:?the folder of the data}"); shift
streams=streams/continual
more=("$@")
if [ -n "${REHEARSAL:-}" ]; then
  streams=streams/continual_rehearsal
  more+=("stream.seeds=[0]" "stream.orders=[1]")
fi
mkdir -p "$streams"
if [ ! -e "$streams/data/test.jsonl" ]; then "$python" "$here/prepare.py" "$data" "$streams/data"; fi

study() {
  case $1 in
    stream_banking77) own=("data.path=$data/banking77") ;;
    *) own=("data.path=$PWD/$streams/data") ;;
  esac
  "$python" -m peftlab train --config-dir "$here/conf" "+experiment=$1" trainer.precision=32-true "${own[@]}" "run_dir=$streams/$1" "${more[@]}" \
    > "$streams/$1.log" 2>&1 || { echo "$1 failed, see $streams/$1.log"; return 1; }
  echo "$1 done"
}

# the rate of each method, chosen once: by the validation split of all four tasks at once, two seeds
rates() {
  for rates in "peft=full optimizer.lr=3e-5,1e-4,3e-4" "peft=lora optimizer.lr=5e-4,1.5e-3,5e-3"; do
    # shellcheck disable=SC2086 # two overrides
    "$python" -m peftlab train -m --config-dir "$here/conf" +experiment=four $rates seed=100,101 trainer.precision=32-true \
      "data.path=$PWD/$streams/data" budget.test=false "sweep.name=continual_rates" hydra.launcher.trials_at_once=1 \
      > "$streams/rates.log" 2>&1 || { echo "rates failed, see $streams/rates.log"; return 1; }
  done
  echo "rates done: sweeps/continual_rates"
}

failed=$(mktemp)
for name in ${STUDIES:-four_tasks four_classes stream_banking77}; do
  { if [ "$name" = rates ]; then rates; else study "$name"; fi || echo "$name" >> "$failed"; } &
  while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n || true; done
done
wait
if [ -s "$failed" ]; then exit 1; fi # results.md is of all studies, or as it was
"$python" "$here/summarise.py" "$streams" | tee "$streams/results.md"
if [ -z "${REHEARSAL:-}" ]; then cp "$streams/results.md" "$here/results.md"; fi
