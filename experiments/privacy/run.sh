#!/usr/bin/env bash
# The study of this folder: what privacy costs, and what attacks see of it. Run it again to resume.
#   experiments/privacy/run.sh [OVERRIDE...]
# REHEARSAL=1: into another folder, so that a small budget (budget.max_epochs=1) leaves the study alone; its table too.
# SEEDS="0 1 2". OUT: the folder of the runs. PYTHON: the interpreter.
# LoRA on the tweets with MiniLM at epsilon 8, at epsilon 1 and without privacy, seeds 0 to 2. Of 10,000 tweets, a coin
# says which half is trained on; the others are those that the audit tells them from.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export OMP_NUM_THREADS=1
python=${PYTHON:-.venv/bin/python}
out=${OUT:-runs/privacy}
results=$here
if [ -n "${REHEARSAL:-}" ]; then
  out=${OUT:-runs/privacy_rehearsal}
  results=$out
  mkdir -p "$out"
fi

for seed in ${SEEDS:-0 1 2}; do
  for epsilon in none 8 1; do
    private=(privacy=none)
    [ $epsilon = none ] || private=(privacy=dp "privacy.epsilon=$epsilon" privacy.delta=1e-5)
    run=$out/epsilon_$epsilon.seed_$seed
    "$python" -m train +experiment=sentiment_lora "logger=[csv]" "callbacks=[progress]" trainer.precision=32-true "seed=$seed" \
      budget.train_examples=10000 budget.half=0 budget.max_epochs=10 budget.validate_every=5 data.batch_size=256 \
      trainer.accumulate=4 "${private[@]}" "run_dir=$run" "$@"
    [ -f "$run/audit.json" ] || "$python" -m peftlab audit "$run"
  done
done
"$python" "$here/summarise.py" "$out" > "$results/results.md.new"
mv "$results/results.md.new" "$results/results.md"
