#!/usr/bin/env bash
# The tests that need a GPU, then what only a GPU can show: all of it in less than ten minutes of one.
#
#   experiments/throughput/on_a_gpu.sh OUT [--carried FOLDER] [--seconds 570] [--only STEP,STEP,...] [--rehearse]
#
# OUT gets four files, which grow as the steps run, so that what has run is there whatever comes after:
# summary.txt (a line a step), results.txt (tests and tables), measurements.jsonl (a line a contender and round) and
# log.txt (everything else). Each step has a time limit of its own; one for which less than 20 s are left is left out,
# and so said. --carried is what gather.py made for a machine without a network, packed or not. --rehearse takes every
# step on the CPU, with a tiny model, and without limits.
set -uo pipefail
shopt -s nullglob

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${PYTHON:-python3}
out='' carried='' seconds=570 only='' rehearse=''
while (($#)); do
  case $1 in
    --carried) carried=$2 && shift ;;
    --seconds) seconds=$2 && shift ;;
    --only) only=$2 && shift ;;
    --rehearse) rehearse=1 ;;
    -*) echo "there is no option $1: see the head of ${BASH_SOURCE[0]}" >&2 && exit 2 ;;
    *) out=$1 ;;
  esac
  shift
done
if [[ -z $out ]]; then
  sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)
failed=0

say() { echo "$*" | tee -a "$out/summary.txt"; }

# step NAME SECONDS COMMAND...: run it within its limit and what is left of the whole
step() {
  local name=$1 limit=$2 left=$((seconds - SECONDS)) began=$SECONDS code=0
  shift 2
  [[ -n $only && ",$only," != *",$name,"* ]] && return
  if [[ -n $rehearse ]]; then
    limit=0 # no limit
  elif ((left < 20)); then
    say "$name: left out, $left s are left"
    failed=1
    return
  elif ((limit > left)); then
    limit=$left
  fi
  printf '\n=== %s\n' "$name" | tee -a "$out/results.txt" >>"$out/log.txt"
  timeout --kill-after=5 "$limit" "$@" >>"$out/results.txt" 2>>"$out/log.txt" </dev/null || code=$?
  case $code in
    0) say "$name: done in $((SECONDS - began)) s" ;;
    124 | 137) say "$name: STOPPED at its limit of $limit s" ;;
    *) say "$name: FAILED with $code after $((SECONDS - began)) s" ;;
  esac
  ((code)) && failed=1
}

measure() { # measure NAME SECONDS ARGUMENTS...
  local name=$1 limit=$2
  shift 2
  step "$name" "$limit" "$python" "$here/measure.py" --to "$out/measurements.jsonl" "$@"
}

# what a machine without a network lacks, beside its own packages
export PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
model=()
if [[ -n $carried ]]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  if [[ -f $carried ]]; then
    mkdir "$work/carried"
    tar xf "$carried" -C "$work/carried" --strip-components=1 || exit 1
    carried=$work/carried
  fi
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$work/site" \
    "$carried"/wheels/*.whl >>"$out/log.txt" 2>&1 || {
    say "what is carried cannot be installed: see log.txt"
    exit 1
  }
  cp -r "$carried/cache" "$work/cache"
  export PYTHONPATH=$work/site:$PYTHONPATH PEFTLAB_CACHE=$work/cache
  model=(--with model=folder --with "model.path=$(cd "$carried/model" && pwd)")
  say "environment made in $SECONDS s"
fi

if [[ -n $rehearse ]]; then
  device=cpu trainer=trainer-grouped workers=1 few=160 each=3600
  lora=(--texts tiny) full=(--texts tiny --method full) base=(--texts tiny --method full)
  packing=(--runs 2 --steps 4 --rounds 1 --size tiny trainer=cpu)
  attention=(--rows 2 --heads 2 --rounds 2 16)
  decoders=(--size tiny --batch 8 --steps 6) vocabulary=(--rows 1 --tokens 64 --vocabulary 512 --hidden 32)
else
  device=cuda trainer=trainer-grouped-bf16 workers=8 few=800 each=60
  lora=(--texts conll --examples 3200 "${model[@]}") full=(--texts conll --examples 3200 --method full "${model[@]}")
  base=(--texts base --examples 1280 --method full)
  packing=(--runs 16 --steps 40 --rounds 1 --size minilm trainer=gpu)
  attention=() decoders=() vocabulary=()
fi
common=(--device "$device" --epochs 2 --limit "$each")
eager="peftlab trainer.cuda_graphs=false"

cd "$root"
mapfile -t tests < <(grep -rl --include='test_*.py' 'mark\.gpu' tests)
step environment 60 "$python" "$here/peak.py" "$device"
step tests 180 "$python" -m pytest -m gpu -v -n "$workers" --dist worksteal -p no:cacheprovider -o faulthandler_timeout=100 "${tests[@]}"
measure kernels 90 "${common[@]}" "${lora[@]}" --examples "$few" --kernels peftlab "$eager" "$trainer"
measure lora 150 "${common[@]}" "${lora[@]}" --rounds 1 peftlab "$eager" "$trainer"
measure base 90 "${common[@]}" "${base[@]}" --rounds 1 peftlab "$trainer"
measure full 90 "${common[@]}" "${full[@]}" --rounds 1 peftlab "$trainer"
step packing 90 "$python" "$here/packing.py" "${packing[@]}"
step vocabulary 60 "$python" "$here/vocabulary.py" --device "$device" "${vocabulary[@]}"
step decoders 150 "$python" "$here/decoders.py" --device "$device" "${decoders[@]}"
step attention 40 "$python" "$here/attention.py" --device "$device" "${attention[@]}"
measure seeds 150 "${common[@]}" "${lora[@]}" --seed 1 --rounds 2 peftlab "$trainer"
say "$SECONDS s in all"
exit "$failed"
