#!/bin/sh
# What a small T5 makes of titles of news before and after 30 steps of LoRA, three seeds; see titles.md.
set -e
run="peftlab train +experiment=titles_lora logger=[csv] callbacks=[] trainer.precision=32-true budget.train_examples=240 budget.eval_examples=48"
$run budget.max_steps=1 optimizer.lr=1e-9 name=titles_before
for seed in 0 1 2; do $run seed=$seed name=titles; done
