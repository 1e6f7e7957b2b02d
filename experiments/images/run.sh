#!/usr/bin/env bash
# The study of this folder: defects in fabric, three seeds of LoRA beside the head alone. Run it again to resume: a
# finished run is found, an interrupted one goes on.
#   experiments/images/run.sh [key=value ...]
# PILOT=1: one seed, four epochs, validated only, for sizes and learning rates: what the settings were chosen by.
# About half an hour a run of LoRA on two idle cores, ten minutes one of the head. PYTHON: the interpreter.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=2
train() { "${PYTHON:-.venv/bin/python}" -m train +experiment=textile_lora "logger=[csv]" trainer.precision=32-true existing=skip "$@"; }

if [ -n "${PILOT:-}" ]; then
  for size in 112 168 224; do
    for lr in 3e-4 1e-4; do
      train name=textile_pilot "task.size=$size" "optimizer.lr=$lr" budget.max_epochs=4 budget.test=false "$@"
    done
  done
  exit
fi
for seed in 0 1 2; do
  train "seed=$seed" "$@"
  train name=textile_head peft=head optimizer.lr=1e-3 "seed=$seed" "$@"
done
"${PYTHON:-.venv/bin/python}" -m peftlab report runs/textile_lora runs/textile_head --out runs/textile_report
