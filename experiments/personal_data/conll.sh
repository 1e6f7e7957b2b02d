#!/usr/bin/env bash
# What masking costs on CoNLL-2003: ner_lora on the data as it is, with patterns masked, and with names masked by a run of
# its own, as tags and as surrogates. Runs that are there are found again, so that it may be interrupted and repeated.
#
#     experiments/personal_data/conll.sh [FOLDER] [OVERRIDES...]      # such as budget=smoke to rehearse
set -euo pipefail
folder=${1:-conll_masked}
shift || true
common=(+experiment=ner_lora seed=0 trainer.precision=32-true "$@")

peftlab train "${common[@]}" run_dir="$folder/runs/plain"
peftlab train "${common[@]}" run_dir="$folder/runs/patterns" 'data.mask_pii={with: tag}'

source=$(python - "$folder/runs/plain" <<'PYTHON'
import sys
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.specs import ALLOWED_PREFIXES, build
config = RunFolder(RunRecord.load(sys.argv[1])).read_config(unused=("callbacks", "logger", "regularizer", "augment"))
print(build(config["data"]["source"], "", ALLOWED_PREFIXES).fetch().path)
PYTHON
)
[ -f "$folder/key" ] || peftlab mask --new-key "$folder/key"
for with in tag surrogate; do
    out=$folder/data/$with
    key=()
    [ $with = surrogate ] && key=(--key "$folder/key")
    if [ ! -f "$out/done" ]; then
        rm -rf "$out"
        for split in train valid test; do
            peftlab mask "$source/$split.txt" --format columns --out "$out/$split.txt" --names "$folder/runs/plain" \
                --names-types PER --with $with "${key[@]}" | tee "$out.$split.log"
        done
        touch "$out/done"
    fi
    peftlab train "${common[@]}" data=files data.path="$out" 'data.labels=[LOC,MISC,ORG,PER]' \
        'data.splits={train: train.txt, validation: valid.txt, test: test.txt}' run_dir="$folder/runs/names_$with"
done
peftlab report "$folder/runs" --out "$folder/report"
