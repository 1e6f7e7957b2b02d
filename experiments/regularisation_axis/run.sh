#!/usr/bin/env bash
# The study of this folder; run it again to resume:
#   experiments/regularisation_axis/run.sh screen|final [lora|full] [ARMS] [key=value ...]
# Without ARMS: none, and every option of conf/regularizer/. TRIALS_AT_ONCE=N: how many runs share the machine (2).
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
phase=${1:?screen or final}; shift
methods=lora,full
case ${1:-} in lora | full) methods=$1; shift ;; esac
arms="[]$(for file in conf/regularizer/*.yaml; do printf ',[%s]' "$(basename "$file" .yaml)"; done)"
case ${1:-} in \[*) arms=$1; shift ;; esac
seeds=0,1
if [ "$phase" = final ]; then seeds=0,1,2,3,4; fi
common=(logger=[csv] callbacks=[] budget.train_examples=1000 budget.max_epochs=null budget.max_passes=6
  budget.validate_every=6 data.batch_size=16 "hydra.launcher.trials_at_once=${TRIALS_AT_ONCE:-2}" sweep.probe_seconds=0)

for experiment in ner_lora sentiment_lora; do
  sweep=(.venv/bin/python -m train -m "+experiment=$experiment" "peft=$methods" "${common[@]}"
    "sweep.name=regularisation_axis/$experiment")
  "${sweep[@]}" "regularizer=$arms" "seed=$seeds" "$@"
  if [ "$phase" = final ]; then "${sweep[@]}" "regularizer=[]" seed=10,11,12,13,14 "$@"; fi
done
