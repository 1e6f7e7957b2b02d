#!/usr/bin/env bash
# The study of this folder: whether explanations find a planted word, and are better than chance. Run it again to resume:
# a finished run is left alone, and so is a run that has a measurement beside it.
#   experiments/explanation/run.sh [key=value ...]
#   NER=sweeps/ner experiments/explanation/run.sh      # seeds of ner_lora that are there already
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
data=runs/explanation/data

[ -e "$data/test.csv" ] || .venv/bin/python experiments/explanation/planted.py write "$data"
.venv/bin/python -m train model=minilm task=classification data=csv "data.path=$data" peft=lora "logger=[csv]" trainer.precision=32-true \
  optimizer.lr=2e-3 budget.max_epochs=3 run_dir=runs/explanation/planted existing=skip "$@"
.venv/bin/python experiments/explanation/planted.py count runs/explanation/planted "$data"

sweep=${NER:-runs/explanation/ner}
[ -n "${NER:-}" ] || .venv/bin/python -m train -m +experiment=ner_lora seed=1,2,3 "logger=[csv]" trainer.precision=32-true optimizer.lr=1e-3 \
  budget.max_epochs=2 "hydra.sweep.dir=$sweep" existing=skip "$@"
.venv/bin/python -m train +experiment=sentiment_lora "logger=[csv]" trainer.precision=32-true optimizer.lr=1e-3 budget.train_examples=2000 \
  budget.eval_examples=1000 run_dir=runs/explanation/tweets existing=skip "$@"
ner=$(dirname "$(ls "$sweep"/*/record.json | head -1)")
[ -e "$ner/explanation.json" ] || .venv/bin/peftlab explain "$ner" --faithfulness --examples 200 --seeds
[ -e runs/explanation/tweets/explanation.json ] || .venv/bin/peftlab explain runs/explanation/tweets --faithfulness
