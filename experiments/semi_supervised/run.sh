#!/usr/bin/env bash
# The study of this folder; run it again to resume, elsewhere too, for the records of what is done lie beside this file:
#   experiments/semi_supervised/run.sh [key=value ...]
#   experiments/semi_supervised/run.sh keep
# Settings are of all runs. A rehearsal, which leaves its records and its table in a folder of its own:
#   SWEEP=sweeps/try DRAWS="0 1" experiments/semi_supervised/run.sh budget.max_steps=3 budget.eval_examples=30
# keep: trains nothing, writes records.tar.xz and results.md from the runs that there are.
# About 70 minutes of one core, half of that on two (TRIALS_AT_ONCE=2, which is the default).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export OMP_NUM_THREADS=1
sweep=${SWEEP:-sweeps/semi_supervised}
kept=${KEPT:-${SWEEP:-$here}}
python=${PYTHON:-.venv/bin/python}
draws=${DRAWS:-0 1 2 3 4}

keep() {
  (cd "$sweep" && find . -name record.json -exec grep --files-with-matches '"status": "completed"' {} + | sort |
    sed 'p;s/record.json$/config.yaml/') |
    tar --create --xz --file "$kept/records.tar.xz.new" --directory "$sweep" --files-from - --mtime @0 --owner 0 --group 0
  mv "$kept/records.tar.xz.new" "$kept/records.tar.xz"
  "$python" "$here/table.py" "$sweep" "$kept/results.md"
}

mkdir -p "$sweep"
if [ -e "$kept/records.tar.xz" ]; then tar --extract --skip-old-files --file "$kept/records.tar.xz" --directory "$sweep"; fi
trap keep EXIT
if [ "${1:-}" = keep ]; then exit; fi

train() { "$python" -m train logger=[csv] callbacks=[] trainer.precision=32-true "$@"; }
# Kept records have no weights: what only others would begin from is made again for these alone.
completed() { grep --quiet --no-messages '"status": "completed"' "$sweep/$1/record.json"; }
needs_weights() { completed "$1" && [ ! -d "$sweep/$1/adapter" ]; }
of_all_draws() { # whether a sweep has a completed run of each
  local draw
  for draw in $draws; do
    { grep --files-with-matches --no-messages "^seed: $draw\$" "$sweep/$1"/*/config.yaml || true; } |
      sed 's/config.yaml$/record.json/' | xargs grep --quiet --no-messages '"status": "completed"' || return 1
  done
}
# Of each draw, the labelled texts and the initial weights are those of all arms. Here, $@ are the user's settings.
for draw in $draws; do
  one=(+experiment=semi_tweets "seed=$draw" "budget.sample_seed=$draw")
  existing=skip
  if needs_weights "supervised-$draw" && ! completed "teacher-$draw"; then existing=rerun; fi
  train "${one[@]}" semi=none "existing=$existing" "run_dir=$sweep/supervised-$draw" "$@"
  if [ $existing = skip ] && needs_weights "supervised-$draw"; then
    echo "teacher-$draw is completed, and is not compared with the settings: its teacher's weights are not here"
    continue
  fi
  train "${one[@]}" semi=self_training semi.ramp_up=0 semi.mu=4 semi.at_most=5000 existing=skip \
    "semi.teacher=$sweep/supervised-$draw" "run_dir=$sweep/teacher-$draw" "$@"
done
all=(-m +experiment=semi_tweets "seed=${draws// /,}" 'budget.sample_seed=${seed}'
  "hydra.launcher.trials_at_once=${TRIALS_AT_ONCE:-2}" sweep.probe_seconds=0)
if needs_weights tapt && of_all_draws after_tapt; then
  echo "after_tapt is completed, and is not compared with the settings: the weights of tapt are not here"
else
  existing=auto
  if needs_weights tapt; then existing=rerun; fi
  if [ ! -d "$sweep/tapt/adapter" ]; then
    train +experiment=tapt_tweets "run_dir=$sweep/tapt" "existing=$existing" ${TAPT:-}
  fi
  train "${all[@]}" semi=none "adapter=$sweep/tapt/adapter" "sweep_dir=$sweep/after_tapt" "$@"
fi
train "${all[@]}" semi=self_training,fixmatch,adamatch,softmatch,uda,mixtext semi.mu=4 semi.at_most=5000 \
  "sweep_dir=$sweep/methods" "$@"
