#!/usr/bin/env bash
# The methods that come out beside the probe, and LoRA, with a learning rate for the head alone: the one that the probe
# chose. Same budget, same rule as run.sh, resumable too; it leaves head_rate.csv beside this file.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sweep=sweeps/head_rate
trap 'python "$here/runs.py" "$sweep" > "$here/head_rate.csv"' EXIT
python -m train -m sweep=equal_budget +experiment=ner_lora name=head_rate "logger=[csv]" "callbacks=[progress]" trainer.precision=32-true \
  "peft=lora,p_tuning,prefix_tuning,prompt_tuning,pvera,unilora" optimizer.head_lr=0.03 \
  budget.train_examples=1000 budget.max_epochs=3 budget.validate_every=3.0 hydra.launcher.trials_at_once=2 "$@"
