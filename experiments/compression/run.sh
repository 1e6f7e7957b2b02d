#!/usr/bin/env bash
# The study of this folder: ladders of smaller models. Run it again to resume: what is there is taken as it is.
#   experiments/compression/run.sh [SWEEP [RUN]]     # seeds of ner_lora, of which seed 0 is taken, and a run on tweets
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
out=runs/compression
python=${PYTHON:-.venv/bin/python}

# ladder TASK NAME RUN STEPS
ladder() {
  "$python" -m peftlab compress "$3" --steps "$4" --max-drop .01 --keep-going --threads 1 --out "$out/$1.$2"
}

for task in ner sentiment; do
  run=$out/$task
  if [ "$task" = ner ] && [ -n "${1:-}" ]; then
    run=$("$python" experiments/compression/of_seed.py "$1" 0)
  elif [ "$task" = sentiment ] && [ -n "${2:-}" ]; then
    run=$2
  else
    "$python" -m train "+experiment=${task}_lora" seed=0 "logger=[csv]" trainer.precision=32-true "run_dir=$run" existing=skip
  fi
  ladder $task file "$run" merge,onnx,int8
  ladder $task small "$run" merge,drop_layers=1,prune_heads=.2,prune_ffn=.3,distil=2,onnx,int8
  if [ $task = ner ]; then
    ladder $task products "$run" merge,int8=products
    ladder $task openvino "$run" merge,openvino
    ladder $task student "$run" drop_layers=3,distil=2
    "$python" experiments/compression/alone.py "$out/$task.student" 2
  fi
done
"$python" experiments/compression/summarise.py "$out" > experiments/compression/results.md
