#!/usr/bin/env bash
# The study of this folder; run it again to resume, elsewhere too, for the records of what is done lie beside this file:
#   experiments/regularisation_axis/run.sh screen|final|keep [lora|full] [ARMS] [key=value ...]
# Without ARMS: none, and every option of conf/regularizer/ that needs neither another run nor groups of texts. TRIALS_AT_ONCE=N: how many runs share the machine (2).
# keep: trains nothing, writes records.tar.xz, results.md and the report from the runs that there are.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export OMP_NUM_THREADS=1
sweeps=sweeps/regularisation_axis
phase=${1:?screen, final or keep}; shift
methods=lora,full
case ${1:-} in lora | full) methods=$1; shift ;; esac
arms="[]"
for file in conf/regularizer/*.yaml; do
  name=$(basename "$file" .yaml)
  case $name in der | distil | ewc | group_dro | lwf | reweight) ;; *) arms="$arms,[$name]" ;; esac
done
case ${1:-} in \[*) arms=$1; shift ;; esac
seeds=0,1
if [ "$phase" = final ]; then seeds=0,1,2,3,4; fi
common=(logger=[csv] callbacks=[] budget.train_examples=1000 budget.max_epochs=null budget.max_passes=6
  budget.validate_every=6 data.batch_size=16 trainer.precision=32-true "hydra.launcher.trials_at_once=${TRIALS_AT_ONCE:-2}" sweep.probe_seconds=0)

keep() {
  (cd "$sweeps" && grep --files-with-matches '"status": "completed"' -- */*/record.json | sort |
    sed 'p;s/record.json$/config.yaml/;p;s/config.yaml$/robustness.json/' |
    while read -r file; do if [ -e "$file" ]; then echo "$file"; fi; done) |
    tar --create --xz --file "$here/records.tar.xz.new" --directory "$sweeps" --files-from - --mtime @0 --owner 0 --group 0
  mv "$here/records.tar.xz.new" "$here/records.tar.xz"
  .venv/bin/python "$here/table.py"
  local records
  records=$(mktemp -d)
  tar --extract --file "$here/records.tar.xz" --directory "$records"
  .venv/bin/python -m peftlab report "$records" --by regularizer,peft --out "$here/report"
  rm -r "$records"
}

if [ -e "$here/records.tar.xz" ]; then
  mkdir -p "$sweeps"
  tar --extract --skip-old-files --file "$here/records.tar.xz" --directory "$sweeps"
fi
trap keep EXIT
if [ "$phase" = keep ]; then exit; fi
for experiment in ner_lora sentiment_lora; do
  sweep=(.venv/bin/python -m train -m "+experiment=$experiment" "peft=$methods" "${common[@]}"
    "sweep.name=regularisation_axis/$experiment")
  "${sweep[@]}" "regularizer=$arms" "seed=$seeds" "$@"
  if [ "$phase" = final ]; then "${sweep[@]}" "regularizer=[]" seed=10,11,12,13,14 "$@"; fi
done
