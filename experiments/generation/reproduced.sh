#!/usr/bin/env bash
# Twenty examples of self-instruct, word for word: experiments/generation/reproduced.sh DATA [OVERRIDE ...]
# DATA is the folder of self-instruct's two files, see conf/data/self_instruct.yaml.
set -euo pipefail
data=$1
shift
python -m train task=causal_lm model=smollm2_135m data=self_instruct data.path="$data" peft=lora optimizer.lr=2e-3 \
  budget=overfit budget.overfit_batches=4 budget.max_steps=72 budget.validate_every=18 \
  data.batch_size=5 data.max_tokens=512 data.bucket_batches=1 data.eval_batch_size=20 \
  task.generate.max_new_tokens=400 trainer=cpu trainer.precision=32-true callbacks=[] logger=[csv] name=reproduced "$@"
