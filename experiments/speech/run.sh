#!/bin/sh
# Spoken commands by three seeds and two methods, and error rates of sentences before and after LoRA, on synthetic voices.
#   sh experiments/speech/run.sh [FOLDER]        (default: experiments/speech/out)
# Finished runs are found, not repeated; an interrupted one is resumed. On 2 idle cores about 25 minutes for the commands and
# 50 for the sentences: whisper_base costs about 5 seconds for a recording of 30, forward, and three times that to train.
set -e
out=${1:-experiments/speech/out}
make=examples/spoken_commands/make_recordings.py
mkdir -p "$out"
python $make commands "$out/commands"
python $make sentences "$out/sentences"
for seed in 0 1 2; do
  for peft in lora head; do
    rate=$([ $peft = head ] && echo "optimizer.lr=1e-2" || true)
    peftlab train +experiment=spoken_commands data.path="$out/commands" peft=$peft $rate seed=$seed \
      "logger=[csv]" trainer.precision=32-true run_dir="$out/runs/commands_${peft}_$seed"
  done
done
peftlab train +experiment=spoken_sentences data.path="$out/sentences" budget=zero_shot \
  "logger=[csv]" trainer.precision=32-true run_dir="$out/runs/sentences_zero_shot"
for seed in 0 1 2; do
  peftlab train +experiment=spoken_sentences data.path="$out/sentences" seed=$seed \
    "logger=[csv]" trainer.precision=32-true run_dir="$out/runs/sentences_lora_$seed"
done
peftlab report "$out"/runs/commands_* --out "$out/report_commands"
peftlab report "$out"/runs/sentences_* --out "$out/report_sentences"
