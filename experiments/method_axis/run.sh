#!/usr/bin/env bash
# The study of this folder: every method of conf/peft at the same budget. Stop it with Ctrl-C whenever you like; the same
# command goes on where it was. Further overrides may follow: experiments/method_axis/run.sh hydra.launcher.trials_at_once=4
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
methods=$(cd "$here/../../conf/peft" && ls -- *.yaml | sed 's/\.yaml$//' | paste -sd,)
python -m train -m sweep=equal_budget +experiment=ner_lora name=method_axis "logger=[csv]" "callbacks=[progress]" \
  "peft=${METHODS:-$methods}" budget.train_examples=1000 budget.max_epochs=3 budget.validate_every=3.0 \
  hydra.launcher.trials_at_once=2 "$@"
python "$here/runs.py" sweeps/method_axis > "$here/runs.csv"
python "$here/table.py"
