#!/usr/bin/env bash
# The study of this folder: every method of conf/peft at the same budget. Stop it with Ctrl-C whenever you like; the same
# command goes on where it was, elsewhere too, for the records of what is done lie beside this file. Further overrides may
# follow: experiments/method_axis/run.sh hydra.launcher.trials_at_once=4
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sweep=sweeps/method_axis
# qera is left out: of weights that are not quantised, it is lora
methods=$(cd "$here/../../conf/peft" && ls -- *.yaml | sed 's/\.yaml$//; /^qera$/d' | paste -sd,)

keep() {
  python "$here/runs.py" "$sweep" > "$sweep/runs.csv"
  mv "$sweep/runs.csv" "$here/runs.csv"
  tail -n +2 "$here/runs.csv" | cut -d, -f5 | sort | sed 's#$#/record.json#' |
    tar --create --xz --file "$here/records.tar.xz" --directory "$sweep" --files-from - --mtime @0 --owner 0 --group 0
  python "$here/table.py"
  python -m peftlab report "$sweep" --by peft --out "$here/report"
}

if [ ! -e "$sweep" ] && [ -e "$here/records.tar.xz" ]; then
  mkdir -p "$sweep"
  tar --extract --file "$here/records.tar.xz" --directory "$sweep"
fi
trap keep EXIT
python -m train -m sweep=equal_budget +experiment=ner_lora name=method_axis "logger=[csv]" "callbacks=[progress]" trainer.precision=32-true \
  "peft=${METHODS:-$methods}" budget.train_examples=1000 budget.max_epochs=3 budget.validate_every=3.0 \
  hydra.launcher.trials_at_once=2 "$@"
