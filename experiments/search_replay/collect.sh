#!/usr/bin/env bash
# The learning curves that replay.py replays: 108 short runs of ner_lora's recipe, about 40 minutes on two cores. The same
# command goes on where it was interrupted.
set -euo pipefail
python -m train -m +experiment=ner_lora name=search_replay "logger=[csv]" "callbacks=[progress]" trainer.precision=32-true \
  budget.train_examples=1000 budget.eval_examples=500 budget.max_epochs=2 budget.validate_every=0.3334 budget.test=false \
  peft=lora,bitfit,ia3 optimizer.lr=3e-5,1e-4,3e-4,1e-3,3e-3,1e-2 optimizer.weight_decay=0.0,0.1 \
  model.dropout=0.0,0.1,0.2 hydra.launcher.trials_at_once=2
python "$(dirname "$0")/curves.py" sweeps/search_replay > "$(dirname "$0")/curves.csv"
