#!/usr/bin/env bash
# The study of this folder; run it again to resume, elsewhere too, for the records of what is done lie beside this file:
#   experiments/tasks/run.sh DATA [key=value ...]       DATA holds the folders banking77, wnut17, vader, xquad
#   experiments/tasks/run.sh keep                       trains nothing: writes records.tar.xz and results.md
# TASKS="banking77_lora ...": only these experiments. SEEDS=0,1,2. TRIALS_AT_ONCE=N: how many runs share the machine (2).
# REHEARSAL=1: into other folders, so that a small budget (budget=smoke) leaves the study alone. PYTHON: the interpreter.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export OMP_NUM_THREADS=1
python=${PYTHON:-.venv/bin/python}
sweeps=sweeps/tasks
results=$here
if [ -n "${REHEARSAL:-}" ]; then
  sweeps=sweeps/tasks_rehearsal
  results=$sweeps
fi
data=${1:?the folder of the data, or keep}; shift
mkdir -p "$sweeps"

keep() {
  (cd "$sweeps" && { grep --files-with-matches '"status": "completed"' -- */*/record.json || true; } | sort) |
    tar --create --xz --file "$results/records.tar.xz.new" --directory "$sweeps" --files-from - --mtime @0 --owner 0 --group 0
  mv "$results/records.tar.xz.new" "$results/records.tar.xz"
  "$python" "$here/table.py" "$sweeps" "$results"
}

if [ -e "$results/records.tar.xz" ]; then
  tar --extract --skip-old-files --file "$results/records.tar.xz" --directory "$sweeps"
fi
trap keep EXIT
if [ "$data" = keep ]; then exit; fi
for experiment in ${TASKS:-sentiment_lora topics_lora banking77_lora wnut17_lora regression_vader qa_lora}; do
  case $experiment in
    banking77_lora) own=("data.path=$data/banking77") ;;
    wnut17_lora) own=("data.path=$data/wnut17") ;;
    regression_vader) own=("data.path=$data/vader/hutto_ICWSM_2014") ;;
    qa_lora) own=("data.path=$data/xquad" model=e5_small_multilingual) ;;
    *) own=() ;;
  esac
  "$python" "$here/baselines.py" "$results/baselines.json" "$experiment" "${own[@]}"
  "$python" -m train -m "+experiment=$experiment" "${own[@]}" "seed=${SEEDS:-0,1,2}" logger=[csv] trainer.precision=32-true \
    sweep.report=false sweep.probe_seconds=0 "hydra.launcher.trials_at_once=${TRIALS_AT_ONCE:-2}" "sweep_dir=$sweeps/$experiment" "$@"
done
